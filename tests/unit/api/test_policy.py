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

"""Who may make which call, by roles and by an operator's own rules."""

import dataclasses
import os
import pathlib
import time
from typing import Any

from oslo_config import cfg

from nova_snap import exception
from nova_snap.api import app
from nova_snap.api import context as context_lib
from nova_snap.api import errors
from nova_snap.api import policies
from nova_snap.api import policy as policy_lib
from nova_snap.api import routes
from nova_snap.api.handlers import server_actions
from nova_snap.objects import instance as instance_lib
from tests.unit import base as unit_base
from tests.unit.api import base
from tests.unit.api import servers
from tests.unit.compute import base as compute_base

SERVER = compute_base.INSTANCE.uuid

READER = ('reader',)
MEMBER = ('member', 'reader')
ADMIN = ('admin', 'member', 'reader')

#: Methods and paths below ``/v2.1``; the roles that each needs.
CALLS = (
    ('GET', '/servers', READER),
    ('GET', '/servers/detail', READER),
    ('GET', f'/servers/{SERVER}', READER),
    ('GET', f'/servers/{SERVER}/os-instance-actions', READER),
    ('GET', f'/servers/{SERVER}/os-instance-actions/x', READER),
    ('GET', f'/servers/{SERVER}/snapshots', READER),
    ('GET', f'/servers/{SERVER}/snapshots/x', READER),
    ('DELETE', f'/servers/{SERVER}/snapshots/x', MEMBER),
    ('GET', '/servers?all_tenants=1', ADMIN),
    ('GET', '/servers/detail?all_tenants=1', ADMIN),
    ('GET', '/os-hypervisors', ADMIN),
    ('GET', '/os-hypervisors/detail', ADMIN),
    ('GET', '/os-hypervisors/1', ADMIN),
    ('GET', '/limits', ()),
    ('GET', '/extensions', ()),
    ('GET', '/extensions/servers', ()),
    ('GET', '/flavors', ()),
    ('GET', '/flavors/detail', ()),
    ('GET', '/flavors/x', ()),
)


class PolicyTestCase(base.ApiTestCase):
    """A server of the user's own project."""

    rules = ''

    def setUp(self) -> None:
        self.user = context_lib.Context(
            'req-1', 'u', base.PROJECT, access='what Keystone knows'
        )
        super().setUp()
        self.driver.known = [
            dataclasses.replace(servers.PLAIN, instance=compute_base.INSTANCE)
        ]

    def authentication(self) -> app.Authenticate:
        return lambda _request: self.user

    def policy_options(self) -> cfg.ConfigOpts:
        path = self.folder() / 'policy.yaml'
        path.write_text(self.rules)
        return options_with(path)

    def have(self, *roles: str) -> None:
        """Give the user roles."""
        self.user = dataclasses.replace(
            self.user, roles=roles, is_admin='admin' in roles
        )

    def post(self, document: Any) -> int:
        """Send an action; return the status."""
        path = f'/v2.1/servers/{SERVER}/action'
        status: int = self.call('POST', path, document).status_int
        return status


class DefaultsTest(PolicyTestCase):
    """Nova's defaults."""

    def test_each_call_needs_a_role_and_no_other(self) -> None:
        for method, path, needed in CALLS:
            for roles in ((), READER, MEMBER, ADMIN):
                self.have(*roles)
                status = self.call(method, f'/v2.1{path}').status_int
                allowed = set(needed) <= set(roles)
                self.assertEqual(
                    allowed, status in (200, 202, 404), (path, roles, status)
                )
                self.assertEqual(allowed, status != 403, (path, roles))

    def test_no_call_is_forgotten(self) -> None:
        tested = (
            routes.protected(method, f'/v2.1{path.split("?")[0]}')
            for method, path, _roles in CALLS
        )
        handlers = {found.handler for found in tested if found}
        self.assertEqual(
            {route.handler for route in routes.PROTECTED},
            handlers | {server_actions.run},
        )

    def test_each_action_has_a_policy_for_members(self) -> None:
        self.assertEqual(
            set(), set(server_actions.ACTIONS) - set(policies.ACTIONS)
        )
        for action in server_actions.ACTIONS:
            self.have(*READER)
            self.assertEqual(403, self.post({action: {}}), action)
            self.have(*MEMBER)
            self.assertNotIn(self.post({action: {}}), (403, 404), action)

    def test_images_of_volumes_are_for_administrators(self) -> None:
        device = instance_lib.BlockDevice('vda', 'virtio', 'disk', 'v', False)
        self.driver.block_devices = (  # type: ignore[method-assign]
            lambda _instance: (device,)
        )
        document = {'createImage': {'name': 'x'}}
        self.have(*MEMBER)
        self.assertEqual(403, self.post(document))
        self.have(*ADMIN)
        self.assertNotEqual(403, self.post(document))

    def test_administrator_of_the_host(self) -> None:
        """Without Keystone, nothing is refused."""
        self.have(*ADMIN)
        self.user = dataclasses.replace(self.user, access=None)
        for method, path, _needed in CALLS:
            status = self.call(method, f'/v2.1{path}').status_int
            self.assertIn(status, (200, 404), path)

    def test_another_project_is_not_there_whatever_the_roles(self) -> None:
        self.user = dataclasses.replace(self.user, project_id='other')
        for roles in ((), READER, MEMBER):
            self.have(*roles)
            answer = self.get(f'/v2.1/servers/{SERVER}')
            self.assert_error(answer, 404, 'itemNotFound', SERVER)

    def test_every_policy_is_documented_and_for_tokens_of_projects(
        self,
    ) -> None:
        for rule in policies.list_rules():
            self.assertTrue(rule.description, rule.name)
            if ':' in rule.name:
                self.assertEqual(['project'], rule.scope_types, rule.name)


