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

"""Volumes of Cinder among the disks that are chosen."""

import uuid

from nova_snap.objects import instance as instance_lib
from nova_snap.virt.libvirt import disk_set
from nova_snap.virt.libvirt import disk_xml
from tests.unit import base
from tests.unit.virt.libvirt import samples

ONE, TWO = str(uuid.uuid4()), str(uuid.uuid4())

LOCAL = samples.raw_disk('/srv/a', 'vda')
DATA = samples.raw_disk('/srv/b', 'vdb')

ALL = instance_lib.DiskChoice(is_every=True)


def volume(device: str, volume_id: str = ONE, inside: str = '') -> str:
    """Return a volume that only QEMU can reach."""
    return f"""\
<disk type='network' device='disk'>
  <driver name='qemu' type='raw'/>
  <source protocol='iscsi' name='iqn/1'><host name='a' port='1'/></source>
  <target dev='{device}' bus='virtio'/>
  <serial>{volume_id}</serial>
  {inside}
</disk>
"""


class VolumesTest(base.TestCase):
    """What becomes of volumes; their data is not looked at."""

    def choose(
        self, choice: instance_lib.DiskChoice, *disks: str
    ) -> tuple[list[str], list[str]]:
        """Return the names of the disks to read, and of the volumes."""
        xml = samples.domain(*disks)
        found = disk_set.choose(disk_xml.disks(xml), choice)
        return (
            [disk.device for disk in found.disks],
            [disk.device for disk in found.volumes],
        )

    def named(self, *names: str) -> instance_lib.DiskChoice:
        """Return the choice of some disks."""
        return instance_lib.DiskChoice(named=names)

    def test_all_disks(self) -> None:
        self.assertEqual(
            (['vda', 'vdb'], ['vdc']),
            self.choose(ALL, LOCAL, volume('vdc'), DATA),
        )

    def test_root_disk_is_a_volume(self) -> None:
        self.assertEqual(
            (['vdb'], ['vda', 'vdc']),
            self.choose(ALL, volume('vda'), DATA, volume('vdc', TWO)),
        )

    def test_only_those_that_are_named(self) -> None:
        disks = (LOCAL, volume('vdc'), volume('vdd', TWO))
        self.assertEqual(
            (['vda'], ['vdd']), self.choose(self.named('vda', 'vdd'), *disks)
        )
        self.assertEqual(
            (['vda'], ['vdd']), self.choose(self.named('vdd', 'vda'), *disks)
        )

    def test_one_disk_is_read_though_it_is_a_volume(self) -> None:
        disk = samples.raw_disk('/srv/a', 'vda').replace(
            '</disk>', f'<serial>{ONE}</serial></disk>'
        )
        disk = disk.replace('/srv/a', f'/srv/volume-{ONE}')
        self.assertEqual(
            (['vda'], []), self.choose(self.named('vda'), disk, DATA)
        )

    def test_one_volume_twice(self) -> None:
        error = self.assertRaises(
            disk_xml.Unsupported,
            self.choose,
            *(ALL, LOCAL, volume('vdc'), volume('vdd')),
        )
        self.assertIn(f'vdc and vdd are the same: volume {ONE}', str(error))

    def test_of_several_servers(self) -> None:
        shared = volume('vdc', inside='<shareable/>')
        error = self.assertRaises(
            disk_xml.Unsupported, self.choose, ALL, LOCAL, shared
        )
        self.assertIn('vdc', str(error))
        self.assertEqual(
            (['vda'], ['vdc']),
            self.choose(self.named('vda', 'vdc'), LOCAL, shared),
        )
