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


"""Reading disks in domain XML: where they are and what they lie on."""

from nova_snap.virt.libvirt import disk_xml
from nova_snap.virt.storage import disk_source as storage
from tests.unit import base
from tests.unit.virt.libvirt import samples

SECRET = 'f52a81b2-424e-490c-823d-6bd4235bc572'
ENCRYPTION = f"""
<encryption format='luks'>
  <secret type='passphrase' uuid='{SECRET}'/>
</encryption>"""

RBD = """
<source protocol='rbd' name='vms/6a6bdf3d_disk' index='1'>
  <host name='192.0.2.1' port='6790'/>
  <host name='2001:db8::2'/>
  <auth username='cinder'>
    <secret type='ceph' uuid='457eb676-33da-42ec-9a8c-9293d545c337'/>
  </auth>
  <config file='/etc/ceph/other.conf'/>
</source>"""


class DiskTestCase(base.TestCase):
    """Disks as they stand in the definition of a guest."""

    def disk(self, *disks: str) -> disk_xml.Disk:
        """Return the first disk of a guest with these disks."""
        return disk_xml.disks(samples.domain(*disks))[0]

    def source(self, *disks: str) -> storage.DiskSource:
        """Return where the data of the first disk is."""
        return self.disk(*disks).source

    def reason_of(self, *disks: str) -> str:
        """Return why the first disk can't be read."""
        error = self.assertRaises(disk_xml.Unsupported, self.source, *disks)
        return str(error)


class DisksTest(DiskTestCase):
    """All disks of a guest, and what is known of each."""

    def test_every_kind_in_the_order_of_the_definition(self) -> None:
        xml = samples.domain(
            samples.CDROM,
            samples.FLOPPY,
            samples.raw_disk(device='vdb'),
            samples.disk(device='vda').replace("'disk'", "'lun'"),
        )
        self.assertEqual(
            [('sda', 'cdrom'), ('fda', 'floppy')]
            + [('vdb', 'disk'), ('vda', 'lun')],
            [(disk.device, disk.kind) for disk in disk_xml.disks(xml)],
        )

    def test_none(self) -> None:
        self.assertEqual((), disk_xml.disks(samples.domain()))

    def test_disk_is_the_default_of_device(self) -> None:
        xml = samples.raw_disk().replace(" device='disk'", '')
        self.assertEqual('disk', self.disk(xml).kind)

    def test_what_is_said_of_a_disk(self) -> None:
        inside = """
            <serial> WD-1234 </serial><boot order='2'/>
            <readonly/><shareable/><transient/>"""
        disk = self.disk(samples.disk(inside=inside))
        self.assertEqual(
            ('vda', 'virtio', 'file', 'qcow2', 'WD-1234', 2),
            (disk.device, disk.bus, disk.type, disk.format)
            + (disk.serial, disk.boot_order),
        )
        self.assertTrue(disk.is_readonly)
        self.assertTrue(disk.is_shareable)
        self.assertTrue(disk.is_transient)

    def test_what_is_not_said_of_a_disk(self) -> None:
        disk = self.disk("<disk type='file'/>")
        self.assertEqual(
            ('', '', '', ''),
            (disk.device, disk.bus, disk.format, disk.serial),
        )
        self.assertIsNone(disk.boot_order)
        self.assertFalse(disk.is_readonly)
        self.assertFalse(disk.is_shareable)
        self.assertFalse(disk.is_transient)

    def test_one_that_can_not_be_read_hides_no_other(self) -> None:
        disks = disk_xml.disks(
            samples.domain(samples.EMPTY_CDROM, samples.raw_disk('/srv/a'))
        )
        self.assertEqual(['hdc', 'vda'], [disk.device for disk in disks])
        self.assertIsNone(disks[0].readable)
        self.assertNotEqual('', disks[0].problem)
        self.assertEqual('/srv/a', disks[1].source.location)

    UUID = '2f0c3bd5-1b7a-4f4e-9d0e-52f6a7f2f2a9'

    def volume_id(self, serial: str, metadata: str = '') -> str | None:
        inside = f'<serial>{serial}</serial>'
        xml = samples.domain(samples.disk(inside=inside), metadata=metadata)
        return disk_xml.disks(xml)[0].volume_id

    def test_volumes_of_guests_of_nova(self) -> None:
        metadata = samples.NOVA.format(version='1.1')
        self.assertEqual(self.UUID, self.volume_id(self.UUID, metadata))
        for serial in ('', 'QM00001', 'WD-1234'):
            self.assertIsNone(self.volume_id(serial, metadata))

    def test_volumes_of_other_guests(self) -> None:
        self.assertIsNone(self.volume_id(self.UUID))
        serial = f'<serial>{self.UUID}</serial>'
        for kind, source in (
            ('file', f"<source file='/mnt/nfs/volume-{self.UUID}'/>"),
            ('block', f"<source dev='/dev/vg/volume-{self.UUID}'/>"),
            ('network', "<source protocol='rbd' name='volumes/any'/>"),
            ('network', "<source protocol='iscsi' name='iqn.2026-01.a:b/1'/>"),
        ):
            disk = self.disk(samples.disk(source, kind, inside=serial))
            self.assertEqual(self.UUID, disk.volume_id)

    def test_volume_of_a_storage_pool(self) -> None:
        xml = samples.domain(
            samples.disk("<source pool='p' volume='v'/>", 'volume')
        )
        asked = []

        def find(volume: disk_xml.Volume) -> tuple[str, str]:
            asked.append(volume)
            return 'block', '/dev/p/v'

        (disk,) = disk_xml.disks(xml, find)
        self.assertEqual([disk_xml.Volume('p', 'v')], asked)
        self.assertEqual('/dev/p/v', disk.source.location)
        self.assertEqual('block', disk.source.type)
        (disk,) = disk_xml.disks(xml)
        self.assertRaises(disk_xml.Unsupported, lambda: disk.source)


