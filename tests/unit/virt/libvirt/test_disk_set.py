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

"""Which disks of a guest are read at one moment, and what is refused."""

from nova_snap.objects import instance as instance_lib
from nova_snap.virt.libvirt import disk_set
from nova_snap.virt.libvirt import disk_xml
from tests.unit import base
from tests.unit.virt.libvirt import samples

EVERY = instance_lib.DiskChoice(is_every=True)

NETWORK = """<disk type='network' device='disk'>
  <driver name='qemu' type='raw'/>
  <source protocol='iscsi' name='iqn/1'><host name='san'/></source>
  <target dev='{device}' bus='virtio'/>
</disk>"""


def named(*devices: str) -> instance_lib.DiskChoice:
    """Return the choice of disks by their names."""
    return instance_lib.DiskChoice(named=devices)


class DiskSetTest(base.TestCase):
    """The disks of a request, by the XML of a guest."""

    ROOT = samples.raw_disk('/srv/a', 'vda')
    DATA = samples.raw_disk('/srv/b', 'vdb')

    def choose(
        self, choice: instance_lib.DiskChoice, *disks: str
    ) -> disk_set.DiskSet:
        return disk_set.choose(
            disk_xml.disks(samples.domain(self.ROOT, *disks)), choice
        )

    def devices(
        self, choice: instance_lib.DiskChoice, *disks: str
    ) -> list[str]:
        """Return the names of the chosen disks, the root disk first."""
        return [disk.device for disk in self.choose(choice, *disks).disks]

    def left_out(
        self, choice: instance_lib.DiskChoice, *disks: str
    ) -> dict[str, str]:
        """Return why disks are left out, by their names."""
        found = self.choose(choice, *disks)
        return {left.disk.device: left.reason for left in found.left_out}

    def why_refused(self, choice: instance_lib.DiskChoice, *disks: str) -> str:
        return str(
            self.assertRaises(
                disk_xml.Unsupported, self.choose, choice, *disks
            )
        )

    def test_root_disk_alone(self) -> None:
        for choice in (instance_lib.DiskChoice(), named('vda')):
            found = self.choose(choice, self.DATA, samples.CDROM)
            self.assertEqual(['vda'], [d.device for d in found.disks])
            self.assertEqual((), found.left_out)

    def test_one_that_could_not_be_read_hinders_only_if_it_is_meant(
        self,
    ) -> None:
        bad = NETWORK.format(device='vdb')
        self.assertEqual(['vda'], self.devices(named('vda'), bad))
        self.assertIn('iscsi', self.why_refused(named('vda', 'vdb'), bad))

    def test_named_in_their_order(self) -> None:
        third = samples.raw_disk('/srv/c', 'vdc')
        choice = named('vdc', 'vda')
        self.assertEqual(
            ['vdc', 'vda'], self.devices(choice, self.DATA, third)
        )
        self.assertEqual(
            {'vdb': 'the request does not name it'},
            self.left_out(choice, self.DATA, third),
        )

    def test_named_twice_is_taken_once(self) -> None:
        for devices in (('vda', 'vda', 'vdb'), ('vda', 'vdb', 'vda', 'vdb')):
            self.assertEqual(
                ['vda', 'vdb'], self.devices(named(*devices), self.DATA)
            )
        self.assertEqual(['vdb'], self.devices(named('vdb', 'vdb'), self.DATA))

    def test_no_such_disk(self) -> None:
        for devices in (('vdz',), ('vda', 'vdz')):
            self.assertEqual(
                'it has no disk vdz; it has vda, vdb.',
                self.why_refused(named(*devices), self.DATA),
            )

    def test_drive_by_name(self) -> None:
        for drive, device, kind in (
            (samples.CDROM, 'sda', 'cdrom'),
            (samples.EMPTY_CDROM, 'hdc', 'cdrom'),
            (samples.FLOPPY, 'fda', 'floppy'),
        ):
            why = self.why_refused(named('vda', device), drive)
            self.assertIn(f'{device} is a drive', why)
            self.assertIn(kind, why)
            self.assertIn('its disks are vda.', why)

    def test_every_disk(self) -> None:
        read_only = samples.disk(inside='<readonly/>', device='vdc')
        disks = (
            *(samples.CDROM, samples.EMPTY_CDROM, samples.FLOPPY),
            *(self.DATA, read_only),
        )
        self.assertEqual(['vda', 'vdb'], self.devices(EVERY, *disks))
        left_out = self.left_out(EVERY, *disks)
        self.assertEqual({'sda', 'hdc', 'fda', 'vdc'}, set(left_out))
        self.assertIn('removable', left_out['fda'])
        self.assertIn('read-only', left_out['vdc'])

    def test_every_disk_with_another_root_disk(self) -> None:
        choice = instance_lib.DiskChoice(named=('vdb',), is_every=True)
        self.assertEqual(['vdb', 'vda'], self.devices(choice, self.DATA))

    def test_read_only_disk_that_is_named(self) -> None:
        read_only = samples.disk(inside='<readonly/>', device='vdb')
        self.assertEqual(
            ['vda', 'vdb'], self.devices(named('vda', 'vdb'), read_only)
        )

    def test_read_only_disk_that_could_not_be_read(self) -> None:
        bad = NETWORK.format(device='vdb').replace(
            '</disk>', '<readonly/></disk>'
        )
        self.assertEqual(['vda'], self.devices(EVERY, bad))

    def test_every_problem_is_named_at_once(self) -> None:
        shared = samples.disk(inside='<shareable/>', device='vdc')
        lun = samples.raw_disk('/dev/sdb', 'sda').replace(
            "device='disk'", "device='lun'"
        )
        odd = samples.disk(device='vde').replace("'qcow2'", "'vdi'")
        why = self.why_refused(
            EVERY, self.DATA, shared, lun, NETWORK.format(device='vdd'), odd
        )
        for words in (
            'vdc (<shareable/>)',
            'sda is a LUN',
            "vdd cannot be read: it is reached by 'iscsi'",
            "vde has the format 'vdi'",
        ):
            self.assertIn(words, why)
        self.assertTrue(why.endswith('name them: --disk vda --disk vdb.'))

    def test_shareable_disk_that_is_named(self) -> None:
        shared = samples.disk(inside='<shareable/>', device='vdb')
        for choice in (
            named('vda', 'vdb'),
            instance_lib.DiskChoice(named=('vda', 'vdb'), is_every=True),
        ):
            self.assertEqual(['vda', 'vdb'], self.devices(choice, shared))

    def test_two_disks_of_one_file(self) -> None:
        again = samples.raw_disk('/srv/a', 'vdb')
        third = samples.raw_disk('/srv/c', 'vdc')
        for choice in (EVERY, named('vda', 'vdb', 'vdc')):
            why = self.why_refused(choice, again, third)
            self.assertIn('disks vda and vdb are the same: /srv/a.', why)
            self.assertIn('name them: --disk vda --disk vdc.', why)
        self.assertEqual(['vda'], self.devices(named('vda'), again))
