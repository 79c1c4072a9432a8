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

"""pull of root disks in Ceph, which Nova can take only cold, or in Ceph.

RBD is reached by QEMU alone: what is read comes from its export, as with any
other disk, and the scratch file lies on the host.
"""

import os
import pathlib
from typing import Any

from tests.functional import base
from tests.functional import content
from tests.functional import test_kill
from tests.functional import test_pull
from tests.lab import cinder as cinder_lib
from tests.lab import disk as disk_lib
from tests.lab import guest as guest_lib
from tests.lab import root_disk
from tests.lab import steps
from tests.lab import volumes as volumes_lib


class RbdTestCase(base.SnapshotTestCase):
    """A guest whose root disk is an RBD image, and no volume of Cinder's."""

    OPTIONS = {'snapshot': test_pull.PULL}

    def rbd_guest(self, **spec: Any) -> guest_lib.Guest:
        """Start a guest with its root disk on RBD."""
        ceph = volumes_lib.shared_lab().ceph
        path = pathlib.Path(f'{cinder_lib.POOL}/{os.urandom(4).hex()}')
        ceph.rbd('create', '--size', '1G', path)
        volumes_lib.write_file_system(ceph, path, self.directory())
        disk = volumes_lib.RbdDisk(
            kind=root_disk.Kind.RAW,
            path=path,
            format='raw',
            source_type='network',
            port=ceph.port,
        )
        return self.make_guest(disk=disk, **spec)


class TestContent(RbdTestCase, content.ContentTestCase):
    """What the image holds, and which guests pull is for."""

    def test_explain(self) -> None:
        guest = self.rbd_guest()
        done = self.run_command('explain', guest.uuid, '-f', 'value')
        self.assertIn('decision live pull', done.stdout)
        self.configure(snapshot={'live_method': 'mirror'})
        done = self.run_command('explain', guest.uuid, '-f', 'value')
        self.assertIn('decision cold', done.stdout)

    def test_paused(self) -> None:
        self.configure(
            libvirt={
                'snapshot_image_format': 'qcow2',
                'snapshot_compression': 'true',
            }
        )
        guest = self.rbd_guest()
        with content.paused(guest):
            image = self.take(guest, 'pull')
            raw = self.directory() / 'raw'
            volumes_lib.shared_lab().ceph.rbd(
                'export', '--no-progress', guest.spec.disk.path, raw
            )
            self.assertEqual(
                '',
                disk_lib.differences(image.path, image.format, raw, 'raw'),
            )
        # Ceph may say of all of it that it is data; zeros take no room.
        self.assertLess(image.size, raw.stat().st_size // 2)

    def test_running(self) -> None:
        guest = self.rbd_guest()
        least = guest.ticks()
        image = self.take(guest, 'pull')
        self.assert_one_moment(image, least)
        self.assert_boots(image, least)


class TestKilled(RbdTestCase, test_kill.KillTestCase):
    """Kill, recover, look."""

    def test_while_the_export_is_read(self) -> None:
        self.guest = self.rbd_guest(vnc_password='secret')
        self.found = base.Found.of(self.guest)
        self.kill_at(steps.after('open-export'))
        self.recover()
        self.assertFalse(test_pull.has_backup_job(self.guest))
