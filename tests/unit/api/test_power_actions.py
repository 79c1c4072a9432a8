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

"""Power actions: answers, states, conflicts, and what is noted of them."""

import threading
from typing import Any

from nova_snap import concurrency
from nova_snap import exception
from nova_snap import undo
from nova_snap.api import calls
from nova_snap.api import power as power_actions
from nova_snap.api.db import models
from nova_snap.compute import power
from nova_snap.objects import instance as instance_lib
from nova_snap.objects import power_state
from nova_snap.virt import power as power_lib
from tests.unit import base as unit_base
from tests.unit import journals
from tests.unit.api import test_create_image
from tests.unit.compute import base as compute_base

SERVER = compute_base.INSTANCE.uuid
PATH = test_create_image.PATH

PowerState = power_state.PowerState

RUNNING = (PowerState.RUNNING, False)
PAUSED = (PowerState.PAUSED, False)
SUSPENDED = (PowerState.SHUTDOWN, True)
STOPPED = (PowerState.SHUTDOWN, False)
CRASHED = (PowerState.CRASHED, False)
UNKNOWN = (PowerState.NOSTATE, False)

SOFT: Any = {'reboot': {'type': 'SOFT'}}
HARD: Any = {'reboot': {'type': 'HARD'}}

#: Bodies, the state before, the status after, and the name of the action.
ACTIONS = (
    ({'pause': None}, RUNNING, 'PAUSED', 'pause'),
    ({'unpause': None}, PAUSED, 'ACTIVE', 'unpause'),
    ({'suspend': None}, RUNNING, 'SUSPENDED', 'suspend'),
    ({'resume': None}, SUSPENDED, 'ACTIVE', 'resume'),
    ({'os-start': None}, STOPPED, 'ACTIVE', 'start'),
    ({'os-stop': None}, RUNNING, 'SHUTOFF', 'stop'),
    ({'os-stop': None}, CRASHED, 'SHUTOFF', 'stop'),
    (SOFT, RUNNING, 'ACTIVE', 'reboot'),
    (HARD, PAUSED, 'ACTIVE', 'reboot'),
    (HARD, SUSPENDED, 'ACTIVE', 'reboot'),
    (HARD, STOPPED, 'ACTIVE', 'reboot'),
    (HARD, CRASHED, 'ACTIVE', 'reboot'),
)


class PowerTestCase(test_create_image.CreateImageTestCase):
    """Requests for power actions, which a test can hold."""

    def act(self, body: Any) -> Any:
        """Ask for an action."""
        return self.call('POST', PATH, body, version='2.45')

    def hold_action(
        self, _action: power_lib.Action, control: power_lib.Control
    ) -> None:
        """Go on when the test says so, or when the action has to hurry."""
        self.begun.set()
        while not self.shall_end.wait(0.02):
            control.check(SERVER)
            if control.hurry_reason is not None:
                return

    def held(self, body: Any) -> None:
        """Begin an action that is going on."""
        self.driver.act = self.hold_action
        self.assertEqual(202, self.act(body).status_int)
        self.assertTrue(self.begun.wait(unit_base.PATIENCE))

    def wait_for_end(self) -> None:
        """Wait until nothing is going on any more."""
        super().wait_for_end()
        self.wait_until(
            'every action has ended', lambda: not list(self.services.power)
        )

    def shown(self) -> Any:
        """Return the server as a client sees it."""
        return self.get(f'/v2.1/servers/{SERVER}').json['server']

    def noted(self) -> models.Action:
        """Return the last action."""
        return self.services.actions.list(SERVER)[0]

    def assert_conflict(self, answer: Any, sentence: str) -> None:
        """Check that an answer is a conflict, with Nova's sentence."""
        self.assert_error(answer, 409, 'conflictingRequest', sentence)


