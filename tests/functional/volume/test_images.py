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

"""Images of guests that boot from volumes: the record, the moment, the end."""

import json
import re
import time

from tests.functional import base as functional_base
from tests.functional.volume import base
from tests.lab import disk as disk_lib
from tests.lab import fault_proxy
from tests.lab import guest as guest_lib
from tests.lab import volumes as volumes_lib

#: In a snapshot, as Cinder shows it.
PROJECT = 'os-extended-snapshot-attributes:project_id'

#: Run by the guest's agent: numbers written to the first volume, then to the
#: second, each on the disk before the next.
WRITER = """
mkdir -p /mnt2
mount -t ext4 /dev/vdb /mnt2
n=0
while :; do
    n=$((n + 1))
    echo $n >>/mnt/first
    sync
    echo $n >>/mnt2/second
    sync
done
"""

IMAGE_METADATA = {
    'image_id': '2f0c3bd5-1b7a-4f4e-9d0e-52f6a7f2f2a9',
    'image_name': 'base',
    'min_disk': '1',
    'min_ram': '64',
    'hw_disk_bus': 'virtio',
    'img_signature': 'of other bytes',
}


def wait(request: fault_proxy.Request) -> None:
    """Let a request wait before it reaches Cinder."""
    time.sleep(1)


class RecordTest(base.VolumeTestCase):
    """What the record says; a guest without an agent."""

    IMAGE_METADATA = IMAGE_METADATA

    def test_record(self) -> None:
        guest, disks = self.volume_guest()
        found = functional_base.Found.of(guest)
        done = self.run_command(
            *('image-create', guest.uuid, 'backup', '-f', 'json'),
            *('--metadata', 'color=blue'),
        )
        image = self.glance.get(json.loads(done.stdout)['id'])
        self.addCleanup(self.glance.delete, image.id)
        self.assertEqual('active', image.status)
        self.assertEqual(0, image.size)
        self.assertEqual(
            ('raw', 'bare'), (image.disk_format, image.container_format)
        )
        self.assertEqual((1, 64), (image.min_disk, image.min_ram))
        mapping = self.mapping(image)
        properties = dict(image.properties)
        properties.pop('block_device_mapping')
        self.assertEqual(
            {
                'base_image_ref': '',
                'bdm_v2': 'True',
                'color': 'blue',
                'hw_disk_bus': 'virtio',
                'root_device_name': '/dev/vda',
            },
            properties,
        )
        self.assertEqual([0, None], [e['boot_index'] for e in mapping])
        self.assertEqual(
            ['/dev/vda', '/dev/vdc'], [e['device_name'] for e in mapping]
        )
        for entry, disk in zip(mapping, disks, strict=True):
            snapshot = self.lab.client.volume_snapshots.get(
                entry['snapshot_id']
            )
            self.assertEqual(disk.volume_id, snapshot.volume_id)
            self.assertEqual('available', snapshot.status)
            self.assertEqual('snapshot for backup', snapshot.name)
            self.assertEqual('why', snapshot.description)
            # A plain member is told it, too; deletion relies on that.
            self.assertTrue(snapshot.to_dict()[PROJECT])
        self.assert_as_found(guest, found)
        self.assert_nothing_left()
        self._delete(image.id)

    def _delete(self, image_id: str) -> None:
        done = self.run_command(
            'image-delete', '--with-snapshots', image_id, '-f', 'json'
        )
        outcomes = [row['Outcome'] for row in json.loads(done.stdout)]
        self.assertEqual(['deleted', 'deleted'], outcomes)

    def test_explain(self) -> None:
        guest, disks = self.volume_guest()
        done = self.run_command('explain', guest.uuid, '-f', 'json')
        rows = json.loads(done.stdout)
        self.assertEqual(
            [*(disk.volume_id for disk in disks), 'live'],
            [row['Value'] for row in rows],
        )
        self.assertEqual(0, self.proxy.count('POST', 'snapshots'))

    def test_no_cinder(self) -> None:
        guest, disks = self.volume_guest()
        self.OPTIONS.pop('cinder')
        self.configure()
        for command in (('explain',), ('image-create',)):
            name = ['image'] if command == ('image-create',) else []
            done = self.run_command(*command, guest.uuid, *name, status=2)
            self.assertIn('[cinder]', done.stderr)
            self.assertIn(disks[0].volume_id, done.stderr)
        self.assert_nothing_made(*disks)

    def test_only_the_record_is_deleted(self) -> None:
        guest, disks = self.volume_guest()
        image_id = self.image_create(guest)
        self.run_command('image-delete', image_id)
        left = self.lab.snapshots(*disks)
        self.assertEqual(2, len(left))
        for snapshot in left:
            snapshot.delete()

    def test_snapshot_in_use_is_named_and_stays(self) -> None:
        self._delete_one_in_use()

    def test_snapshot_in_use_by_another_project(self) -> None:
        """An administrator sees what the project of the login has not."""
        login = self.lab.keystone.credentials('admin', 'admin')
        self._delete_one_in_use(**login)

    def test_snapshots_that_are_hidden_from_the_login(self) -> None:
        """They belong to the project that asked for them; none is lost."""
        guest, disks = self.volume_guest()
        self.configure(cinder=self.lab.keystone.credentials('admin', 'admin'))
        image_id = self.image_create(guest)
        made = [
            e['snapshot_id'] for e in self.mapping(self.glance.get(image_id))
        ]
        self.configure()
        done = self.run_command(
            'image-delete', '--with-snapshots', image_id, '-f', 'json'
        )
        rows = json.loads(done.stdout)
        self.assertEqual(made, [row['Snapshot'] for row in rows])
        for row in rows:
            self.assertIn('hidden from this login', row['Outcome'])
        for snapshot_id in made:
            found = self.lab.admin.volume_snapshots.get(snapshot_id)
            self.assertEqual('available', found.status)
            found.delete()

    def _delete_one_in_use(self, **login: str) -> None:
        guest, disks = self.volume_guest()
        image_id = self.image_create(guest)
        mapping = self.mapping(self.glance.get(image_id))
        used, unused = [entry['snapshot_id'] for entry in mapping]
        user = self.lab.disk_from_snapshot(used)
        self.configure(cinder=login)
        done = self.run_command(
            *('image-delete', '--with-snapshots', image_id, '-f', 'json'),
            status=4,
        )
        rows = {r['Snapshot']: r['Outcome'] for r in json.loads(done.stdout)}
        self.assertIn(user.volume_id, rows[used])
        self.assertEqual('deleted', rows[unused])
        self.assertEqual(
            [used], [snapshot.id for snapshot in self.lab.snapshots(*disks)]
        )
        self.lab.remove(user)
        self.lab.client.volume_snapshots.delete(used)


