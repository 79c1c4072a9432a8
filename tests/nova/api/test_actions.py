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

"""Answers of the API about actions and versions, by Nova's own schemas."""

from nova.api.openstack.compute import create_backup
from nova.api.openstack.compute import instance_actions
from nova.api.openstack.compute import servers
from nova.api.openstack.compute import versions

from nova_snap import exception
from nova_snap import progress as progress_lib
from tests.nova.api import schemas
from tests.unit.api import test_create_image
from tests.unit.compute import base as compute_base

SERVER = compute_base.INSTANCE.uuid
PATH = f'/v2.1/servers/{SERVER}/os-instance-actions'

Controller = instance_actions.InstanceActionsController


class ActionsTest(test_create_image.CreateImageTestCase):
    """In every version that is offered."""

    def test_versions(self) -> None:
        for minor in schemas.MINORS:
            version = f'2.{minor}'
            answer = self.get('/', version=version)
            schemas.validate(versions.Versions.index, minor, answer.json)
            answer = self.get('/v2.1/', version=version)
            schemas.validate(versions.VersionsV2.index, minor, answer.json)

    def test_actions_that_succeed_fail_and_wait(self) -> None:
        self.create()
        self.wait_for_end()
        self.assert_actions('Success')

        def fail(_request: compute_base.Request) -> None:
            raise exception.SnapshotFailed('It does not work.')

        self.driver.behave = fail
        self.create()
        self.wait_for_end()
        self.assert_actions('Error')
        with self.locks.snapshot_slot(progress_lib.Progress()):
            self.create()
            self.assert_actions(None)
        self.wait_for_end()

    def assert_actions(self, result: str | None) -> None:
        """Check the answers, and the result of the last action."""
        for minor in schemas.MINORS:
            version = f'2.{minor}'
            listed = self.get(PATH, version=version).json
            schemas.validate(Controller.index, minor, listed)
            request_id = listed['instanceActions'][0]['request_id']
            shown = self.get(f'{PATH}/{request_id}', version=version).json
            schemas.validate(Controller.show, minor, shown)
            results = [e['result'] for e in shown['instanceAction']['events']]
            self.assertEqual([result] if result else [], results)
        page = self.get(f'{PATH}?limit=1', version='2.58').json
        self.assertIn('links', page)
        schemas.validate(Controller.index, 58, page)

    def test_images_and_backups(self) -> None:
        for minor in (1, 38, 39, 44, 45, 90):
            answer = self.create(version=f'2.{minor}')
            schemas.validate(
                servers.ServersController._create_image,
                *(minor, answer.json if answer.body else None),
            )
            self.wait_for_end()
            answer = self.call(
                'POST',
                test_create_image.PATH,
                {
                    'createBackup': {
                        'name': 'x',
                        'backup_type': 'daily',
                        'rotation': 1,
                    }
                },
                version=f'2.{minor}',
            )
            schemas.validate(
                create_backup.CreateBackupController._create_backup,
                *(minor, answer.json if answer.body else None),
            )
            self.wait_for_end()
