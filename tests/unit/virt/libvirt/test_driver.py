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

"""The driver's answers on the disks of a guest."""

import contextlib

from nova_snap import exception
from nova_snap.objects import instance as instance_lib
from nova_snap.virt.libvirt import driver
from nova_snap.virt.libvirt import plan
from tests.unit.virt.libvirt import base
from tests.unit.virt.libvirt import fake_libvirt
from tests.unit.virt.libvirt import samples

VOLUME = '2f0c3bd5-1b7a-4f4e-9d0e-52f6a7f2f2a9'
INSTANCE = instance_lib.Instance(samples.UUID, samples.NAME)


class BlockDevicesTest(base.GuestTestCase):
    """Hard disks, and which of them are volumes of Cinder."""

    def driver(self, *disks: str) -> driver.LibvirtDriver:
        """Return the driver of a host with a guest that has these disks."""
        guest = self.use(fake_libvirt.Domain('\n'.join(disks)))
        return driver.LibvirtDriver(
            guest.host,
            plan.Options(self.folder()),
            lambda _progress: contextlib.nullcontext(),
        )

    def test_in_their_order_and_without_drives(self) -> None:
        volume = (
            "<disk type='network' device='lun'>"
            "<source protocol='rbd' name='volumes/volume-1'/>"
            "<target dev='sdb' bus='scsi'/>"
            f'<serial>{VOLUME}</serial></disk>'
        )
        self.assertEqual(
            (
                instance_lib.BlockDevice('vda', 'virtio', 'disk', None, True),
                instance_lib.BlockDevice('sdb', 'scsi', 'lun', VOLUME, False),
            ),
            self.driver(
                samples.CDROM, samples.raw_disk(), volume
            ).block_devices(INSTANCE),
        )

    def test_guest_without_a_root_disk(self) -> None:
        error = self.assertRaises(
            exception.UnsupportedGuest,
            self.driver(samples.CDROM).explain,
            INSTANCE,
        )
        self.assertIn('it has no disk', str(error))