class MomentTest(base.VolumeTestCase):
    """A guest with an agent that writes to both of its volumes."""

    IMAGE_METADATA = {'os_require_quiesce': 'true'}

    def test_volumes_show_one_moment_and_boot(self) -> None:
        guest, disks = self.volume_guest(agent=True)
        guest.agent(
            'guest-exec', path='/bin/sh', arg=['-c', WRITER], timeout=60
        )
        guest.wait_for_ticks(200)
        # Long enough for many numbers, were the guest not frozen.
        self.proxy.add('POST', '/snapshots$', fault_proxy.Call(lambda _: None))
        self.proxy.add('POST', '/snapshots$', fault_proxy.Call(wait))
        done = self.run_command(
            'image-create', guest.uuid, 'moment', '-f', 'json'
        )
        frozen = re.search(r'were frozen for (\d+) ms', done.stderr)
        asked = re.search(r'2 volumes were asked for in (\d+) ms', done.stderr)
        self.assertIsNotNone(frozen, done.stderr)
        self.assertIsNotNone(asked, done.stderr)
        self.assertTrue(guest.is_ticking())
        image = self.glance.get(json.loads(done.stdout)['id'])
        copies = [
            self.lab.disk_from_snapshot(entry['snapshot_id'])
            for entry in self.mapping(image)
        ]
        first, second = self._numbers(copies)
        self.assertGreater(len(first), 5)
        self.assertEqual(first, list(range(1, len(first) + 1)))
        self.assertEqual(second, list(range(1, len(second) + 1)))
        # Frozen between the two writes of a number, or between two numbers.
        self.assertIn(len(first) - len(second), (0, 1))
        self._boot(copies)

    def _numbers(
        self, copies: list[volumes_lib.VolumeDisk]
    ) -> tuple[list[int], list[int]]:
        found = []
        for copy, path in zip(copies, ('/first', '/second'), strict=True):
            raw = self.directory() / 'copy.raw'
            self.lab.export(copy, raw)
            state = disk_lib.file_system(raw, 'raw', replay_journal=True)
            self.assertTrue(state.clean, state.report)
            lines = disk_lib.read_file(raw, 'raw', path).split()
            found.append([int(line) for line in lines])
        return found[0], found[1]

    def _boot(self, copies: list[volumes_lib.VolumeDisk]) -> guest_lib.Guest:
        guest = self.make_guest(disk=copies[0], extra_disks=(copies[1],))
        self.assertIn('FOUND', guest.console())
        return guest
