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

"""Images of a server that boots from a volume: Nova's record, and ours."""

import json
import time
from typing import Any

from tests.openstack import mode
from tests.openstack import server as server_lib
from tests.openstack import storage
from tests.openstack import volume_base

#: What only Nova's database knows of a server: who made it, and what Nova
#: chose for its guest where the image did not say.
ONLY_NOVA_KNOWS = {
    'boot_roles',
    'owner_user_name',
    'owner_project_name',
    'hw_cdrom_bus',
    'hw_disk_bus',
    'hw_input_bus',
    'hw_machine_type',
    'hw_pointer_model',
    'hw_video_model',
    'hw_vif_model',
}

#: What each mapping has of its own.
OWN = {'snapshot_id'}


class VolumeBackedTest(volume_base.VolumeTestCase):
    """One server, by unmodified Nova and by the command."""

    MODE = mode.UNMODIFIED
    STORAGE = storage.Rbd

    def test_records_and_boot(self) -> None:
        server = self.volume_server()
        theirs = self.record(self.take(server, 'theirs'))
        mine = self.record(self.command(server, 'ours'))
        their_mapping = mapping(theirs)
        our_mapping = mapping(mine)
        self.assertEqual(their_mapping, our_mapping)
        self.assertEqual(
            ONLY_NOVA_KNOWS & theirs.keys(), theirs.keys() - mine.keys()
        )
        for name in ('name', *ONLY_NOVA_KNOWS):
            theirs.pop(name, None)
            mine.pop(name, None)
        self.assertEqual(theirs, mine)
        self.assert_ours_boots(server)

    def assert_ours_boots(self, server: server_lib.Server) -> None:
        """``openstack server create`` from the image of the command."""
        ticks = server.ticks()
        image_id = self.command(server, 'to boot from')
        new = self.make_server(image_id, name='from ours')
        found = new.found_at_boot()
        self.assertIsNotNone(found, new.console())
        self.assertGreaterEqual(found or 0, ticks)


class SetTest(volume_base.VolumeTestCase):
    """A server on a local disk, with a volume attached."""

    MODE = mode.UNMODIFIED
    STORAGE = storage.Rbd

    def test_new_server_has_the_root_disk_and_the_volume(self) -> None:
        server = self.make_server()
        volume = self.volumes.volumes.create(1)
        self.wait_for_volume(volume.id)
        compute = self.cloud.connection.compute
        compute.create_volume_attachment(server.id, volume_id=volume.id)
        self.wait_for_status(volume.id, 'in-use')
        ticks = server.ticks()
        image_id = self.command(server, 'set', '--all-disks')
        [entry] = json.loads(self.record(image_id)['block_device_mapping'])
        new = self.make_server(image_id, name='from the set')
        self.assertGreaterEqual(new.found_at_boot() or 0, ticks)
        [attached] = compute.volume_attachments(new.id)
        made = self.volumes.volumes.get(attached.volume_id)
        self.assertEqual(entry['snapshot_id'], made.snapshot_id)
        self.assertIn(f'<serial>{made.id}</serial>', new.xml())

    def wait_for_status(self, volume_id: str, status: str) -> None:
        """Wait until a volume has a status."""
        deadline = time.monotonic() + volume_base.TIMEOUT
        get = self.volumes.volumes.get
        while get(volume_id).status != status:
            self.assertLess(time.monotonic(), deadline, volume_id)
            time.sleep(0.2)


def mapping(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Take the block device mapping out of a record."""
    entries = json.loads(record.pop('block_device_mapping'))
    return [
        {k: v for k, v in entry.items() if k not in OWN} for entry in entries
    ]