class TestPowerActions(PowerTestCase):
    """From the request to the new state."""

    def test_each(self) -> None:
        for body, before, after, name in ACTIONS:
            self.driver.state = before
            answer = self.act(body)
            self.assertEqual(202, answer.status_int, answer.text)
            self.assertEqual(b'', answer.body)
            self.wait_for_end()
            self.assertEqual(after, self.shown()['status'])
            (event,) = self.noted().events
            self.assertEqual(name, self.noted().action)
            self.assertEqual(f'compute_{name}_instance', event.event)
            self.assertEqual('Success', event.result)

    def test_other_states_conflict(self) -> None:
        for body, state, sentence in (
            ({'pause': None}, PAUSED, "'pause' instance {} while it is in "),
            ({'unpause': None}, RUNNING, 'vm_state active'),
            ({'suspend': None}, PAUSED, 'vm_state paused'),
            ({'resume': None}, STOPPED, 'vm_state stopped'),
            ({'os-start': None}, SUSPENDED, "Cannot 'start' instance {}"),
            ({'os-stop': None}, STOPPED, "Cannot 'stop' instance {}"),
            (SOFT, CRASHED, "'reboot' instance {} while it is in vm_state er"),
            (HARD, UNKNOWN, "Instance {} is in an invalid state for 'reboot'"),
        ):
            self.driver.state = state
            self.assert_conflict(self.act(body), sentence.format(SERVER))
        self.assertEqual([], self.services.actions.list(SERVER))

    def test_states_while_it_is_going_on(self) -> None:
        for body, status, task_state in (
            ({'pause': None}, 'ACTIVE', 'pausing'),
            ({'os-stop': None}, 'ACTIVE', 'powering-off'),
            (SOFT, 'REBOOT', 'reboot_started'),
            (HARD, 'HARD_REBOOT', 'reboot_started_hard'),
        ):
            self.driver.state = RUNNING
            self.begun.clear()
            self.shall_end.clear()
            self.held(body)
            # What the guest does meanwhile is not shown.
            self.driver.state = STOPPED
            shown = self.shown()
            self.assertEqual(status, shown['status'])
            self.assertEqual(task_state, shown['OS-EXT-STS:task_state'])
            self.assertEqual('active', shown['OS-EXT-STS:vm_state'])
            self.shall_end.set()
            self.wait_for_end()
            self.assertIsNone(self.shown()['OS-EXT-STS:task_state'])

    def test_a_failure_is_noted(self) -> None:
        def fail(*_arguments: Any) -> None:
            raise exception.HypervisorError(
                action='pause it', reason='it does not want'
            )

        self.driver.act = fail
        self.assertEqual(202, self.act({'pause': None}).status_int)
        self.wait_for_end()
        (event,) = self.noted().events
        self.assertEqual('Error', event.result)
        self.assertIn('it does not want', str(event.details))
        self.assertEqual('ACTIVE', self.shown()['status'])

    def test_what_would_keep_the_guest_from_coming_back(self) -> None:
        self.driver.power_error = exception.PowerActionRefused(
            action='suspend', server=SERVER, reason='it has a device.'
        )
        self.assert_conflict(self.act({'suspend': None}), 'has a device')
        self.assertEqual([], self.services.actions.list(SERVER))

    def test_servers_of_nova(self) -> None:
        self.driver.is_of_nova = True
        self.assert_conflict(self.act({'os-stop': None}), 'a server of Nova')
        self.services.power.manager = power.PowerManager(
            self.driver, self.manager, includes_nova=True
        )
        self.assertEqual(202, self.act({'os-stop': None}).status_int)

    def test_bodies(self) -> None:
        for body in (
            {'reboot': None},
            {'reboot': {}},
            {'reboot': {'type': 'WARM'}},
            {'reboot': {'type': 'SOFT', 'x': 1}},
        ):
            answer = self.act(body)
            self.assert_error(answer, 400, 'badRequest', '')
        # As in Nova, the other actions take any value.
        self.assertEqual(202, self.act({'pause': {'x': [1]}}).status_int)


class TestTooSlow(PowerTestCase):
    """A libvirt that answers when the client has gone."""

    def test_nothing_is_begun_later(self) -> None:
        self.patch(calls, 'ACCEPT_TIMEOUT', 0.1)
        answers = threading.Event()
        acted: list[power_lib.Action] = []
        real = self.driver.power

        def late(instance: instance_lib.Instance) -> power_lib.Power:
            answers.wait(unit_base.PATIENCE)
            return real(instance)

        self.patch(self.driver, 'power', late)
        self.driver.act = lambda action, control: acted.append(action)
        answer = self.act({'os-stop': None})
        self.assert_error(answer, 503, 'serviceUnavailable', 'nothing was beg')
        answers.set()
        self.wait_for_end()
        self.assertEqual([], acted)
        self.assertEqual(RUNNING, self.driver.state)
        self.assertEqual([], self.services.actions.list(SERVER))


