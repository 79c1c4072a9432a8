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

"""Answers for users who are not administrators, by Nova's own schemas.

Nova leaves out what a policy keeps from them.  Its schemas allow that and do
not ask for it, so each answer is compared with the administrator's, too.
"""

import dataclasses
import itertools
from typing import Any

from nova import policies as nova_policies
from nova.api.openstack.compute import create_backup
from nova.api.openstack.compute import instance_actions
from nova.api.openstack.compute import servers as nova_servers

from nova_snap.api import policies
from tests.nova.api import schemas
from tests.nova.api import test_answers
from tests.unit.api import base
from tests.unit.api import servers
from tests.unit.api import test_create_image
from tests.unit.api import test_policy
from tests.unit.compute import base as compute_base

SERVER = compute_base.INSTANCE.uuid

USERS = (test_policy.READER, test_policy.MEMBER)

#: What an event has for administrators only, since which version.
OF_EVENTS = (('traceback', 1), ('host', 62), ('details', 84))


class UsersTest(
    test_policy.PolicyTestCase, test_create_image.CreateImageTestCase
):
    """A reader and a member of a server's project, in every version."""

    def setUp(self) -> None:
        super().setUp()
        instance = dataclasses.replace(
            servers.NOVAS.instance, uuid=SERVER, project_id=base.PROJECT
        )
        self.driver.known = [
            dataclasses.replace(servers.NOVAS, instance=instance)
        ]

    def answers(self, path: str, minor: int, *roles: str) -> Any:
        """Return what a user with roles gets."""
        self.have(*roles)
        answer = self.get(f'/v2.1{path}', version=f'2.{minor}')
        self.assertEqual(200, answer.status_int, answer.text)
        return answer.json

    def test_each_call_and_version(self) -> None:
        for (path, method), minor in itertools.product(
            test_answers.CALLS, schemas.MINORS
        ):
            if 'os-hypervisors' in path:
                continue
            path = path.replace(test_answers.SERVER, SERVER)
            wanted = self.answers(path, minor, *test_policy.ADMIN)
            for server in (*wanted.get('servers', ()), wanted.get('server')):
                _hide_attributes(server or {}, minor)
            for roles in USERS:
                found = self.answers(path, minor, *roles)
                schemas.validate(method, minor, found)
                self.assertEqual(wanted, found, (path, minor, roles))

    def test_hypervisors_are_for_administrators(self) -> None:
        for path, roles in itertools.product(
            ('', '/detail', '/1', '/detail?with_servers=True'), USERS
        ):
            self.have(*roles)
            answer = self.get(f'/v2.1/os-hypervisors{path}', version='2.53')
            self.assertEqual(403, answer.status_int, answer.text)

    def test_images_of_a_member_and_their_actions(self) -> None:
        for minor in (1, 44, 45, 90):
            self.have(*test_policy.MEMBER)
            answer = self.create(version=f'2.{minor}')
            self.assertEqual(202, answer.status_int, answer.text)
            self.wait_for_end()
            schemas.validate(
                nova_servers.ServersController._create_image,
                *(minor, answer.json if answer.body else None),
            )
            fields = {'name': 'x', 'backup_type': 'daily', 'rotation': 1}
            answer = self.call(
                'POST',
                test_create_image.PATH,
                {'createBackup': fields},
                version=f'2.{minor}',
            )
            self.assertEqual(202, answer.status_int, answer.text)
            self.wait_for_end()
            schemas.validate(
                create_backup.CreateBackupController._create_backup,
                *(minor, answer.json if answer.body else None),
            )
        self.check_actions()

    def check_actions(self) -> None:
        """Check the answers about the actions on the server."""
        path = f'/servers/{SERVER}/os-instance-actions'
        controller = instance_actions.InstanceActionsController
        for minor in schemas.MINORS:
            wanted = self.answers(path, minor, *test_policy.ADMIN)
            one = f'{path}/{wanted["instanceActions"][0]["request_id"]}'
            detailed = self.answers(one, minor, *test_policy.ADMIN)
            _hide_in_events(detailed['instanceAction'], minor)
            for roles in USERS:
                found = self.answers(path, minor, *roles)
                schemas.validate(controller.index, minor, found)
                self.assertEqual(wanted, found)
                found = self.answers(one, minor, *roles)
                schemas.validate(controller.show, minor, found)
                self.assertEqual(detailed, found, (minor, roles))

    def test_defaults_are_those_of_nova(self) -> None:
        """A rule that hides something is the same as in Nova."""
        nova_s = {
            rule.name: rule.check_str for rule in nova_policies.list_rules()
        }
        # Nova sends the user's own token to Cinder.
        ours = {
            rule.name: rule.check_str
            for rule in policies.list_rules()
            if rule.name.startswith('os_compute_api:')
            and not rule.name.endswith('allow_volume_backed')
        }
        self.assertEqual({name: nova_s.get(name) for name in ours}, ours)


def _hide_attributes(server: dict[str, Any], minor: int) -> None:
    """Take away what only administrators see of a server."""
    server.pop('host_status', None)
    for name in list(server):
        prefix, _colon, field = name.partition(':')
        is_for_all = field == 'hostname' and minor >= 90
        if prefix == 'OS-EXT-SRV-ATTR' and not is_for_all:
            del server[name]


def _hide_in_events(action: dict[str, Any], minor: int) -> None:
    """Take away what only administrators see of an action."""
    if minor < 51:
        del action['events']
        return
    for event, (name, first) in itertools.product(action['events'], OF_EVENTS):
        if minor >= first:
            del event[name]
