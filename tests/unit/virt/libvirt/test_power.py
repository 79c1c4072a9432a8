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

"""Power actions on a guest, and what becomes of those that are interrupted."""

from collections.abc import Callable
import dataclasses
import pathlib

import libvirt

from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap import this_host
from nova_snap import undo
from nova_snap.virt import power
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import hooks
from nova_snap.virt.libvirt import power as libvirt_power
from nova_snap.virt.libvirt import power_steps
from nova_snap.virt.libvirt import requirements
from nova_snap.virt.libvirt import shutdown
from nova_snap.virt.libvirt import undo_steps
from tests.unit.virt.libvirt import base
from tests.unit.virt.libvirt import fake_libvirt
from tests.unit.virt.libvirt import samples

Action = power.Action

ORIGIN = this_host.Origin(boot=this_host.boot_id())


def fail(message: str = 'no') -> Callable[[], None]:
    """Return what fails as libvirt does."""

    def failing() -> None:
        raise fake_libvirt.error(libvirt.VIR_ERR_OPERATION_FAILED, message)

    return failing


class PowerTestCase(base.GuestTestCase):
    """The power of a guest that shuts down when it is asked."""

    def setUp(self) -> None:
        super().setUp()
        self.domain = fake_libvirt.Domain(samples.raw_disk())
        self.domain.shut_down = self.domain.destroy
        self.patch(requirements, '_exists', lambda path: True)
        self.guest = self.use(self.domain)
        self.control = power.Control()
        self.power = libvirt_power.LibvirtPower(
            self.guest,
            libvirt_power.Timeouts(stop=1, soft_reboot=1),
            pathlib.Path('/snapshots'),
        )

    def act(self, action: Action) -> None:
        """Carry out an action, with a journal."""
        resources = undo.Resources(self.guest, hooks.NONE)
        with self.journal.begun('uuid', 'name', resources) as entry:
            self.power.act(action, entry, self.control)

    def refusal(self, action: Action) -> str:
        """Return why an action is refused."""
        error = self.assertRaises(
            exception.Conflict, self.power.require, action
        )
        self.assertEqual(base.RUNNING, self.domain.state_now)
        return str(error)


class TestReboot(PowerTestCase):
    """The end of a guest, and its new start."""

    def test_a_guest_that_does_not_start_again(self) -> None:
        """It is shown as it is: off; and nobody starts it later."""
        self.domain.create = fail('no memory')
        error = self.assertRaises(
            exception.HypervisorError, self.act, Action.HARD_REBOOT
        )
        self.assertIn('no memory', str(error))
        self.assertEqual(base.SHUTOFF, self.domain.state_now)
        self.assertEqual([], self.steps_left())
        self.assertIn('does not run after its reboot', self.log.output)

    def test_a_guest_that_can_not_be_ended(self) -> None:
        self.domain.end = fail('it hangs')
        self.assertRaises(
            exception.HypervisorError, self.act, Action.HARD_REBOOT
        )
        self.assertEqual(1, self.domain.number)
        self.assertEqual([], self.steps_left())

    def test_a_guest_that_does_not_hear(self) -> None:
        self.domain.shut_down = fail()
        for action in Action.SOFT_REBOOT, Action.STOP:
            self.act(action)
            self.assertIn('has not shut down within 1 s', self.log.output)
        self.assertEqual(2, self.domain.number)
        self.assertEqual(base.SHUTOFF, self.domain.state_now)

    def test_a_hurry(self) -> None:
        self.domain.shut_down = lambda: self.control.hurry('hurry!')
        self.act(Action.SOFT_REBOOT)
        self.assertIn('hurry!', self.log.output)
        self.assertEqual(2, self.domain.number)

    def test_what_another_program_starts_is_not_ended(self) -> None:
        def restart() -> None:
            self.domain.number = 7

        self.domain.shut_down = restart
        for action in Action.SOFT_REBOOT, Action.STOP:
            self.domain.number = 1
            self.act(action)
            self.assertEqual(7, self.domain.number)
            self.assertEqual(base.RUNNING, self.domain.state_now)

    def test_nor_if_it_is_started_at_the_last_moment(self) -> None:
        def late(*_arguments: object) -> bool:
            self.domain.number = 7
            return False

        self.patch(shutdown, '_shut_down', late)
        self.act(Action.STOP)
        self.assertEqual(base.RUNNING, self.domain.state_now)

    def test_a_guest_that_ends_while_it_is_switched_off(self) -> None:
        def late() -> None:
            self.domain.state_now = base.SHUTOFF
            fail('domain is not running')()

        self.domain.end = late
        self.act(Action.HARD_REBOOT)
        self.assertEqual(2, self.domain.number)

    def test_memory_that_another_program_saves_meanwhile(self) -> None:
        self.domain.shut_down = self.domain.managedSave
        self.assertRaises(
            exception.PowerActionRefused, self.act, Action.SOFT_REBOOT
        )
        self.assertTrue(self.domain.is_saved)
        self.assertEqual(base.SHUTOFF, self.domain.state_now)
        self.assertEqual([], self.steps_left())

    def test_memory_that_was_saved_before(self) -> None:
        self.domain.managedSave()
        self.act(Action.HARD_REBOOT)
        self.assertEqual(base.RUNNING, self.domain.state_now)
        self.assertFalse(self.domain.restored)