class TestConflicts(PowerTestCase):
    """One thing at a time is done to a server."""

    def test_while_an_image_is_made(self) -> None:
        self.driver.behave = self.hold
        self.create()
        self.assertTrue(self.begun.wait(unit_base.PATIENCE))
        for body, name in (({'os-stop': None}, 'stop'), (HARD, 'reboot')):
            self.assert_conflict(
                self.act(body),
                f"Cannot '{name}' instance {SERVER} while it is in "
                'task_state image_pending_upload',
            )

    def test_while_another_process_makes_an_image(self) -> None:
        with self.locks.instance(SERVER):
            self.assert_conflict(
                self.act({'pause': None}), 'task_state image_snapshot'
            )
        self.assertEqual([], self.services.actions.list(SERVER))
        self.assertEqual(202, self.act({'pause': None}).status_int)

    def test_no_image_meanwhile(self) -> None:
        self.held({'os-stop': None})
        self.assert_conflict(
            self.create(),
            f"Cannot 'createImage' instance {SERVER} while it is in "
            'task_state powering-off',
        )

    def test_no_image_of_a_crashed_guest(self) -> None:
        self.driver.state = CRASHED
        self.assert_conflict(
            self.create(),
            f"Cannot 'createImage' instance {SERVER} while it is in vm_state "
            'error',
        )
        self.assert_nothing_is_left()

    def test_no_other_action_meanwhile(self) -> None:
        self.held({'os-stop': None})
        for body in ({'pause': None}, HARD):
            self.assert_conflict(self.act(body), 'task_state powering-off')

    def test_a_hard_reboot_ends_a_soft_one(self) -> None:
        self.held(SOFT)
        acted: list[power_lib.Action] = []
        self.driver.act = lambda action, control: acted.append(action)
        self.assertEqual(202, self.act(HARD).status_int)
        self.wait_for_end()
        self.assertEqual([power_lib.Action.HARD_REBOOT], acted)
        hard, soft = self.services.actions.list(SERVER)
        for action in hard, soft:
            self.assertEqual('Success', action.events[0].result)

    def hold_fast(
        self, _action: power_lib.Action, _control: power_lib.Control
    ) -> None:
        """Go on when the test says so, as libvirt may be slow."""
        self.begun.set()
        self.shall_end.wait(unit_base.PATIENCE)

    def begin_soft(self) -> None:
        """Begin a soft reboot that does not hurry."""
        self.driver.act = self.hold_fast
        self.assertEqual(202, self.act(SOFT).status_int)
        self.assertTrue(self.begun.wait(unit_base.PATIENCE))

    def test_a_hard_reboot_does_not_wait_for_ever(self) -> None:
        """The action that does not end is the one that is going on again."""
        self.patch(power_actions, 'END_TIMEOUT', 0.1)
        self.begin_soft()
        self.assertEqual(202, self.act(HARD).status_int)
        self.wait_until(
            'the hard reboot has failed',
            lambda: [e.result for e in self.noted().events] == ['Error'],
        )
        self.assertIn('has not ended', self.noted().events[0].details or '')
        self.wait_until(
            'the soft reboot is seen',
            lambda: self.shown()['OS-EXT-STS:task_state'] == 'reboot_started',
        )

    def test_a_hard_reboot_that_can_not_be_noted(self) -> None:
        """The action before it is seen, and not hurried."""
        self.begin_soft()
        soft = self.services.power.of(SERVER)

        def fail(*_arguments: Any) -> int:
            raise RuntimeError('the disk is full')

        self.patch(self.actions, 'begin', fail)
        self.assertEqual(500, self.act(HARD).status_int)
        self.assertIs(soft, self.services.power.of(SERVER))
        assert soft is not None
        self.assertIsNone(soft.control.hurry_reason)
        self.assert_conflict(self.act({'pause': None}), 'reboot_started')

    def test_a_hard_reboot_without_a_thread(self) -> None:
        self.begin_soft()

        def fail(*_arguments: Any) -> None:
            raise RuntimeError('no more threads')

        self.patch(concurrency, 'start_thread', fail)
        answer = self.act(HARD)
        self.assert_error(answer, 503, 'serviceUnavailable', 'threads')
        self.assertEqual(
            'reboot_started', self.shown()['OS-EXT-STS:task_state']
        )

    def test_hard_reboots_that_wait_are_one(self) -> None:
        self.begin_soft()
        acted: list[power_lib.Action] = []
        self.driver.act = lambda action, control: acted.append(action)
        for _number in range(3):
            self.assertEqual(202, self.act(HARD).status_int)
        self.assertEqual(
            'rebooting_hard', self.shown()['OS-EXT-STS:task_state']
        )
        self.shall_end.set()
        self.wait_for_end()
        self.assertEqual([power_lib.Action.HARD_REBOOT], acted)
        noted = self.services.actions.list(SERVER)
        self.assertEqual(4, len(noted))
        for action in noted:
            (event,) = action.events
            self.assertEqual('Success', event.result)

    def test_one_hard_reboot_at_a_time(self) -> None:
        self.held(HARD)
        self.assert_conflict(self.act(HARD), 'task_state reboot_started_hard')

    def test_many_at_once(self) -> None:
        self.driver.act = self.hold_action
        answers: list[int] = []

        def ask() -> None:
            answers.append(self.act({'os-stop': None}).status_int)

        attempts = [unit_base.Attempt(ask) for _ in range(30)]
        for attempt in attempts:
            self.assertIsNone(attempt.wait().error)
        self.shall_end.set()
        self.wait_for_end()
        self.assertEqual([202] + [409] * 29, sorted(answers))
        self.assertEqual(1, len(self.services.actions.list(SERVER)))


