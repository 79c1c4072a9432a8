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

"""Snapshots of volumes that Cinder leaves to Nova, which leaves them to us.

Cinder's NFS driver makes a file over the volume's and asks Nova
(``os-assisted-volume-snapshots``) to let the guest write there; to delete the
snapshot, it asks for the two to be merged.  The driver's methods for both are
Nova's own, inherited, and have to go on to work.
"""

import json
import pathlib
from xml.etree import ElementTree

from tests.lab import disk as disk_lib
from tests.openstack import mode
from tests.openstack import server as server_lib
from tests.openstack import storage
from tests.openstack import volume_base


class AssistedTest(volume_base.VolumeTestCase):
    """A server on a volume that is a file of an NFS share."""

    MODE = mode.Mode(method='pull')
    STORAGE = storage.Nfs

    def test_snapshot_boots_and_is_merged(self) -> None:
        server = self.volume_server()
        base = root_file(server)
        ticks = server.ticks()
        image_id = self.take(server, 'of a volume')
        overlay = root_file(server)
        self.assertNotEqual(base, overlay)
        self.assertEqual(
            base.name, disk_lib.info(overlay, 'qcow2')['backing-filename']
        )
        self.assertTrue(server.is_ticking())
        self.assert_image_boots(image_id, ticks)

        self.delete_with_snapshots(image_id)
        self.assertEqual([], self.volumes.volume_snapshots.list())
        # Nova lets QEMU copy what lies below into the file that is in use.
        self.assertEqual(overlay, root_file(server))
        self.assertNotIn('backing-filename', disk_lib.info(overlay, 'qcow2'))
        self.assertFalse(base.exists())
        self.assertEqual({}, server.block_jobs())
        self.assertTrue(server.is_ticking())
        self.assert_reboot_keeps(server)

    def test_command_refuses(self) -> None:
        server = self.volume_server()
        with self.as_found(server):
            done = self.run_command('image-create', server.id, 'refused')
        self.assertNotEqual(0, done.returncode)
        self.assertIn('openstack server image create', done.stderr)
        self.assertEqual([], self.volumes.volume_snapshots.list())

    def assert_image_boots(self, image_id: str, ticks: int) -> None:
        """Check that a server boots on a volume from the snapshot."""
        new = self.make_server(image_id, name='from the snapshot')
        found = new.found_at_boot()
        self.assertIsNotNone(found, new.console())
        self.assertGreaterEqual(found or 0, ticks)
        # A snapshot stays as long as a volume was made from it.
        new.delete()
        (volume,) = [v for v in self.volumes.volumes.list() if v.snapshot_id]
        self.volumes.volumes.delete(volume)
        self.wait_for_no_volume(volume.id)

    def delete_with_snapshots(self, image_id: str) -> None:
        """Delete an image and the snapshots that it names."""
        entries = json.loads(self.record(image_id)['block_device_mapping'])
        done = self.run_command('image-delete', '--with-snapshots', image_id)
        self.assertEqual(0, done.returncode, done.stderr)
        for entry in entries:
            self.assertIn(entry['snapshot_id'], done.stdout)

    def assert_reboot_keeps(self, server: server_lib.Server) -> None:
        """Check that a reboot finds all data of the guest."""
        ticks = server.ticks()
        server.act('reboot', 'ACTIVE', reboot_type='HARD')
        server.wait_until(
            lambda: (server.found_at_boot() or 0) >= ticks, 'file of before'
        )


def root_file(server: server_lib.Server) -> pathlib.Path:
    """Return the file that the guest writes to."""
    domain = ElementTree.fromstring(server.xml())
    source = domain.find("./devices/disk[@device='disk']/source")
    assert source is not None
    return pathlib.Path(source.get('file', ''))
