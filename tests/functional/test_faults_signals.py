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

"""Snapshots that are interrupted, and terminals that go away."""

import os
import signal
import subprocess

from tests.functional import base
from tests.functional import faults
from tests.lab import exhaustive
from tests.lab import fault_proxy
from tests.lab import guest as guest_lib
from tests.lab import root_disk

INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
LIVE = exhaustive.choose((INT, TERM, HUP), (INT, HUP))
COLD = exhaustive.choose((INT, TERM, HUP), (TERM,))

#: MiB per second, where no part of a snapshot comes to its end.
SPEED = 2

REDIRECTIONS = exhaustive.choose(
    ('>&-', '2>&- >/dev/null', '>&- 2>&-', '>/dev/full 2>/dev/full'),
    ('>&- 2>&-', '>/dev/full 2>/dev/full'),
)


class SignalTestCase(faults.FaultTestCase):
    """A snapshot that ends by a signal."""

    def guest(
        self, kind: root_disk.Kind = root_disk.Kind.QCOW2
    ) -> guest_lib.Guest:
        guest = self.shared_guest(kind)
        self.found = base.Found.of(guest)
        return guest

    def assert_cancelled(
        self,
        process: subprocess.Popen[str],
        guest: guest_lib.Guest,
        number: signal.Signals,
    ) -> None:
        process.send_signal(number)
        ended = self.assert_ended(process, 7, guest.uuid, number.name)
        self.assertEqual([], ended.errors)
        self.assert_as_found(guest, self.found)
        self.assert_nothing_left()
        self.assertEqual([], list(self.images.list()))


class TestLive(SignalTestCase):
    """In the middle of the mirror pipeline."""

    def test_while_it_is_copied(self) -> None:
        guest = self.guest()
        for number in LIVE:
            with self.subTest(number.name):
                process = self.begin(guest, speed=SPEED)
                self.wait_for_copying(process, guest)
                self.assert_cancelled(process, guest, number)

    def test_while_it_is_flattened(self) -> None:
        guest = self.guest(root_disk.Kind.OVERLAY)
        process = self.begin(guest)
        self.wait_until(process, guest.block_jobs)
        self.wait_until(process, lambda: not guest.block_jobs())
        self.assert_cancelled(process, guest, INT)

    def test_twice(self) -> None:
        guest = self.guest()
        process = self.begin(guest, speed=SPEED)
        self.wait_for_copying(process, guest)
        # The first one stops the loop when it wakes up; the second comes in
        # between, and ends the command where it stands.
        process.send_signal(INT)
        process.send_signal(INT)
        ended = self.ended(process)
        self.assertIn(ended.status, (7, 130), ended.err)
        self.assertNotIn('Traceback', ended.err)
        self.run_command('recover')
        self.assert_as_found(guest, self.found)
        self.assert_nothing_left()


class TestCold(SignalTestCase):
    """In the middle of the cold pipeline."""

    OPTIONS = faults.COLD

    def test_while_it_is_converted(self) -> None:
        guest = self.guest()
        for number in COLD:
            with self.subTest(number.name):
                process = self.begin(guest, speed=SPEED)
                self.wait_for_qemu_img(process)
                self.assert_cancelled(process, guest, number)

    def test_while_its_memory_is_saved(self) -> None:
        guest = self.guest()
        process = self.begin(guest, speed=SPEED)
        self.wait_until(process, lambda: guest.state() != 'running')
        self.assert_cancelled(process, guest, INT)


class TestUpload(faults.GlanceFaultTestCase):
    """While Glance takes the data."""

    def test_interrupted(self) -> None:
        guest = self.shared_stopped_guest()
        found = base.Found.of(guest)
        self.proxy.add(
            'PUT', '/file$', fault_proxy.Stall(after=faults.MIB, seconds=3)
        )
        process = self.begin(guest, speed=None)
        self.wait_until(process, lambda: self.proxy.count('PUT') == 1)
        process.send_signal(INT)
        ended = self.assert_ended(process, 7, guest.uuid, 'SIGINT')
        self.assertEqual([], ended.errors)
        self.assert_as_found(guest, found)
        self.assert_nothing_left()
        self.assert_no_record(guest)


class TestTerminal(faults.FaultTestCase):
    """Output that nobody takes."""

    def setUp(self) -> None:
        super().setUp()
        self.guest = self.shared_stopped_guest()
        self.found = base.Found.of(self.guest)

    def assert_image_was_taken(self) -> None:
        self.assert_image_right(self.the_image(), 0)
        self.assert_as_found(self.guest, self.found)
        self.assert_nothing_left()

    def run_in_shell(self, redirection: str) -> None:
        argv = self.command('image-create', '--poll', self.guest.uuid, 'image')
        subprocess.run(
            ['sh', '-c', f'exec "$@" {redirection}', 'sh', *argv],
            check=False,
            timeout=base.TIMEOUT,
        )

    def test_each_redirection(self) -> None:
        for redirection in REDIRECTIONS:
            with self.subTest(redirection):
                self.run_in_shell(redirection)
                self.assert_image_was_taken()
                for image in list(self.images.list()):
                    self.images.delete(image.id)

    def test_reader_that_goes_away(self) -> None:
        read, write = os.pipe()
        argv = self.command('image-create', '--poll', self.guest.uuid, 'image')
        process = subprocess.Popen(argv, stdout=write, stderr=write)
        os.close(write)
        os.close(read)
        self.assertIn(process.wait(base.TIMEOUT), (0, 1))
        self.assert_image_was_taken()