class IothreadTest(DiskTestCase):
    """A thread of QEMU for the disk, or for its controller."""

    DISK = """
<disk type='file' device='disk'>
  <driver name='qemu' type='raw' {driver}
  <source file='/srv/disk'/>
  <target dev='sda' bus='{bus}'/>
</disk>"""

    def has_iothread(self, driver: str, bus: str, *devices: str) -> bool:
        disk = self.DISK.format(driver=driver, bus=bus)
        return self.disk(disk, *devices).has_iothread

    def test_of_the_disk(self) -> None:
        self.assertTrue(self.has_iothread("iothread='1'/>", 'virtio'))
        self.assertFalse(self.has_iothread('/>', 'virtio'))

    def test_several_of_the_disk(self) -> None:
        driver = "><iothreads><iothread id='1'/></iothreads></driver>"
        self.assertTrue(self.has_iothread(driver, 'virtio'))

    def test_of_the_controller(self) -> None:
        controller = (
            "<controller type='scsi'><driver iothread='1'/></controller>"
        )
        self.assertTrue(self.has_iothread('/>', 'scsi', controller))
        self.assertFalse(self.has_iothread('/>', 'virtio', controller))


class ChainTest(DiskTestCase):
    """The layers below it."""

    def locations(self, source: storage.DiskSource) -> list[tuple[str, str]]:
        """Location and format of each layer, from the top."""
        found = []
        layer: storage.DiskSource | None = source
        while layer is not None:
            found.append((layer.describe(), layer.format))
            layer = layer.backing
        return found

    def test_overlay_alone(self) -> None:
        source = self.source(samples.disk(inside='<backingStore/>'))
        self.assertEqual([(samples.OVERLAY, 'qcow2')], self.locations(source))
        self.assertTrue(source.is_chain_known)
        self.assertIs(storage.SourceType.QCOW2, source.source_type)

    def test_overlay_on_a_raw_base(self) -> None:
        source = self.source(
            samples.disk(inside=samples.backing(samples.BASE, 'raw'))
        )
        self.assertEqual(
            [(samples.OVERLAY, 'qcow2'), (samples.BASE, 'raw')],
            self.locations(source),
        )
        self.assertTrue(source.is_chain_known)

    def test_three_layers(self) -> None:
        below = samples.backing(
            '/srv/middle', 'qcow2', samples.backing(samples.BASE, 'raw')
        )
        source = self.source(samples.disk(inside=below))
        self.assertEqual(
            [
                (samples.OVERLAY, 'qcow2'),
                ('/srv/middle', 'qcow2'),
                (samples.BASE, 'raw'),
            ],
            self.locations(source),
        )
        self.assertTrue(source.is_chain_known)

    def test_chain_of_a_guest_that_is_shut_off_is_not_known(self) -> None:
        source = self.source(samples.disk())
        self.assertFalse(source.is_chain_known)
        self.assertIsNone(source.backing)

    def test_chain_that_stops_being_told(self) -> None:
        below = samples.backing('/srv/middle', 'qcow2', below='')
        source = self.source(samples.disk(inside=below))
        self.assertFalse(source.is_chain_known)

    def test_raw_base_ends_a_chain_whatever_is_said(self) -> None:
        below = samples.backing(samples.BASE, 'raw', below='')
        source = self.source(samples.disk(inside=below))
        self.assertTrue(source.is_chain_known)

    def test_raw_disk_has_nothing_below_it(self) -> None:
        for inside in ('<backingStore/>', ''):
            source = self.source(
                samples.disk(
                    driver="<driver name='qemu' type='raw'/>", inside=inside
                )
            )
            self.assertTrue(source.is_chain_known)
            self.assertIsNone(source.backing)
            self.assertIs(storage.SourceType.RAW, source.source_type)

    def test_data_store(self) -> None:
        """As in libvirt 10.10."""
        source = self.source(
            samples.disk(
                f"<source file='{samples.OVERLAY}'><dataStore type='block'>"
                "<format type='raw'/><source dev='/dev/vg/data'/>"
                '</dataStore></source>'
            )
        )
        data = storage.DiskSource('block', 'raw', '/dev/vg/data')
        self.assertEqual(data, source.data_store)

    def test_mirror_is_not_taken_for_a_layer(self) -> None:
        mirror = samples.backing('/tmp/x', 'raw').replace(
            'backingStore', 'mirror'
        )
        source = self.source(samples.disk(inside='<backingStore/>' + mirror))
        self.assertEqual([(samples.OVERLAY, 'qcow2')], self.locations(source))


