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


"""Rebuilds: what Nova takes, when, and what it answers."""

import dataclasses
import itertools
from typing import Any
from unittest import mock

from nova import exception as nova_exception
from nova.api.openstack import common
from nova.api.openstack.compute import servers as nova_servers
from nova.api.openstack.compute.schemas import servers as nova_schemas
from nova.api.validation import validators
from nova.compute import api as compute_api
from nova.compute import instance_actions
from nova.compute import manager
from nova.compute import task_states
from nova.policies import servers as nova_policies

from nova_snap.api import errors
from nova_snap.api import policies
from nova_snap.api import rebuilds
from nova_snap.api import validation
from nova_snap.api.schemas import rebuild as schemas
from nova_snap.objects import task_state
from nova_snap.objects import vm_state
from tests.nova.api import schemas as oracle
from tests.unit import base
from tests.unit.api import servers as samples

IMAGE = '5c0e8d1f-7a2b-4936-8b1d-4f06a3c7e925'

#: Nova's schemas, by the first microversion of each.
NOVA_S = {
    1: nova_schemas.rebuild,
    19: nova_schemas.rebuild_v219,
    54: nova_schemas.rebuild_v254,
    57: nova_schemas.rebuild_v257,
    63: nova_schemas.rebuild_v263,
    90: nova_schemas.rebuild_v290,
}

STATES = (
    task_state.TaskState.REBUILDING,
    task_state.TaskState.REBUILD_BLOCK_DEVICE_MAPPING,
    task_state.TaskState.REBUILD_SPAWNING,
)

#: Values of fields; Nova takes some of them, and refuses the others.
VALUES: dict[str, tuple[Any, ...]] = {
    'name': ('x', '', ' x', 'x ', 'x' * 255, 'x' * 256, 1, None, 'ü', '\t'),
    'imageRef': (IMAGE, IMAGE.upper(), 'x', '', None, 1),
    'adminPass': ('x', '', 1, None, 'x' * 1000),
    'metadata': (
        {},
        {'a': 'b'},
        {'a b:c._-': ''},
        {'': 'x'},
        {'x' * 256: 'x'},
        {'a': 'x' * 256},
        {'a': None},
        {'ü': 'x'},
        None,
    ),
    'preserve_ephemeral': (True, False, 'yes', 'NO', 'maybe', None, 2),
    'OS-DCF:diskConfig': ('AUTO', 'MANUAL', 'auto', None),
    'accessIPv4': ('192.0.2.1', '2001:db8::1', '192.0.2', '', None),
    'accessIPv6': ('192.0.2.1', '2001:db8::1', 'x', '', None),
    'personality': (
        [],
        [{}],
        [{'path': '/x', 'contents': 'eA=='}],
        [{'path': 1}],
        [{'x': 'x'}],
        None,
    ),
    'description': ('x', '', None, 'x' * 255, 'x' * 256, 1),
    'key_name': ('x', '', None, 'x' * 256, 1),
    'user_data': ('eA==', '', None, 'A' * 65536, 1),
    'trusted_image_certificates': (
        ['x'],
        [],
        [''],
        ['x', 'x'],
        [str(number) for number in range(51)],
        None,
        'x',
    ),
    'hostname': ('x1', 'a-b', 'x', '-a', 'a-', 'a.b', 'a' * 64, None),
    'another': ('x',),
}


