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

"""What can go wrong with Cinder and Glance leaves nothing, and is told."""

import threading
import time

from tests.functional import base as functional_base
from tests.functional.volume import base
from tests.lab import domain as domain_lib
from tests.lab import exhaustive
from tests.lab import fault_proxy
from tests.lab import volumes as volumes_lib

POST = ('POST', '/snapshots$')

#: Answers to the request for the second snapshot, when the first is made:
#: status of HTTP, exit status, and what the message has to say.
ANSWERS = exhaustive.choose(
    (
        (401, 5, '[cinder]'),
        (403, 5, 'role'),
        (404, 3, 'does not exist'),
        (409, 4, 'refused'),
        (413, 1, 'quota'),
        (500, 6, 'log of Cinder'),
    ),
    ((403, 5, 'role'), (413, 1, 'quota'), (500, 6, 'log of Cinder')),
)


class FaultTest(base.VolumeTestCase):
    """A guest with an agent on two volumes; every snapshot of it fails."""

    def setUp(self) -> None:
        super().setUp()
        self.guest, self.disks = self.volume_guest(agent=True)
        self.found = functional_base.Found.of(self.guest)

    def assert_fails(self, status: int, *words: str) -> str:
        """Check that a snapshot fails in one line, and leaves nothing.

        What it asked Cinder for is counted in ``requested``.
        """
        done = self.run_command(
            'image-create', self.guest.uuid, 'image', status=status
        )
        told = done.stderr.strip().splitlines()[-1]
        for word in words:
            self.assertIn(word, told)
        self.assert_nothing_made(*self.disks)
        self.assertEqual('thawed', self.guest.agent('guest-fsfreeze-status'))
        self.assert_as_found(self.guest, self.found)
        self.requested = self.proxy.count(*POST)
        self.proxy.clear()
        self.image_proxy.clear()
        return done.stderr

    def second_request(self, action: fault_proxy.Action) -> None:
        """Let the first request for a snapshot pass, and not the second."""
        self.proxy.add(*POST, fault_proxy.Call(lambda request: None))
        self.proxy.add(*POST, action, times=None)

    # Cinder refuses, or breaks --------------------------------------------

    def test_answers(self) -> None:
        for answer, status, word in ANSWERS:
            self.second_request(
                fault_proxy.Answer(
                    answer,
                    b'{"fault": {"message": "because"}}',
                    'application/json',
                )
            )
            self.assert_fails(status, word)

    def test_connection_is_cut_before_the_answer(self) -> None:
        """Cinder has made the snapshot, and nobody was told."""
        self.second_request(fault_proxy.CutResponse())
        self.assert_fails(6, 'Cinder')

    def test_no_answer_in_time(self) -> None:
        self.configure(cinder={'timeout': '2'})
        self.second_request(fault_proxy.Stall(seconds=30))
        self.assert_fails(6, 'Cinder')

    def test_no_login(self) -> None:
        self.configure(cinder={'password': 'wrong'})
        self.assert_fails(5, 'Keystone', '[cinder]')

    def test_nobody_listens(self) -> None:
        self.configure(cinder={'endpoint_template': 'http://127.0.0.1:9/v3'})
        self.assert_fails(6, 'http://127.0.0.1:9/v3')

    def test_unknown_volume(self) -> None:
        self.proxy.add('GET', '/volumes/', fault_proxy.Answer(404))
        self.assert_fails(3, self.disks[0].volume_id)
        self.assertEqual(0, self.requested)

    # The project may have no more snapshots: Cinder's own answers -----------

    def allow_one_more(self) -> str:
        """Leave room for one snapshot; says so as the message does."""
        project = self.lab.client.client.session.get_project_id()
        limits = self.lab.client.limits.get().to_dict()['absolute']
        used = int(limits['totalSnapshotsUsed'])
        quotas = self.lab.admin.quotas
        quotas.update(project, snapshots=used + 1)
        self.addCleanup(quotas.update, project, snapshots=-1)
        return f'{used} of {used + 1}'

    def test_quota_is_seen_before_anything_begins(self) -> None:
        error = self.assert_fails(1, 'quota', self.allow_one_more())
        self.assertEqual(0, self.requested)
        self.assertNotIn('task state', error)

    def test_quota_is_used_up_meanwhile(self) -> None:
        is_used_up = threading.Event()

        def take(request: fault_proxy.Request) -> None:
            self.allow_one_more()
            is_used_up.set()

        def wait(request: fault_proxy.Request) -> None:
            is_used_up.wait(functional_base.TIMEOUT)

        self.proxy.add(*POST, fault_proxy.Call(take))
        self.proxy.add(*POST, fault_proxy.Call(wait))
        self.assert_fails(1, 'quota', 'SnapshotLimitExceeded')

    # What Cinder has promised is not done -----------------------------------

    def test_snapshot_in_error(self) -> None:
        image = str(self.disks[1].path)
        self.lab.ceph.rbd('rename', image, f'{image}-away')
        renamed = [False]

        def rename(request: fault_proxy.Request) -> None:
            if not renamed[0]:
                renamed[0] = True
                self.lab.ceph.rbd('rename', f'{image}-away', image)

        self.addCleanup(rename, None)
        self.proxy.add('DELETE', '/snapshots/', fault_proxy.Call(rename), None)
        self.assert_fails(1, self.disks[1].volume_id, 'error')

    def test_snapshot_takes_too_long(self) -> None:
        self.configure(cinder={'snapshot_timeout': '3', 'frozen_timeout': '2'})
        snapshots = self.lab.admin.volume_snapshots

        held = set()

        def hold(request: fault_proxy.Request) -> None:
            snapshot_id = request.path.rpartition('/')[2]
            if snapshot_id not in held:
                held.add(snapshot_id)
                self.lab.wait(snapshots, snapshot_id, 'available')
                snapshots.reset_state(snapshot_id, 'creating')

        def let_go(request: fault_proxy.Request) -> None:
            for snapshot in self.lab.snapshots(*self.disks):
                if snapshot.status == 'creating':
                    snapshots.reset_state(snapshot, 'available')

        def dawdle(request: fault_proxy.Request) -> None:
            time.sleep(8)

        self.proxy.add(*POST, fault_proxy.Call(dawdle), None)
        # The administrator holds them up until those made are looked for.
        self.proxy.add(
            'GET', '/snapshots/[-0-9a-f]{36}$', fault_proxy.Call(hold), None
        )
        self.proxy.add('GET', 'volume_id', fault_proxy.Call(let_go), None)
        error = self.assert_fails(1, 'snapshot_timeout', 'cinder-volume')
        self.assertIn('thawed early', error)

    # Glance refuses the record, its properties, or its activation -----------

    def test_glance_refuses(self) -> None:
        for method, pattern in (
            ('POST', '/v2/images$'),
            ('PATCH', '/v2/images/'),
            ('PUT', '/file$'),
        ):
            self.image_proxy.add(
                method, pattern, fault_proxy.Answer(403, b'No.'), None
            )
            self.assert_fails(5, 'No.')

    def test_image_is_deleted_meanwhile(self) -> None:
        def delete(request: fault_proxy.Request) -> None:
            for image in self.glance.list():
                if image.status == 'queued':
                    self.glance.delete(image.id)

        self.proxy.add(*POST, fault_proxy.Call(delete))
        self.assert_fails(7, 'was deleted')


