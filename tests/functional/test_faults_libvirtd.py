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

"""A libvirtd that goes away in the middle of a snapshot, and comes back."""

from collections.abc import Callable
import os
import signal
import subprocess
import time

import fixtures

from nova_snap import exception
from nova_snap.virt.libvirt import guest as driver_guest
from nova_snap.virt.libvirt import host as host_lib
from tests.functional import base
from tests.functional import faults
from tests.lab import exhaustive
from tests.lab import guest as guest_lib

#: What happens to libvirtd, as methods of :class:`LibvirtdTestCase`.
BREAKS = ('restart', 'kill_and_start', 'stop_for_a_while', 'hang')
LIVE = exhaustive.choose(BREAKS, ('kill_and_start', 'stop_for_a_while'))
COLD = exhaustive.choose(BREAKS, ('restart', 'hang'))


class LibvirtdTestCase(faults.FaultTestCase):
    """What happens to libvirtd happens in the middle."""

    def setUp(self) -> None:
        super().setUp()
        self.guest = self.shared_guest()
        self.found = base.Found.of(self.guest)

    def wait_for_the_middle(self, process: subprocess.Popen[str]) -> None:
        raise NotImplementedError

    def break_libvirtd(self, name: str) -> None:
        """Snapshot, break, and see that the image is right or not there.

        :param name: one of BREAKS, a method of this class.
        """
        breaking: Callable[[], None] = getattr(self, name)
        ticks = self.guest.ticks()
        process = self.begin(self.guest)
        self.wait_for_the_middle(process)
        breaking()
        self.hurry(self.guest)
        ended = self.ended(process)
        self.assertNotIn('Traceback', ended.err)
        if ended.status == 0:
            self.assert_image_right(self.the_image(), ticks)
            for image in list(self.images.list()):
                self.images.delete(image.id)
        else:
            self.assertIn(ended.status, (1, 6), ended.err)
            self.assertIn('libvirt', ended.message)
            self.assertEqual([], list(self.images.list()))
        self.assert_as_found(self.guest, self.found)
        self.assert_nothing_left()

    def stop_for_a_while(self) -> None:
        # Several tries to reach it fail.
        self.libvirtd.kill(signal.SIGTERM)
        time.sleep(3)
        self.libvirtd.start()

    def restart(self) -> None:
        self.libvirtd.restart()

    def kill_and_start(self) -> None:
        self.libvirtd.kill()
        self.libvirtd.start()

    def hang(self) -> None:
        pid = self.libvirtd.pid()
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        time.sleep(3)
        os.kill(pid, signal.SIGCONT)


class TestLive(LibvirtdTestCase):
    """In the middle of the mirror."""

    def wait_for_the_middle(self, process: subprocess.Popen[str]) -> None:
        self.wait_for_copying(process, self.guest)

    def test_each_break(self) -> None:
        for name in LIVE:
            with self.subTest(name):
                self.break_libvirtd(name)


class TestCold(LibvirtdTestCase):
    """While the guest is suspended."""

    OPTIONS = faults.COLD

    def wait_for_the_middle(self, process: subprocess.Popen[str]) -> None:
        self.wait_for_qemu_img(process)

    def test_each_break(self) -> None:
        for name in COLD:
            with self.subTest(name):
                self.break_libvirtd(name)


class TestSaving(LibvirtdTestCase):
    """While libvirtd saves the guest's memory."""

    OPTIONS = faults.COLD

    def wait_for_the_middle(self, process: subprocess.Popen[str]) -> None:
        self.wait_until(process, lambda: is_being_saved(self.guest))

    def test_killed(self) -> None:
        self.break_libvirtd('kill_and_start')


class TestGone(faults.FaultTestCase):
    """libvirtd does not come back in time."""

    def test_not_there_at_the_start(self) -> None:
        guest = self.shared_guest()
        self.libvirtd.kill(signal.SIGTERM)
        ended = self.snapshot_fails(guest, 6, 'libvirtd')
        # It is not waited for.
        self.assertEqual(
            [], [line for line in ended.log if 'Retrying' in line.text]
        )
        self.assert_nothing_left()
        self.libvirtd.start()

    def test_recovered_later(self) -> None:
        # The process dies with libvirtd: as when the host loses power, but
        # for the guest, which goes on.
        guest = self.shared_guest()
        found = base.Found.of(guest)
        process = self.begin(guest)
        self.wait_for_copying(process, guest)
        self.libvirtd.kill()
        process.kill()
        process.wait()
        self.libvirtd.start()
        self.speed = None
        self.run_command('recover')
        self.assert_as_found(guest, found)
        self.assert_nothing_left()

    def test_waited_for_once(self) -> None:
        # A snapshot that ends makes several calls that wait for libvirtd.
        self.useFixture(
            fixtures.MonkeyPatch(
                'nova_snap.virt.libvirt.host.RECONNECT_TIMEOUT', 3
            )
        )
        guest = self.shared_guest()
        host = host_lib.Host(self.libvirtd.uri)
        asked = driver_guest.Guest(host, guest.uuid, guest.name)
        self.assertTrue(asked.is_persistent())
        self.libvirtd.kill()
        log = self.useFixture(fixtures.FakeLogger())
        told = ''
        for _ in range(3):
            self.assertRaises(
                exception.HypervisorUnavailable, asked.is_persistent
            )
            told = told or log.output
            self.assertIn('Retrying', told)
            self.assertEqual(told, log.output)
        self.libvirtd.start()
        self.assertTrue(asked.is_persistent())


def is_being_saved(guest: guest_lib.Guest) -> bool:
    """Whether it is on its way to the disk."""
    return guest.state() == 'paused'
