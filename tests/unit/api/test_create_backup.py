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

import io
from typing import Any
import uuid

from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap.image import api as image_api
from nova_snap.image import filesystem
from nova_snap.objects import instance as instance_lib
from tests.unit import base as unit_base
from tests.unit.api import test_create_image
from tests.unit.compute import base as compute_base

SERVER = compute_base.INSTANCE.uuid


class TestCreateBackup(test_create_image.CreateImageTestCase):
    """createBackup, and which backups are kept."""

    def backup(
        self, rotation: Any = 2, version: str = '2.45', **fields: Any
    ) -> Any:
        """Ask for a backup, and wait for its end."""
        wanted = {'name': 'x', 'backup_type': 'daily', 'rotation': rotation}
        answer = self.call(
            'POST',
            test_create_image.PATH,
            {'createBackup': {**wanted, **fields}},
            version=version,
        )
        self.wait_for_end()
        return answer

    def kept(self) -> list[str]:
        """Return the IDs of the images, the oldest first."""
        return [image.id for image in reversed(list(self.images.list()))]

    def test_properties(self) -> None:
        answer = self.backup(metadata={'color': 'red', 'backup_type': 'x'})
        self.assertEqual(202, answer.status_int, answer.text)
        image = self.images.get(answer.json['image_id'])
        self.assertEqual('active', image.status)
        self.assertEqual('backup', image.properties['image_type'])
        self.assertEqual('daily', image.properties['backup_type'])
        self.assertEqual(SERVER, image.properties['instance_uuid'])
        self.assertEqual('red', image.properties['color'])

    def test_the_latest_are_kept(self) -> None:
        made = []
        for second in range(3):
            # Records have the second in which they were made.
            now = f'2026-01-01T00:00:0{second}Z'
            self.patch(filesystem, '_now', lambda now=now: now)
            made.append(self.backup().json['image_id'])
        self.assertEqual(made[1:], self.kept())

    def test_the_latest_of_a_second_are_kept(self) -> None:
        self.patch(filesystem, '_now', lambda: '2026-01-01T00:00:00Z')
        made = []
        for _ in range(6):
            made.append(self.backup().json['image_id'])
            self.assertEqual(made[-2:], self.kept())

    def test_others_are_left_alone(self) -> None:
        snapshot = self.create().json['image_id']
        self.wait_for_end()
        weekly = self.backup(backup_type='weekly').json['image_id']
        other = self.snapshot(compute_base.OTHER)
        self.images.update(
            other.id,
            properties={'image_type': 'backup', 'backup_type': 'daily'},
        )
        # It may be one that is just being made somewhere else.
        unfinished = image_api.Image(
            id=str(uuid.uuid4()),
            name='x',
            status='queued',
            properties={
                'image_type': 'backup',
                'backup_type': 'daily',
                'instance_uuid': SERVER,
            },
        )
        self.images.create(unfinished)
        daily = self.backup(1).json['image_id']
        self.assertEqual(
            {snapshot, weekly, other.id, unfinished.id, daily},
            set(self.kept()),
        )

    def test_those_of_other_projects_are_left_alone(self) -> None:
        """Anybody can write the properties of a backup."""
        forged = image_api.Image(
            id=str(uuid.uuid4()),
            name='x',
            status='queued',
            owner='somebody',
            properties={
                'image_type': 'backup',
                'backup_type': 'daily',
                'instance_uuid': SERVER,
            },
        )
        self.images.create(forged)
        self.images.upload(
            forged.id, io.BytesIO(b'x'), 1, progress_lib.Progress()
        )
        first = self.backup(2).json['image_id']
        second = self.backup(2).json['image_id']
        self.assertEqual({forged.id, first, second}, set(self.kept()))

    def test_a_failed_one_deletes_none(self) -> None:
        first = self.backup(1).json['image_id']

        def fail(_request: compute_base.Request) -> None:
            raise exception.SnapshotFailed('It does not work.')

        self.driver.behave = fail
        self.backup(1)
        self.assertEqual([first], self.kept())

    def test_a_backup_that_can_not_be_deleted(self) -> None:
        first = self.backup(1).json['image_id']

        def refuse(image_id: str) -> None:
            raise exception.ImageNotPermitted(reason='it is protected')

        self.images.delete = refuse  # type: ignore[method-assign]
        second = self.backup(1).json['image_id']
        self.assertEqual({first, second}, set(self.kept()))
        self.assertIn('it is protected', self.log.output)

    def test_what_is_complete_can_not_be_cancelled(self) -> None:
        """While the old ones are deleted, a client is told so."""
        self.backup(1)
        delete = self.images.delete

        def hold(image_id: str) -> None:
            self.begun.set()
            self.shall_end.wait(unit_base.PATIENCE)
            delete(image_id)

        self.images.delete = hold  # type: ignore[method-assign]
        wanted = {'name': 'x', 'backup_type': 'daily', 'rotation': 1}
        image_id = self.call(
            'POST',
            test_create_image.PATH,
            {'createBackup': wanted},
            version='2.45',
        ).json['image_id']
        self.assertTrue(self.begun.wait(unit_base.PATIENCE))
        answer = self.call(
            'DELETE', f'/v2.1/servers/{SERVER}/snapshots/{image_id}'
        )
        self.assert_error(answer, 409, 'conflictingRequest', 'is complete')
        self.shall_end.set()
        self.wait_for_end()
        self.assertEqual([image_id], self.kept())

    def test_rotation_0_keeps_none(self) -> None:
        self.backup()
        self.assertEqual(202, self.backup(0).status_int)
        self.assertEqual([], self.kept())

    def test_old_versions_name_the_image_in_the_location(self) -> None:
        answer = self.backup(version='2.44')
        self.assertEqual(b'', answer.body)
        image_id = answer.headers['Location'].rpartition('/')[2]
        self.assertEqual([image_id], self.kept())
        self.assertNotIn('Location', self.backup(0, version='2.1').headers)

    def test_action(self) -> None:
        self.backup()
        (action,) = self.actions.list(SERVER)
        self.assertEqual('createBackup', action.action)
        self.assertEqual('compute_backup_instance', action.events[0].event)

    def test_volume_backed(self) -> None:
        self.driver.devices = (
            instance_lib.BlockDevice('vda', 'virtio', 'disk', 'a', False),
        )
        self.assert_error(self.backup(), 400, 'badRequest', 'volume-backed')

    def test_what_is_no_request(self) -> None:
        for fields in (
            {'rotation': -1},
            {'rotation': '-1'},
            {'rotation': 'x'},
            {'rotation': 1.5},
            {'rotation': None},
            {'rotation': 10**9},
            {'backup_type': 1},
            {'backup_type': 'x' * 256},
            {'more': 1},
        ):
            answer = self.backup(**{'rotation': 1, **fields})
            self.assertEqual(400, answer.status_int, fields)
        self.assertEqual([], self.kept())
