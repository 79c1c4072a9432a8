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

"""Disks that other hosts may reach.

The hardware is what lsblk would say of it; findmnt is asked about this host.
"""

import json

from nova_snap import exception
from nova_snap import process
from nova_snap.virt.storage import locality
from tests.unit import base


def row(
    name: str, kind: str, transport: str | None = None
) -> dict[str, str | None]:
    """Return what lsblk says of a device."""
    return {'name': name, 'type': kind, 'tran': transport}


class BlockDeviceTest(base.TestCase):
    """What lies below a block device."""

    def is_local(self, *rows: dict[str, str | None]) -> bool:
        """Return the result where lsblk writes these rows."""
        found = json.dumps({'blockdevices': rows}).encode()
        self.patch(process, 'run', lambda _argv, _limits: found)
        return locality._is_local_device('/dev/guests/root')

    def test_in_this_host(self) -> None:
        volume = row('guests-root', 'lvm')
        self.assertTrue(self.is_local(volume, row('sda', 'disk', 'sata')))
        self.assertTrue(
            self.is_local(
                volume,
                row('md0', 'raid1'),
                row('sda', 'disk', 'sas'),
                row('sdb', 'disk', 'usb'),
            )
        )

    def test_not_surely_in_this_host(self) -> None:
        for rows in (
            [row('sdb', 'disk', 'iscsi')],
            [row('mpatha', 'mpath'), row('sdb', 'disk', 'fc')],
            [row('sda', 'disk', 'sata'), row('sdb', 'disk', 'fc')],
            [row('rbd0', 'disk')],
            [row('guests-root', 'lvm'), row('loop0', 'loop')],
            [row('nvme99n1', 'disk', 'nvme')],  # of which sysfs knows nothing
            [],
        ):
            self.assertFalse(self.is_local(*rows), rows)


class FileTest(base.TestCase):
    """The file system of a file."""

    def test_file_systems(self) -> None:
        path = str(self.folder())
        for name, expected in (('ext4', True), ('nfs4', False), ('', False)):
            self.patch(locality, '_file_system', lambda _path, name=name: name)
            self.assertEqual(expected, locality.is_local(path), name)

    def test_of_this_host(self) -> None:
        self.assertEqual('proc', locality._file_system('/proc'))

    def test_missing(self) -> None:
        self.assertFalse(locality.is_local('/nonexistent'))

    def test_not_known(self) -> None:
        def fail(_path: str) -> str:
            raise exception.ProgramFailed(
                program='findmnt', outcome='not started', stderr=''
            )

        self.patch(locality, '_file_system', fail)
        self.assertFalse(locality.is_local(str(self.folder())))
        self.assertFalse(locality.is_in_memory('/'))