class RefusedTest(base.VolumeTestCase):
    """Guests that are refused before anything is made."""

    def test_agent_is_required_and_silent(self) -> None:
        self.IMAGE_METADATA = {'os_require_quiesce': 'yes'}  # type: ignore[misc]
        guest, disks = self.volume_guest(1, agent_channel=True)
        done = self.run_command('image-create', guest.uuid, 'no', status=1)
        self.assertIn('os_require_quiesce', done.stderr)
        self.assertEqual(0, self.proxy.count(*POST))
        self.assert_nothing_made(*disks)

    def test_volume_in_a_file(self) -> None:
        """As NFS and its kin have it."""
        disk = self.lab.make_disk('unused')
        guest = self.make_guest(
            start=False,
            disk_xml=f'<serial>{disk.volume_id}</serial>',
            metadata=domain_lib.NovaMetadata(name='web'),
        )
        for command in (['explain'], ['image-create']):
            name = ['image'] if command == ['image-create'] else []
            done = self.run_command(*command, guest.uuid, *name, status=2)
            self.assertIn('a file of this host', done.stderr)
        self.assert_nothing_made(disk)

    def test_attached_volume_of_an_image_booted_guest(self) -> None:
        """Nova's rule: the root disk only, as data."""
        disk = self.lab.make_disk('data')
        guest = self.make_guest(extra_disks=(disk,))
        image_id = self.image_create(guest)
        image = self.glance.get(image_id)
        self.assertGreater(image.size or 0, 0)
        self.assertNotIn('block_device_mapping', image.properties)
        self.assertEqual(0, self.proxy.count(*POST))


class StoppedTest(base.VolumeTestCase):
    """A guest that does not run."""

    def test_stopped(self) -> None:
        disks: list[volumes_lib.VolumeDisk] = [self.lab.make_disk('root')]
        guest = self.make_guest(start=False, disk=disks[0])
        image = self.glance.get(self.image_create(guest))
        self.assertEqual(1, len(self.mapping(image)))
        self.assertEqual('shut off', guest.state())
