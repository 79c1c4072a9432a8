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

"""Image properties for a guest's hardware, as Nova reads them."""

from nova import objects
from nova.objects import fields
from nova.virt.libvirt import blockinfo
from nova.virt.libvirt import vif

from nova_snap.virt.libvirt import hardware
from tests.nova import base
from tests.unit.virt.libvirt import samples


class HardwareTest(base.NovaTestCase):
    """Nova takes an unknown value for an error, and boots nothing."""

    def test_all_properties_are_read(self) -> None:
        xml = samples.domain(
            samples.disk().replace("bus='virtio'", "bus='scsi'"),
            devices="<controller type='scsi' index='0' model='virtio-scsi'/>",
        ).replace('<os>', "<os firmware='efi'>")
        given = hardware.image_properties(xml, 'vda')
        meta = objects.ImageMeta.from_dict({'properties': given})
        read = {
            key: meta.properties.get(key.replace('arch', 'hw_arch'))
            for key in given
        }
        self.assertEqual(given, read)
        self.assertLessEqual(
            {'hw_firmware_type', 'hw_machine_type', 'hw_scsi_model'},
            set(given),
        )

    def test_all_values_are_accepted(self) -> None:
        for model in hardware._VIF_MODELS:
            self.assertTrue(
                vif.is_vif_model_valid_for_virt('qemu', model), model
            )
        self.assertLessEqual(
            set(hardware._ARCHITECTURES), set(fields.Architecture.ALL)
        )
        for bus in hardware._DISK_BUSES:
            self.assertTrue(
                blockinfo.is_disk_bus_valid_for_virt('qemu', bus), bus
            )
        self.assertLessEqual(
            set(hardware._SCSI_MODELS), set(fields.SCSIModel.ALL)
        )
