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