class PlaceTest(DiskTestCase):
    """Where the bytes are."""

    def rbd(self, source: str = RBD) -> str:
        """Return a disk in Ceph."""
        return samples.disk(
            source, 'network', "<driver name='qemu' type='raw'/>"
        )

    def test_block_device(self) -> None:
        source = self.source(
            samples.disk(
                "<source dev='/dev/vg0/6a6bdf3d_disk' index='1'/>",
                'block',
                "<driver name='qemu' type='raw' io='native'/>",
                '<backingStore/>',
            )
        )
        self.assertEqual('/dev/vg0/6a6bdf3d_disk', source.location)
        self.assertIs(storage.SourceType.LVM, source.source_type)

    def test_overlay_on_a_block_device(self) -> None:
        source = self.source(
            samples.disk(
                inside="""
                <backingStore type='block' index='2'>
                  <format type='raw'/>
                  <source dev='/dev/vg0/base'/>
                  <backingStore/>
                </backingStore>"""
            )
        )
        assert source.backing is not None
        self.assertEqual('block', source.backing.type)
        self.assertEqual('/dev/vg0/base', source.backing.location)

    def test_rbd(self) -> None:
        source = self.source(self.rbd())
        self.assertEqual(
            storage.RbdLocation(
                pool='vms',
                image='6a6bdf3d_disk',
                hosts=(('192.0.2.1', '6790'), ('2001:db8::2', '6789')),
                user='cinder',
                conf='/etc/ceph/other.conf',
                secret='457eb676-33da-42ec-9a8c-9293d545c337',
            ),
            source.location,
        )
        self.assertIs(storage.SourceType.RBD, source.source_type)
        self.assertTrue(source.is_chain_known)

    def test_rbd_with_the_user_where_nova_has_it(self) -> None:
        start = RBD.index('<auth')
        end = RBD.index('</auth>') + len('</auth>')
        beside = RBD[start:end] + RBD[:start] + RBD[end:]
        self.assertEqual(
            self.source(self.rbd()), self.source(self.rbd(beside))
        )

    def test_rbd_with_nothing_but_a_name(self) -> None:
        source = self.source(
            self.rbd("<source protocol='rbd' name='vms/a/b'/>")
        )
        self.assertEqual(storage.RbdLocation('vms', 'a/b'), source.location)

    def test_rbd_without_a_pool_or_an_image(self) -> None:
        for name in ('vms', 'vms/', '/a', ''):
            source = f"<source protocol='rbd' name='{name}'/>"
            self.assertIn('POOL/IMAGE', self.reason_of(self.rbd(source)))

    def test_other_protocols(self) -> None:
        source = "<source protocol='iscsi' name='iqn.2026-01.org:a/1'/>"
        self.assertIn("'iscsi'", self.reason_of(self.rbd(source)))

    def test_other_types(self) -> None:
        for kind, attribute in (
            ('volume', "pool='p' volume='v'"),
            ('dir', "dir='/srv'"),
            ('nvme', "type='pci'"),
        ):
            xml = samples.disk(f'<source {attribute}/>', kind)
            self.assertIn(repr(kind), self.reason_of(xml))

    def test_source_without_a_path(self) -> None:
        self.reason_of(samples.disk('<source/>'))
        self.reason_of(samples.disk('<source/>', 'block'))

    def test_no_source(self) -> None:
        self.assertIn('no source', self.reason_of(samples.disk('')))