class TestFinish(PowerTestCase):
    """A soft reboot that fails after its guest was asked to shut down."""

    def test_it_is_finished_when_the_guest_has_shut_down(self) -> None:
        self.patch(power_actions, 'PAUSES', (0.01,) * 1000)
        attempts: list[undo.Data] = []

        def undone(data: undo.Data) -> None:
            attempts.append(data)
            if len(attempts) < 3:
                raise exception.HypervisorError(action='x', reason='it runs')

        def fail(*_arguments: Any) -> None:
            journals.leave(
                self.journal_directory, SERVER, 'web', compute_base.Start()
            )
            raise exception.HypervisorError(action='x', reason='device busy')

        self.driver.undo, self.driver.act = undone, fail
        self.assertEqual(202, self.act(SOFT).status_int)
        self.wait_until('it is finished', lambda: len(attempts) == 3)
        self.wait_until(
            'nothing is left', lambda: not list(self.journal.entries())
        )


class TestStop(PowerTestCase):
    """The end of the service."""

    def test_a_guest_that_shuts_down_is_left_to_that(self) -> None:
        self.held({'os-stop': None})
        (action,) = self.services.power
        stopping = unit_base.Attempt(lambda: self.services.stop(0))
        self.assertIsNone(stopping.wait().error)
        self.assertIsNone(action.control.hurry_reason)
        self.assertEqual(RUNNING, self.driver.state)
        (event,) = self.noted().events
        self.assertEqual('Error', event.result)
        self.assertIn('is left to that', str(event.details))
        answer = self.act({'os-start': None})
        self.assert_error(answer, 503, 'serviceUnavailable', 'being stopped')

    def test_what_does_not_end(self) -> None:
        """The service ends all the same; its next start puts things right."""
        self.patch(power_actions, 'LEAVE_TIMEOUT', 0.1)

        def hang(*_arguments: Any) -> None:
            self.begun.set()
            self.shall_end.wait(unit_base.PATIENCE)

        self.driver.act = hang
        self.assertEqual(202, self.act({'suspend': None}).status_int)
        self.assertTrue(self.begun.wait(unit_base.PATIENCE))
        self.services.stop(0)
        self.assertIn('ends during the suspend of server', self.log.output)

    def test_a_hard_reboot_that_waits(self) -> None:
        def slow(*arguments: Any) -> None:
            self.begun.set()
            self.shall_end.wait(unit_base.PATIENCE)
            acted.append(arguments[0])

        acted: list[power_lib.Action] = []
        self.driver.act = slow
        self.assertEqual(202, self.act(SOFT).status_int)
        self.assertTrue(self.begun.wait(unit_base.PATIENCE))
        self.assertEqual(202, self.act(HARD).status_int)
        (action,) = self.services.power
        stopping = unit_base.Attempt(lambda: self.services.stop(0))
        self.wait_until('it is left', lambda: action.control.is_left)
        self.assert_error(
            self.act(HARD), 503, 'serviceUnavailable', 'being stopped'
        )
        self.shall_end.set()
        self.assertIsNone(stopping.wait().error)
        self.assertEqual([power_lib.Action.SOFT_REBOOT], acted)
        (event,) = self.noted().events
        self.assertIn('being stopped', str(event.details))

    def test_what_is_going_on_may_end(self) -> None:
        self.held({'os-stop': None})
        is_over = threading.Event()

        def stop() -> None:
            self.services.stop(unit_base.PATIENCE)
            is_over.set()

        unit_base.Attempt(stop)
        self.wait_until(
            'nothing is accepted',
            lambda: self.act({'os-stop': None}).status_int == 503,
        )
        self.assertFalse(is_over.is_set())
        self.shall_end.set()
        self.assertTrue(is_over.wait(unit_base.PATIENCE))