class RebuildTest(base.TestCase):
    """Nova itself is asked."""

    def test_bodies(self) -> None:
        for first, nova_s in NOVA_S.items():
            ours = schemas.of_version(first)
            self.assertEqual(
                *(
                    set(one['properties']['rebuild']['properties'])
                    for one in (nova_s, ours)
                )
            )
            self.assertIs(ours, schemas.SCHEMAS[first])
        self.assertEqual(set(NOVA_S), set(schemas.SCHEMAS))
        self.assertIs(schemas.SCHEMAS[19], schemas.of_version(53))

    def test_values(self) -> None:
        for minor in NOVA_S:
            for name, values in VALUES.items():
                for value in values:
                    body = {'rebuild': {'imageRef': IMAGE, name: value}}
                    self.assertEqual(
                        self.is_taken_by_nova(minor, body),
                        self.is_taken(minor, body),
                        (minor, name, value),
                    )
        for body in ({}, {'rebuild': {}}, {'rebuild': None}):
            self.assertFalse(self.is_taken(90, body))

    def is_taken(self, minor: int, body: Any) -> bool:
        """Return True if the service takes a body."""
        try:
            validation.require(body, schemas.of_version(minor))
        except errors.BadRequest:
            return False
        return True

    def is_taken_by_nova(self, minor: int, body: Any) -> bool:
        """Return True if Nova takes a body."""
        try:
            validators._SchemaValidator(NOVA_S[minor]).validate(body)
        except nova_exception.ValidationError:
            return False
        return True

    def test_answers(self) -> None:
        """Nova could give each of these answers."""
        method = nova_servers.ServersController._rebuild
        for minor, guest, is_admin in itertools.product(
            oracle.MINORS, (samples.PLAIN, samples.NOVAS), (True, False)
        ):
            details = dataclasses.replace(guest, image_id=IMAGE)
            server = samples.server(
                details,
                activity=samples.server_view.Activity(
                    STATES[0], 0, vm_state.VmState.ACTIVE, IMAGE
                ),
            )
            view = samples.view(minor, is_admin)
            document = {'server': view.rebuilt(server)}
            oracle.validate(method, minor, document)
            self.assertEqual('REBUILD', document['server']['status'])
            # A server that is shown has these fields, too.
            oracle.validate(
                nova_servers.ServersController.show,
                minor,
                {'server': view.shown(server)},
            )

    def test_statuses(self) -> None:
        for vm, task in itertools.product(rebuilds.VM_STATES, STATES):
            server = samples.server(
                activity=samples.server_view.Activity(task, vm_state=vm)
            )
            self.assertEqual(
                common.status_from_state(vm.value, task.value), server.status
            )

    def test_vm_states(self) -> None:
        for state in vm_state.VmState:
            instance = mock.MagicMock(
                uuid='x', locked=False, vm_state=state.value, task_state=None
            )
            self.assertEqual(
                state in rebuilds.VM_STATES, self.is_possible(instance), state
            )

    def is_possible(self, instance: Any) -> bool:
        """Return True if Nova rebuilds an instance in its state."""
        # Below what Nova looks at before its state.
        method = compute_api.API.rebuild
        while hasattr(method, '__wrapped__'):
            names = method.__code__.co_freevars
            if 'vm_state' in names and 'task_state' in names:
                break
            method = method.__wrapped__
        api = mock.MagicMock()
        api._get_image.side_effect = nova_exception.ImageNotFound(image_id='x')
        services = 'nova.objects.service.get_minimum_version_all_cells'
        with mock.patch(services, return_value=1000):
            try:
                method(api, mock.MagicMock(), instance, IMAGE, 'x')
            except nova_exception.InstanceInvalidState:
                return False
            except nova_exception.ImageNotFound:
                return True
        raise AssertionError('Nova did nothing.')

    def test_names(self) -> None:
        self.assertEqual(instance_actions.REBUILD, rebuilds.NAME)
        method = rebuilds.EVENT.removeprefix('compute_')
        self.assertTrue(hasattr(manager.ComputeManager, method))
        for state in STATES:
            self.assertIn(state.value, task_states.rebuild_states)

    def test_policies(self) -> None:
        nova_s = {rule.name: rule for rule in nova_policies.list_rules()}
        ours = {rule.name: rule for rule in policies.list_rules()}
        for name in ('rebuild', 'rebuild:trusted_certs'):
            rule = policies.SERVERS % name
            self.assertEqual(nova_s[rule].check_str, ours[rule].check_str)
