# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""Which of a guest's disks is its root disk, and why."""

from nova_snap.virt.libvirt import disk_xml
from nova_snap.virt.libvirt import root_disk
from tests.unit import base
from tests.unit.virt.libvirt import samples


class ChoiceTest(base.TestCase):
    """The disk of which an image is made, or why there is none."""

    def choice(self, *disks: str) -> root_disk.Choice:
        """Return the choice among the disks of a guest."""
        return root_disk.choose(disk_xml.disks(samples.domain(*disks)))

    def root_disk(self, *disks: str) -> disk_xml.Disk:
        """Return the root disk among these."""
        return self.choice(*disks).disk

    def reason_of(self, *disks: str) -> str:
        """Return why there is no root disk."""
        error = self.assertRaises(disk_xml.Unsupported, self.choice, *disks)
        return str(error)

    def test_first_disk(self) -> None:
        disk = self.root_disk(
            samples.raw_disk('/srv/a', 'vda'),
            samples.raw_disk('/srv/b', 'vdb'),
        )
        self.assertEqual('vda', disk.device)
        self.assertEqual('/srv/a', disk.source.location)

    def test_by_its_place_and_not_by_its_name(self) -> None:
        disk = self.root_disk(
            samples.raw_disk('/srv/b', 'vdb'),
            samples.raw_disk('/srv/a', 'hda'),
        )
        self.assertEqual('vdb', disk.device)

    def test_cdrom_and_floppy_are_not_disks(self) -> None:
        disk = self.root_disk(
            samples.CDROM,
            samples.EMPTY_CDROM,
            samples.FLOPPY,
            samples.raw_disk('/srv/a', 'sdb'),
        )
        self.assertEqual('sdb', disk.device)

    def test_says_why(self) -> None:
        only = self.choice(samples.CDROM, samples.raw_disk()).reason
        self.assertIn('only disk', only)
        two = self.choice(samples.disk(), samples.raw_disk(device='vdb'))
        self.assertIn('first disk', two.reason)

    def test_boot_order(self) -> None:
        third = samples.disk(inside="<boot order='3'/>", device='vdb')
        first = samples.disk(inside="<boot order='1'/>", device='vdc')
        choice = self.choice(samples.disk(), third, first)
        self.assertEqual('vdc', choice.disk.device)
        self.assertIn('boot order', choice.reason)

    def test_named_disk(self) -> None:
        first = samples.disk(inside="<boot order='1'/>", device='vda')
        disks = disk_xml.disks(
            samples.domain(samples.CDROM, first, samples.raw_disk('/b', 'vdb'))
        )
        choice = root_disk.choose(disks, 'vdb')
        self.assertEqual('vdb', choice.disk.device)
        self.assertIn('names it', choice.reason)
        for name, says in (
            ('vdc', 'no disk vdc; it has vda, vdb'),
            (disks[0].device, 'removable media (cdrom)'),
        ):
            error = self.assertRaises(
                disk_xml.Unsupported, root_disk.choose, disks, name
            )
            self.assertIn(says, str(error))

    def test_disks_that_could_be_named_are_offered(self) -> None:
        text = self.reason_of(
            samples.disk(''),
            samples.disk("<source dir='/srv'/>", 'dir', device='vdb'),
            samples.raw_disk(device='vdc'),
        )
        self.assertIn('--disk', text)
        self.assertTrue(text.endswith(' vdc.'), text)
        self.assertNotIn('--disk', self.reason_of(samples.disk('')))

    def test_lun_is_not_passed_over(self) -> None:
        lun = samples.disk().replace("device='disk'", "device='lun'")
        self.assertIn('LUN', self.reason_of(lun, samples.raw_disk('b', 'vdb')))

    def test_slice(self) -> None:
        sliced = (
            "<source file='/srv/a'><slices>"
            "<slice type='storage' offset='512' size='1024'/>"
            '</slices></source>'
        )
        self.assertIn('slice', self.reason_of(samples.disk(sliced)))

    def test_other_disks_need_not_be_readable(self) -> None:
        strange = samples.disk("<source dir='/srv'/>", 'dir', device='vdb')
        self.assertEqual(
            'vda', self.root_disk(samples.raw_disk(), strange).device
        )

    def test_first_disk_that_can_not_be_read(self) -> None:
        text = self.reason_of(samples.disk(''), samples.raw_disk(device='vdb'))
        self.assertIn('vda', text)
        self.assertIn('no source', text)

    def test_formats(self) -> None:
        driver = "<driver name='qemu' type='vmdk'/>"
        text = self.reason_of(samples.disk(driver=driver))
        self.assertIn("'vmdk'", text)
        self.assertIn('qcow2 and raw', text)

    def test_none(self) -> None:
        self.assertIn('no disk', self.reason_of())
        self.assertIn('no disk', self.reason_of(samples.CDROM, samples.FLOPPY))


class HardDisksTest(base.TestCase):
    """The order in which a guest's disks are told to the rest."""

    def test_in_their_order_and_without_drives(self) -> None:
        disks = disk_xml.disks(
            samples.domain(
                samples.CDROM,
                samples.FLOPPY,
                samples.raw_disk(device='vdb'),
                samples.disk().replace("device='disk'", "device='lun'"),
            )
        )
        self.assertEqual(
            [('vdb', 'disk'), ('vda', 'lun')],
            [(d.device, d.kind) for d in root_disk.hard_disks(disks)],
        )
