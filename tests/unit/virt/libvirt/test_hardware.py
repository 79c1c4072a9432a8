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

from nova_snap.virt.libvirt import hardware
from tests.unit import base
from tests.unit.virt.libvirt import samples

MACHINE = "machine='pc-i440fx-7.2'"
BOOT = "<boot dev='hd'/>"
VIF = "<model type='virtio'/>"


class ImagePropertiesTest(base.TestCase):
    """The hardware of a guest, as Nova would be asked for it."""

    def properties(
        self, *changes: tuple[str, str], disk: str = '', devices: str = ''
    ) -> dict[str, str]:
        """Return them for a guest whose XML differs in some places."""
        xml = samples.domain(disk or samples.disk(), devices=devices)
        for old, new in changes:
            self.assertIn(old, xml)
            xml = xml.replace(old, new)
        return hardware.image_properties(xml, 'vda')

    def test_of_a_usual_guest(self) -> None:
        self.assertEqual(
            {
                'architecture': 'x86_64',
                'hw_machine_type': 'pc',
                'hw_disk_bus': 'virtio',
                'hw_vif_model': 'virtio',
            },
            self.properties(),
        )

    def test_machine_types(self) -> None:
        for name, expected in (
            ('pc-q35-7.2', 'q35'),
            ('pc-q35-rhel9.2.0', 'q35'),
            ('q35', 'q35'),
            ('pc', 'pc'),
            ('virt-9.0', 'virt'),
            ('s390-ccw-virtio-7.2', 's390-ccw-virtio'),
            ('microvm', None),
            ('pcspk', None),
        ):
            found = self.properties((MACHINE, f"machine='{name}'"))
            self.assertEqual(expected, found.get('hw_machine_type'), name)

    def test_uefi(self) -> None:
        loader = "<loader readonly='yes' type='{}'>/srv/OVMF.fd</loader>"
        flash = self.properties((BOOT, loader.format('pflash')))
        self.assertEqual('uefi', flash['hw_firmware_type'])
        chosen = self.properties(('<os>', "<os firmware='efi'>"))
        self.assertEqual('uefi', chosen['hw_firmware_type'])
        rom = self.properties((BOOT, loader.format('rom')))
        self.assertNotIn('hw_firmware_type', rom)

    def test_scsi_controller_of_the_disk(self) -> None:
        disk = samples.disk(
            inside="<address type='drive' controller='1' bus='0'/>"
        )
        controllers = (
            "<controller type='scsi' index='0' model='lsilogic'/>"
            "<controller type='scsi' index='1' model='{}'/>"
        )
        for model, expected in (
            ('virtio-scsi', 'virtio-scsi'),
            ('virtio-non-transitional', 'virtio-scsi'),
            ('lsisas1068', 'lsisas1068'),
            ('ncr53c90', None),
        ):
            found = self.properties(
                ("bus='virtio'", "bus='scsi'"),
                disk=disk,
                devices=controllers.format(model),
            )
            self.assertEqual('scsi', found['hw_disk_bus'])
            self.assertEqual(expected, found.get('hw_scsi_model'))

    def test_interfaces(self) -> None:
        for model, expected in (
            ('e1000e', 'e1000e'),
            ('virtio-transitional', 'virtio'),
            ('usb-net', None),
        ):
            found = self.properties((VIF, f"<model type='{model}'/>"))
            self.assertEqual(expected, found.get('hw_vif_model'))
