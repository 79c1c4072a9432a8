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

"""Snapshots at the same time: conflicts and limits."""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import re
import signal
import subprocess
import time

from tests.functional import base
from tests.functional import faults


class TestConflict(faults.FaultTestCase):
    """Two snapshots of one guest."""

    def test_second_is_refused(self) -> None:
        guest = self.shared_guest()
        found = base.Found.of(guest)
        ticks = guest.ticks()
        first = self.begin(guest)
        self.wait_for_copying(first, guest)
        second = self.begin(guest)
        self.assert_ended(second, 4, guest.uuid, 'already running')
        self.assertIsNone(first.poll())
        self.hurry(guest)
        self.assertEqual(0, self.finish(first).returncode)
        self.assert_image_right(self.the_image(), ticks)
        self.assert_as_found(guest, found)
        self.assert_nothing_left()


class TestTwoPrograms(faults.FaultTestCase):
    """The command and nova-compute: each with a journal of its own.

    Both make their temporary files in one directory, as by default.
    """

    def setUp(self) -> None:
        super().setUp()
        self.guest = self.shared_guest()
        self.found = base.Found.of(self.guest)

    @contextlib.contextmanager
    def as_other_program(self) -> Iterator[None]:
        """Run commands of the block with another ``state_path``."""
        own = self.state_path, self.log_file, self.config
        text = self.config.read_text()
        self.state_path = self.directory()
        self.log_file = self.state_path / 'nova-snap.log'
        self.config = self.state_path / 'nova_snap.conf'
        self.config.write_text(
            text.replace(
                f'\nstate_path = {own[0]}', f'\nstate_path = {self.state_path}'
            )
        )
        yield
        self.state_path, self.log_file, self.config = own

    def test_second_is_refused(self) -> None:
        ticks = self.guest.ticks()
        first = self.begin(self.guest)
        self.wait_for_copying(first, self.guest)
        with self.as_other_program():
            second = self.begin(self.guest)
            self.assert_ended(
                *(second, 4, self.guest.uuid, 'already running'),
                f'process {first.pid} of user root',
            )
        self.assertIsNone(first.poll())
        self.hurry(self.guest)
        self.assertEqual(0, self.finish(first).returncode)
        self.assert_image_right(self.the_image(), ticks)
        self.assert_as_found(self.guest, self.found)
        self.assert_nothing_left()

    def test_recovery_leaves_a_running_snapshot_alone(self) -> None:
        with self.as_other_program():
            killed = self.begin(self.guest)
            self.wait_for_copying(killed, self.guest)
            killed.kill()
            killed.wait()
            other = self.config
        left = self.deltas()
        first = self.begin(self.guest)
        # What the killed process has begun goes on until then.
        self.wait_until(first, lambda: bool(self.deltas() - left))
        self.wait_for_copying(first, self.guest)
        self.assertIn('running', self.recover(other))
        self.assertIsNone(first.poll())
        self.assertEqual(1, len(self.guest.block_jobs()))
        self.hurry(self.guest)
        self.assertEqual(0, self.finish(first).returncode)
        self.assertIn('recovered', self.recover(other))
        self.assert_as_found(self.guest, self.found)
        self.assert_nothing_left()

    def deltas(self) -> set[str]:
        """Return the files that disks of the guest are copied to."""
        return set(re.findall(r"'([^']*\.delta)'", self.guest.xml()))

    def recover(self, config: pathlib.Path) -> str:
        """Recover what the program with this configuration has begun."""
        own, self.config = self.config, config
        said = self.run_command('recover').stdout
        self.config = own
        return said


class TestLimits(faults.FaultTestCase):
    """Two guests, and a limit of one."""

    def setUp(self) -> None:
        super().setUp()
        self.guests = [
            self.shared_stopped_guest(number) for number in range(2)
        ]
        self.found = [base.Found.of(guest) for guest in self.guests]

    @contextlib.contextmanager
    def first_held(self) -> Iterator[subprocess.Popen[str]]:
        """Hold the first snapshot in its conversion for the block."""
        process = self.begin(self.guests[0])
        self.wait_for_qemu_img(process)
        pids = base.program_pids(self.state_path)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield process
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def wait_for_lock(self, process: subprocess.Popen[str]) -> None:
        """Wait until the second one has its guest's lock."""
        lock = f'nova-snap-instance-{self.guests[1].uuid}'
        self.wait_until(process, (self.state_path / 'locks' / lock).exists)

    def queued(self) -> int:
        """How many records are made and have no data yet."""
        return [image.status for image in self.images.list()].count('queued')

    def assert_stays(self, process: subprocess.Popen[str]) -> None:
        """Check that the second snapshot waits and does nothing."""
        records = self.queued()
        for _ in range(20):
            time.sleep(0.1)
            self.assertIsNone(process.poll())
            self.assertEqual(1, len(base.programs(self.state_path)))
            self.assertEqual(records, self.queued())

    def assert_both_are_right(
        self, processes: list[subprocess.Popen[str]]
    ) -> None:
        for process in processes:
            self.assertEqual(0, self.finish(process).returncode)
        images = list(self.images.list())
        self.assertEqual(2, len(images))
        for image in images:
            self.assert_image_right(self.image_file(image.id), 0)
        for guest, found in zip(self.guests, self.found, strict=True):
            self.assert_as_found(guest, found)
        self.assert_nothing_left()

    def test_of_snapshots(self) -> None:
        self.configure(DEFAULT={'max_concurrent_snapshots': '1'})
        with self.first_held() as first:
            second = self.begin(self.guests[1])
            self.wait_for_lock(second)
            self.assert_stays(second)
            self.assertEqual(1, self.queued())
        self.assert_both_are_right([first, second])

    def test_of_disk_operations(self) -> None:
        self.configure(DEFAULT={'max_concurrent_disk_ops': '1'})
        with self.first_held() as first:
            second = self.begin(self.guests[1])
            self.wait_until(second, lambda: self.queued() == 2)
            self.assert_stays(second)
        self.assert_both_are_right([first, second])

    def test_waiting_can_be_interrupted(self) -> None:
        self.configure(DEFAULT={'max_concurrent_snapshots': '1'})
        with self.first_held() as first:
            second = self.begin(self.guests[1])
            self.wait_for_lock(second)
            self.assert_stays(second)
            second.terminate()
            ended = self.ended(second)
            self.assertEqual(7, ended.status, ended.err)
            self.assertIsNone(first.poll())
        self.assertEqual(0, self.finish(first).returncode)
        self.assert_nothing_left()