class TestAsking(PowerTestCase):
    """How a guest is asked to shut down."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(shutdown, 'ASK_AGAIN_AFTER', 0)
        self.patch(progress_lib, 'POLL_INTERVAL', 0.01)

    def test_an_agent_that_may_not(self) -> None:
        """The guest is asked by ACPI at once, not at the next time."""
        self.patch(shutdown, 'ASK_AGAIN_AFTER', 1000)
        self.domain.agent_shut_down = fail('guest-shutdown was disabled')
        self.act(Action.STOP)
        self.assertEqual(['agent', 'acpi'], self.domain.asked)
        self.assertIn('guest-shutdown was disabled', self.log.output)
        self.assertNotIn('switched off', self.log.output)

    def test_an_agent_that_hangs(self) -> None:
        def hang() -> None:
            raise fake_libvirt.error(
                libvirt.VIR_ERR_AGENT_UNRESPONSIVE, 'not available for now'
            )

        self.domain.agent_shut_down = hang
        self.act(Action.STOP)
        self.assertEqual(['agent', 'acpi'], self.domain.asked)
        self.assertEqual(
            guest_lib.AGENT_ANSWER_TIMEOUT,
            self.domain.agent_timeouts['guest-shutdown'],
        )
        self.assertNotIn('switched off', self.log.output)

    def test_an_agent_that_comes_late(self) -> None:
        connected, self.domain.agent = self.domain.agent, ''

        def come() -> None:
            self.domain.agent = connected

        self.domain.shut_down = come
        self.domain.agent_shut_down = self.domain.destroy
        self.act(Action.STOP)
        self.assertEqual(['acpi', 'agent'], self.domain.asked)

    def test_libvirtd_is_away_for_a_moment(self) -> None:
        asked: list[int] = []
        real = self.guest.shut_down

        def away() -> None:
            asked.append(1)
            if len(asked) == 1:
                raise exception.HypervisorUnavailable(uri='', reason='reset')
            real()

        self.domain.agent = ''
        self.patch(self.guest, 'shut_down', away)
        self.act(Action.SOFT_REBOOT)
        self.assertEqual(2, self.domain.number)
        self.assertNotIn('switched off', self.log.output)


class TestAsked(PowerTestCase):
    """A soft reboot that fails after the guest was asked to shut down."""

    def setUp(self) -> None:
        super().setUp()
        self.domain.shut_down = lambda: None

    def test_it_can_not_be_switched_off_at_once(self) -> None:
        self.domain.end = fail('device busy')
        error = self.assertRaises(
            exception.HypervisorError, self.act, Action.SOFT_REBOOT
        )
        self.assertIn('device busy', str(error))
        self.assert_finished_later()

    def test_the_service_is_stopped(self) -> None:
        self.control.leave()
        self.assertRaises(
            exception.ActionInterrupted, self.act, Action.SOFT_REBOOT
        )
        self.assertEqual(1, len(self.domain.asked))
        self.assert_finished_later()

    def test_the_service_is_stopped_while_a_guest_stops(self) -> None:
        self.control.leave()
        self.assertRaises(exception.ActionInterrupted, self.act, Action.STOP)
        self.assertEqual(base.RUNNING, self.domain.state_now)
        self.assertEqual(1, len(self.domain.asked))
        self.assertEqual([], self.steps_left())

    def assert_finished_later(self) -> None:
        """Check that the guest is started when it has shut down at last."""
        self.assertEqual(1, self.domain.number)
        (entry,) = self.journal.entries()
        self.domain.state_now = base.SHUTOFF
        entry.undo_all(undo.Resources(self.guest, hooks.NONE, ORIGIN))
        self.assertEqual(base.RUNNING, self.domain.state_now)
        self.assertEqual((), entry.kinds)


class TestRefused(PowerTestCase):
    """What keeps a guest from coming back as it is."""

    def test_devices_of_the_host(self) -> None:
        self.domain.devices = [samples.hostdev(1)]
        self.assertIn('has the device', self.refusal(Action.SUSPEND))
        self.power.require(Action.HARD_REBOOT)

    def test_memory_of_an_earlier_run(self) -> None:
        self.domain.is_saved = True
        self.assertIn('earlier run', self.refusal(Action.SUSPEND))
        self.power.require(Action.STOP)

    def test_work_of_other_programs(self) -> None:
        self.domain.backup_job = '<domainbackup/>'
        for action in Action.SUSPEND, Action.STOP, Action.HARD_REBOOT:
            self.assertIn('Another program', self.refusal(action))
        for action in Action.PAUSE, Action.UNPAUSE:
            self.power.require(action)


class TestRecovery(PowerTestCase):
    """What a later process does after a kill."""

    def setUp(self) -> None:
        super().setUp()
        self.soft = power_steps.FinishReboot.of(self.guest, 1)
        self.hard = power_steps.FinishReboot.of(self.guest, 0)

    def undo(self, step: undo.Step, origin: this_host.Origin = ORIGIN) -> None:
        """Undo a step, as a recovery does."""
        found = hooks.Hooks(is_none_moved=True)
        step.undo(undo.Resources(self.guest, found, origin))

    def test_a_guest_that_is_off_is_started(self) -> None:
        for step in self.soft, self.hard:
            self.domain.destroy()
            self.undo(step)
            self.assertEqual(base.RUNNING, self.domain.state_now)

    def test_a_guest_that_was_not_asked_yet(self) -> None:
        self.undo(self.soft)
        self.assertEqual(1, len(self.domain.asked))
        self.assertNotIn('switched off', self.log.output)
        self.assertEqual(2, self.domain.number)
        self.undo(self.soft)  # twice does no harm
        self.assertEqual(2, self.domain.number)

    def test_a_guest_that_does_not_hear(self) -> None:
        self.domain.shut_down = lambda: None
        self.undo(self.soft)
        self.assertIn('switched off', self.log.output)
        self.assertEqual(2, self.domain.number)

    def test_a_guest_that_can_not_be_ended(self) -> None:
        self.domain.shut_down = lambda: None
        self.domain.end = fail('device busy')
        self.assertRaises(exception.HypervisorError, self.undo, self.soft)
        self.assertEqual(1, self.domain.number)

    def test_a_guest_of_a_hard_reboot_that_was_not_ended(self) -> None:
        self.undo(self.hard)
        self.assertEqual(1, self.domain.number)

    def test_memory_that_was_saved_meanwhile(self) -> None:
        for step in self.soft, self.hard:
            self.domain.state_now = base.RUNNING
            self.domain.managedSave()
            self.undo(step)
            self.assertTrue(self.domain.is_saved)
            self.assertEqual(base.SHUTOFF, self.domain.state_now)
            self.assertIn('has saved its memory meanwhile', self.log.output)

    def test_memory_that_was_saved_before(self) -> None:
        self.domain.managedSave()
        step = power_steps.FinishReboot.of(self.guest, 0)
        self.undo(step)
        self.assertEqual(base.RUNNING, self.domain.state_now)
        self.assertFalse(self.domain.restored)

    def test_a_guest_that_was_paused_meanwhile(self) -> None:
        self.domain.suspend()
        self.undo(self.soft)
        self.assertEqual(base.PAUSED, self.domain.state_now)
        self.assertEqual(1, self.domain.number)
        self.assertIn('was paused meanwhile', self.log.output)

    def test_a_reboot_of_long_ago(self) -> None:
        """An operator may have stopped the guest, or uses it."""
        long_ago = self.soft.begun_at - power_steps.FINISH_WITHIN - 2
        for step in self.soft, self.hard:
            old = dataclasses.replace(step, begun_at=long_ago)
            for state in base.SHUTOFF, base.RUNNING:
                self.domain.state_now = state
                self.undo(old)
                self.assertEqual(state, self.domain.state_now)
                self.assertEqual(1, self.domain.number)
        self.assertEqual([], self.domain.asked)
        self.assertIn('was interrupted at least', self.log.output)

    def test_a_host_that_was_down(self) -> None:
        """Only since its boot could somebody have stopped the guest."""
        before = this_host.Origin(boot='another')
        self.domain.destroy()
        self.patch(this_host, 'uptime', lambda: 60.0)
        self.undo(self.soft, before)
        self.assertEqual(base.RUNNING, self.domain.state_now)
        self.domain.destroy()
        self.patch(this_host, 'uptime', lambda: 3600.0)
        self.undo(self.soft, before)
        self.assertEqual(base.SHUTOFF, self.domain.state_now)

    def test_a_guest_that_does_not_start(self) -> None:
        self.domain.destroy()
        self.domain.create = fail()
        self.undo(self.soft)  # given up
        self.assertIn('does not run after its reboot', self.log.output)

    def test_a_save_that_was_broken_off(self) -> None:
        """The guest runs, and a part of its memory is left."""

        def break_off() -> None:
            self.domain.is_saved = True
            fail('broken off')()

        self.domain.save = break_off
        self.assertRaises(exception.HypervisorError, self.act, Action.SUSPEND)
        self.assertFalse(self.domain.is_saved)
        self.assertEqual(base.RUNNING, self.domain.state_now)

    def test_a_guest_that_was_saved_stays_suspended(self) -> None:
        self.act(Action.SUSPEND)
        self.undo(power_steps.EndSave())
        self.assertTrue(self.domain.is_saved)
        self.assertEqual(base.SHUTOFF, self.domain.state_now)

    def test_a_job_of_another_program_is_no_save(self) -> None:
        self.patch(undo_steps, 'SAVE_TIMEOUT', 0)
        self.domain.job_now = libvirt.VIR_DOMAIN_JOB_OPERATION_DUMP
        self.undo(power_steps.EndSave())
        self.domain.job_now = libvirt.VIR_DOMAIN_JOB_OPERATION_SAVE
        error = self.assertRaises(
            exception.HypervisorError, self.undo, power_steps.EndSave()
        )
        self.assertIn('could not end the suspension', str(error))