class FormatTest(DiskTestCase):
    """Formats come from libvirt, or it is refused."""

    def test_driver_without_a_type(self) -> None:
        for driver in ("<driver name='qemu'/>", ''):
            text = self.reason_of(samples.disk(driver=driver))
            self.assertIn('what format', text)

    def test_backing_file_without_a_format(self) -> None:
        below = samples.backing(samples.BASE, 'raw').replace(
            "<format type='raw'/>", ''
        )
        self.assertIn(
            'what format', self.reason_of(samples.disk(inside=below))
        )


class EncryptionTest(DiskTestCase):
    """Encrypted disks, the two ways that libvirt has of saying so."""

    def check(self, source: storage.DiskSource) -> None:
        """Check that a disk is encrypted with the secret."""
        self.assertTrue(source.is_encrypted)
        self.assertEqual(SECRET, source.encryption_secret)

    def test_said_of_the_source(self) -> None:
        inside = f"<source file='/srv/a'>{ENCRYPTION}</source>"
        self.check(self.source(samples.disk(inside)))

    def test_said_of_the_disk(self) -> None:
        self.check(
            self.source(samples.disk(inside='<backingStore/>' + ENCRYPTION))
        )

    def test_without_a_secret(self) -> None:
        source = self.source(
            samples.disk(inside="<encryption format='luks'/>")
        )
        self.assertTrue(source.is_encrypted)

    def test_base_that_is_encrypted(self) -> None:
        below = samples.backing(samples.BASE, 'raw').replace(
            f"<source file='{samples.BASE}'/>",
            f"<source file='{samples.BASE}'>{ENCRYPTION}</source>",
        )
        source = self.source(samples.disk(inside=below))
        self.assertTrue(source.is_encrypted)
        self.assertIsNone(source.encryption_secret)

    def test_plain(self) -> None:
        self.assertFalse(self.source(samples.raw_disk()).is_encrypted)


class MirrorTest(base.TestCase):
    """A copy of a disk that is under way."""

    def mirror(self, ready: str, device: str = 'vda') -> object:
        """Return the mirror of a disk while vda is being copied."""
        element = f"""
        <mirror type='file' file='/srv/s/a.delta' format='qcow2' job='copy'{
            ready
        }>
          <format type='qcow2'/>
          <source file='/srv/s/a.delta' index='3'/>
        </mirror>"""
        xml = samples.domain(
            samples.CDROM,
            samples.disk(inside='<backingStore/>' + element),
            samples.raw_disk(device='vdb'),
        )
        return disk_xml.mirror(xml, device)

    def test_not_ready(self) -> None:
        for ready in ('', " ready='abort'", " ready='no'"):
            self.assertEqual(
                disk_xml.Mirror('/srv/s/a.delta', is_ready=False),
                self.mirror(ready),
            )

    def test_ready(self) -> None:
        self.assertEqual(
            disk_xml.Mirror('/srv/s/a.delta', is_ready=True),
            self.mirror(" ready='yes'"),
        )

    def test_of_another_disk(self) -> None:
        self.assertIsNone(self.mirror(" ready='yes'", 'vdb'))

    def test_none(self) -> None:
        xml = samples.domain(samples.raw_disk())
        self.assertIsNone(disk_xml.mirror(xml, 'vda'))