class OwnRulesTest(PolicyTestCase):
    """Rules in the operator's file."""

    rules = """
"os_compute_api:servers:create_image": "role:imager"
"os_compute_api:os-instance-actions:events:details": "role:reader"
"""

    def test_they_replace_the_defaults(self) -> None:
        document = {'createImage': {'name': 'x'}}
        self.have(*MEMBER)
        self.assertEqual(403, self.post(document))
        self.have('imager')
        self.assertEqual(202, self.post(document))
        self.wait_until(
            'the snapshot has ended', lambda: not list(self.services.snapshots)
        )

    def test_a_file_that_can_not_be_used(self) -> None:
        path = self.folder() / 'policy.yaml'
        path.write_text('a: [')
        self.assertRaises(
            exception.InvalidConfiguration,
            policy_lib.Policy,
            options_with(path),
        )


class DetailsTest(PolicyTestCase):
    """What tells of the host is for administrators only."""

    REASON = 'No space in /var/lib/nova/secret.'

    def details(self) -> Any:
        """Return the event of an action that has failed."""
        number = self.actions.begin(
            self.user, SERVER, 'createImage', 'an image'
        )
        self.actions.end(number, 'compute_snapshot_instance', self.REASON)
        answer = self.get(
            f'/v2.1/servers/{SERVER}/os-instance-actions/req-1',
            version='2.84',
        )
        (event,) = answer.json['instanceAction']['events']
        return event

    def test_event(self) -> None:
        self.have(*MEMBER)
        event = self.details()
        self.assertEqual('Error', event['result'])
        for field in ('details', 'host', 'traceback'):
            self.assertNotIn(field, event)

    def test_event_for_administrators(self) -> None:
        self.have(*ADMIN)
        event = self.details()
        self.assertEqual(self.REASON, event['details'])
        self.assertEqual('host', event['host'])

    def answer_to(self, error: Exception) -> Any:
        """Return the answer to a request that fails in the core."""

        def fail(_server: str) -> Any:
            raise error

        self.driver.instance = fail  # type: ignore[method-assign]
        return self.get(f'/v2.1/servers/{SERVER}')

    def test_errors_of_the_core(self) -> None:
        for error, status in (
            (exception.SnapshotFailed(self.REASON), 500),
            (exception.Conflict(self.REASON), 409),
            (exception.Unavailable(self.REASON), 503),
            (exception.Invalid(self.REASON), 400),
            (exception.NotPermitted(self.REASON), 403),
            (exception.NovaSnapError(self.REASON), 500),
        ):
            self.have(*MEMBER)
            answer = self.answer_to(error)
            self.assertEqual(status, answer.status_int)
            self.assertNotIn('/var', answer.text)
            self.assertIn(errors.HIDDEN, answer.text)
            self.have(*ADMIN)
            self.assertIn(self.REASON, self.answer_to(error).text)

    def test_errors_that_a_user_can_mend(self) -> None:
        self.have(*MEMBER)
        answer = self.answer_to(exception.InvalidName(reason='too long.'))
        self.assert_error(answer, 400, 'badRequest', 'too long.')
        in_a_state = exception.InvalidState(
            server=SERVER, action='stop', attr='vm_state', state='stopped'
        )
        answer = self.answer_to(in_a_state)
        self.assert_error(
            answer, 409, 'conflictingRequest', 'while it is in vm_state stop'
        )


class ActionsTest(unit_base.TestCase):
    """Policies are there for the actions that there are."""

    def test_each(self) -> None:
        self.assertEqual(
            policies.ACTIONS.keys(), server_actions.ACTIONS.keys()
        )


class ChangedFileTest(PolicyTestCase):
    """An operator's file that is replaced while the service runs."""

    rules = '"os_compute_api:servers:show": "role:admin"'

    def setUp(self) -> None:
        super().setUp()
        self.have(*READER)
        self.now = time.time()

    def policy_options(self) -> cfg.ConfigOpts:
        found = super().policy_options()
        self.path = pathlib.Path(found.oslo_policy.policy_file)
        return found

    def replace(self, text: str) -> None:
        """Replace the file, with a later time."""
        new = self.path.with_suffix('.new')
        new.write_text(text)
        self.now += 10
        os.utime(new, (self.now, self.now))
        new.rename(self.path)

    def status(self) -> int:
        """Return the status of the answer to somebody who reads."""
        status: int = self.get(f'/v2.1/servers/{SERVER}').status_int
        return status

    def test_a_file_that_can_not_be_used(self) -> None:
        self.assertEqual(403, self.status())
        self.replace('a: [broken')
        self.assertEqual(403, self.status())
        self.assertIn('can not be used', self.log.output)
        self.replace('"os_compute_api:servers:show": "role:reader"')
        self.assertEqual(200, self.status())


class ExtraSpecsTest(PolicyTestCase):
    """A role that may not see extra specs."""

    rules = """
"os_compute_api:servers:show:flavor-extra-specs": "!"
"os_compute_api:os-flavor-extra-specs:index": "!"
"""

    def test_they_are_left_out(self) -> None:
        self.have(*READER)
        shown = self.get(f'/v2.1/servers/{SERVER}', version='2.47').json
        self.assertNotIn('extra_specs', shown['server']['flavor'])
        for flavor in self.get('/v2.1/flavors/detail', version='2.61').json[
            'flavors'
        ]:
            self.assertNotIn('extra_specs', flavor)


def options_with(path: pathlib.Path) -> cfg.ConfigOpts:
    """Return the options of policies, with an operator's file."""
    options = cfg.ConfigOpts()
    options([], default_config_files=[], default_config_dirs=[])
    policy_lib.policy.Enforcer(options)
    options.set_override('policy_file', str(path), 'oslo_policy')
    return options
