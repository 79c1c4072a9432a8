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

"""Power actions: when they are possible, their names, and their bodies."""

import dataclasses
from typing import Any
from unittest import mock

from nova import exception as nova_exception
from nova.api.openstack import common
from nova.api.openstack.compute.schemas import pause_server
from nova.api.openstack.compute.schemas import servers
from nova.api.openstack.compute.schemas import suspend_server
from nova.compute import api as compute_api
from nova.compute import instance_actions
from nova.compute import manager
from nova.compute import task_states
import webob

from nova_snap import exception
from nova_snap.api.handlers import server_actions
from nova_snap.api.schemas import power_actions as schemas
from nova_snap.compute import power
from nova_snap.objects import task_state
from nova_snap.objects import vm_state
from tests.unit import base
from tests.unit.api import servers as samples

#: Nova's method for each of the actions, below its checks of a lock and a
#: host.
METHODS: dict[Any, tuple[str, tuple[Any, ...]]] = {
    power.PAUSE: ('pause', ()),
    power.UNPAUSE: ('unpause', ()),
    power.SUSPEND: ('suspend', ()),
    power.RESUME: ('resume', ()),
    power.START: ('start', ()),
    power.STOP: ('stop', ()),
    power.SOFT_REBOOT: ('reboot', ('SOFT',)),
    power.HARD_REBOOT: ('reboot', ('HARD',)),
}


class Accepted(Exception):
    """Nova would go on."""


class PowerTest(base.TestCase):
    """Nova itself is asked."""

    def nova_s_error(
        self, name: str, arguments: tuple[Any, ...], **state: Any
    ) -> Any:
        """Return Nova's error about a state; None if it would go on."""
        instance = mock.MagicMock(uuid='x', locked=False, **state)
        instance.save.side_effect = Accepted()
        instance.flavor.extra_specs = {}
        context = mock.MagicMock(is_admin=True)
        # The server has none of what keeps Nova from suspending it.
        self.patch(compute_api, 'instance_has_share', lambda *_args: False)
        self.patch(
            compute_api.hardware,
            'get_mem_encryption_constraint',
            mock.Mock(return_value=None),
        )
        api = mock.MagicMock()
        # The methods that a method calls are those of Nova, too.
        for called in ('_soft_reboot', '_hard_reboot', 'force_stop'):
            method = getattr(compute_api.API, called)
            setattr(api, called, method.__get__(api))
        try:
            getattr(compute_api.API, name)(api, context, instance, *arguments)
        except nova_exception.InstanceInvalidState as error:
            return error
        except Accepted:
            return None
        raise AssertionError(f'Nova did nothing to {name}.')

    def test_states(self) -> None:
        """Nova allows and refuses the same."""
        for change, (name, arguments) in METHODS.items():
            for state in vm_state.VmState:
                error = self.nova_s_error(
                    name, arguments, vm_state=state.value, task_state=None
                )
                self.assertEqual(
                    error is None, state in change.vm_states, (name, state)
                )

    def test_a_hard_reboot_meanwhile(self) -> None:
        for state in task_state.TaskState:
            if state is task_state.TaskState.REBOOTING_HARD:
                continue  # in Nova, for the moment until it is begun
            error = self.nova_s_error(
                'reboot',
                ('HARD',),
                vm_state='active',
                task_state=state.value,
            )
            self.assertEqual(error is None, state in power.REBOOTABLE, state)

    def test_images(self) -> None:
        for state in vm_state.VmState:
            with mock.patch(
                'nova.compute.utils.create_image', side_effect=Accepted()
            ):
                error = self.nova_s_error(
                    'snapshot',
                    ('x',),
                    vm_state=state.value,
                    task_state=None,
                )
            is_possible = state in server_actions.IMAGE_STATES
            self.assertEqual(error is None, is_possible, state)

    def test_names(self) -> None:
        known = {
            value
            for name, value in vars(instance_actions).items()
            if name.isupper()
        }
        for change in power.CHANGES:
            self.assertIn(change.name, known)
            method = change.event.removeprefix('compute_')
            self.assertTrue(hasattr(manager.ComputeManager, method), method)
            for state in change.task_state, change.begun:
                self.assertIn(state.value, vars(task_states).values())

    def test_bodies(self) -> None:
        for nova_s in (
            pause_server.pause,
            pause_server.unpause,
            servers.reboot,
            servers.start_server,
            servers.stop_server,
            suspend_server.resume,
            suspend_server.suspend,
        ):
            (name,) = nova_s['required']
            self.assertEqual(nova_s, schemas.SCHEMAS[name])

    def test_statuses(self) -> None:
        """Nova has the same status for a server on which this is done."""
        for change in power.CHANGES:
            for state in change.vm_states:
                server = samples.server(
                    activity=samples.server_view.Activity(
                        change.begun, vm_state=state
                    )
                )
                self.assertEqual(
                    common.status_from_state(state.value, change.begun.value),
                    server.status,
                )

    def test_sentences(self) -> None:
        uuid = samples.NOVAS.instance.uuid
        for name, state in (('paused', 'paused'), ('unknown', None)):
            now, is_saved = samples.STATES[name]
            details = dataclasses.replace(
                samples.NOVAS, power_state=now, is_saved=is_saved
            )
            ours = self.assertRaises(
                exception.Conflict,
                power.require_vm_state,
                details,
                'pause',
                power.PAUSE.vm_states,
            )
            error = nova_exception.InstanceInvalidState(
                attr='vm_state',
                state=state,
                instance_uuid=uuid,
                method='pause',
            )
            nova_s = self.assertRaises(
                webob.exc.HTTPConflict,
                common.raise_http_conflict_for_instance_invalid_state,
                *(error, 'pause', uuid),
            )
            self.assertEqual(nova_s.explanation, str(ours))
