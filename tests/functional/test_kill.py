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

"""A snapshot process that is killed with -9, and the recovery after it."""

import os
import random
import signal
import subprocess
import time
from typing import ClassVar

from tests.functional import base
from tests.lab import exhaustive
from tests.lab import guest as guest_lib
from tests.lab import steps

COLD = {'workarounds': {'disable_libvirt_livesnapshot': 'true'}}

#: Chooses the moments of :meth:`TestKilledLive.test_at_any_moment`; a failure
#: names the one that it had.
SEED = int(os.environ.get('NOVA_SNAP_TEST_SEED') or time.time_ns() % 10**6)
MOMENTS = exhaustive.choose(range(12), range(3))


class KillTestCase(base.SnapshotTestCase):
    """Kill, recover, look; with a guest that writes all the time."""

    POINTS: ClassVar[tuple[steps.Point, ...]]

    #: Further arguments of the command.
    ARGUMENTS: ClassVar[tuple[str, ...]] = ()

    def setUp(self) -> None:
        super().setUp()
        self.guest = self.guest_to_kill()
        self.found = base.Found.of(self.guest)
        self.assertTrue(self.found.is_persistent)
        self.assertIn('secret', self.found.definition)

    def guest_to_kill(self) -> guest_lib.Guest:
        """Return a running guest, with a secret in its definition."""
        return self.class_guest(
            agent=True, autostart=True, vnc_password='secret'
        )

    def kill_at(self, point: steps.Point) -> None:
        """Let a snapshot die at a point; it has to have come that far."""
        command = self.command(
            'image-create', self.guest.uuid, 'killed', *self.ARGUMENTS
        )
        shell = command.index('nova_snap.cmd.shell')
        command[shell : shell + 1] = [
            *('tests.functional.die_at', point.moment, point.function)
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=base.TIMEOUT
        )
        self.assertEqual(-signal.SIGKILL, done.returncode, done.stderr)

    def recover(self) -> None:
        """Recover and check."""
        self.run_command('recover')
        self.assert_as_found(self.guest, self.found)
        self.assert_nothing_left()

    def check_all_points(self) -> None:
        for point in self.POINTS:
            with self.subTest(str(point)):
                self.kill_at(point)
                self.recover()
        again = self.run_command('recover')
        self.assertIn('Nothing was left behind', again.stderr)


class TestKilledLive(KillTestCase):
    """The mirror pipeline."""

    POINTS = steps.MIRROR

    def test_each_point(self) -> None:
        self.check_all_points()

    def test_the_next_snapshot_recovers_by_itself(self) -> None:
        self.kill_at(steps.after('rebase'))
        self.assertFalse(self.guest.is_persistent())
        self.image_create(self.guest)
        self.assert_as_found(self.guest, self.found)
        self.assert_nothing_left()

    def test_guest_powered_off_before_recovery(self) -> None:
        self.guest = guest = self.make_guest(vnc_password='secret')
        definition = guest.inactive_xml()
        self.kill_at(steps.after('restore-definition'))
        guest.destroy()
        self.run_command('recover')
        self.assertEqual('shut off', guest.state())
        self.assertEqual(definition, guest.inactive_xml())
        self.assert_nothing_left()

    def test_libvirtd_restarted_before_recovery(self) -> None:
        self.kill_at(steps.after('rebase'))
        self.libvirtd.restart()
        self.recover()

    def test_autostart_is_kept_when_killed_before_it_is_set(self) -> None:
        self.kill_at(steps.after('define'))
        self.assertTrue(self.guest.is_persistent())
        with self.guest.domain() as domain:
            self.assertFalse(domain.autostart())
        self.recover()
        with self.guest.domain() as domain:
            self.assertTrue(domain.autostart())

    def test_at_any_moment(self) -> None:
        # Where it was when it died stands in its log, a detail of the test:
        # what fails here wants a point of its own in tests/lab/steps.py.
        moments = random.Random(SEED)  # noqa: S311
        for number in MOMENTS:
            delay = moments.uniform(0.5, 4)
            how = f'NOVA_SNAP_TEST_SEED={SEED}, {number}: {delay:.3f} s'
            with self.subTest(how):
                process = self.start('image-create', self.guest.uuid, 'killed')
                time.sleep(delay)
                process.kill()
                done = self.finish(process)
                self.addDetailUniqueName('moment', base.text(how))
                if done.returncode == 0:  # it was quicker
                    self.assert_as_found(self.guest, self.found)
                else:
                    self.recover()


class TestKilledCold(KillTestCase):
    """The cold pipeline."""

    POINTS = steps.COLD
    OPTIONS = COLD

    def test_each_point(self) -> None:
        self.check_all_points()

    def test_in_the_middle_of_the_managed_save(self) -> None:
        process = self.start('image-create', self.guest.uuid, 'killed')
        self.guest.wait_for(
            lambda: self.guest.state() != 'running', 'suspension', 60
        )
        process.kill()
        process.wait()
        self.recover()

    def test_paused_guest_stays_paused(self) -> None:
        self.guest.suspend()
        self.addCleanup(self.guest.resume)
        self.found = base.Found.of(self.guest)
        self.kill_at(steps.after('managed-save'))
        self.recover()

    def test_running_snapshot_is_left_alone(self) -> None:
        process = self.start('image-create', self.guest.uuid, 'running')
        self.guest.wait_for(
            lambda: self.guest.state() != 'running', 'suspension', 60
        )
        # Else it may be over before the other command has even started.
        process.send_signal(signal.SIGSTOP)
        done = self.run_command('recover')
        process.send_signal(signal.SIGCONT)
        self.assertIn('running', done.stdout)
        self.assertEqual(0, self.finish(process).returncode)
        self.assert_as_found(self.guest, self.found)
        self.assert_nothing_left()
