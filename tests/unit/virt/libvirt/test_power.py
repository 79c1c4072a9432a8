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
import pathlib

import libvirt

from nova_snap import exception
from nova_snap import this_host
from nova_snap import undo
from nova_snap.virt import power
from nova_snap.virt.libvirt import hooks
from nova_snap.virt.libvirt import power as libvirt_power
from nova_snap.virt.libvirt import requirements
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
        self.power = libvirt_power.LibvirtPower(
            self.guest,
            libvirt_power.Timeouts(stop=1, soft_reboot=1),
            pathlib.Path('/snapshots'),
        )

    def act(self, action: Action) -> None:
        """Carry out an action, with a journal."""
        resources = undo.Resources(self.guest, hooks.NONE)
        with self.journal.begun('uuid', 'name', resources) as entry:
            self.power.act(action, entry, self.progress)

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
        self.domain.shut_down = lambda: self.progress.cancel('hurry!')
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

        self.patch(libvirt_power, 'shut_down', late)
        self.act(Action.STOP)
        self.assertEqual(base.RUNNING, self.domain.state_now)


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
        self.patch(undo_steps, 'SHUTDOWN_GRACE', 0.1)
        run = self.guest.run()
        self.soft = undo_steps.FinishReboot(run, is_soft=True)
        self.hard = undo_steps.FinishReboot(run, is_soft=False)

    def undo(self, step: undo.Step) -> None:
        """Undo a step, as a recovery does."""
        step.undo(undo.Resources(self.guest, hooks.NONE, ORIGIN))

    def test_a_guest_that_is_off_is_started(self) -> None:
        for step in self.soft, self.hard:
            self.domain.destroy()
            self.undo(step)
            self.assertEqual(base.RUNNING, self.domain.state_now)

    def test_a_guest_that_may_be_shutting_down(self) -> None:
        self.undo(self.soft)
        self.assertEqual(2, self.domain.number)
        self.undo(self.soft)  # twice does no harm
        self.assertEqual(2, self.domain.number)

    def test_a_guest_that_was_not_asked_anything(self) -> None:
        self.undo(self.hard)
        self.assertEqual(1, self.domain.number)

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
        self.undo(undo_steps.EndSave())
        self.assertTrue(self.domain.is_saved)
        self.assertEqual(base.SHUTOFF, self.domain.state_now)
