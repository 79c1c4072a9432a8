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

"""The same command under eventlet, when all is well and when it is not."""

import signal
import subprocess

from nova_snap import concurrency
from tests.functional import base
from tests.functional import faults
from tests.lab import guest as guest_lib

ENVIRONMENT = {concurrency.BACKEND_VARIABLE: 'eventlet'}


class TestEmbedded(faults.FaultTestCase):
    """Into the embedded image service."""

    def setUp(self) -> None:
        super().setUp()
        self.guest = self.shared_guest()
        self.found = base.Found.of(self.guest)
        self.ticks = self.guest.ticks()

    def begin_green(
        self, guest: guest_lib.Guest, speed: int | None = faults.SLOW
    ) -> subprocess.Popen[str]:
        return self.begin(
            guest, '--poll', speed=speed, env=base.environment(**ENVIRONMENT)
        )

    def assert_taken(self) -> None:
        ended = self.assert_ended(self.begin_green(self.guest, None), 0)
        self.assertIn('uploading: ', ended.err)
        self.assert_image_right(self.the_image(), self.ticks)
        self.assert_clean()

    def assert_clean(self) -> None:
        self.assert_as_found(self.guest, self.found)
        self.assert_nothing_left()

    def test_live(self) -> None:
        self.assert_taken()

    def test_cold(self) -> None:
        self.configure(**faults.COLD)
        self.assert_taken()

    def test_killed_and_recovered(self) -> None:
        process = self.begin_green(self.guest)
        self.wait_for_copying(process, self.guest)
        process.kill()
        process.wait()
        self.speed = None
        recovery = self.start('recover', env=base.environment(**ENVIRONMENT))
        self.assertEqual(0, self.finish(recovery).returncode)
        self.assert_clean()

    def test_interrupted(self) -> None:
        for sections, wait in (
            ({}, lambda p: self.wait_for_copying(p, self.guest)),
            (faults.COLD, self.wait_for_qemu_img),
        ):
            with self.subTest(sections=sections):
                self.configure(**sections)
                process = self.begin_green(self.guest)
                wait(process)
                process.send_signal(signal.SIGINT)
                ended = self.assert_ended(process, 7, 'SIGINT')
                self.assertEqual([], ended.errors)
                self.assert_clean()

    def test_libvirtd_restarted(self) -> None:
        self.configure(**faults.COLD)
        process = self.begin_green(self.guest)
        self.wait_for_qemu_img(process)
        self.libvirtd.restart()
        self.assert_ended(process, 0)
        self.assert_image_right(self.the_image(), self.ticks)
        self.assert_clean()


class TestGlance(faults.GlanceFaultTestCase):
    """Into Glance."""

    def test_uploaded(self) -> None:
        guest = self.shared_guest()
        found = base.Found.of(guest)
        ticks = guest.ticks()
        process = self.begin(
            guest, speed=None, env=base.environment(**ENVIRONMENT)
        )
        self.assert_ended(process, 0)
        (record,) = self.records(guest)
        self.assertEqual('active', record.status)
        self.assert_image_right(self.glance_file(record.id), ticks)
        self.assert_as_found(guest, found)
        self.assert_nothing_left()

    def test_record_deleted_meanwhile(self) -> None:
        guest = self.shared_guest()
        found = base.Found.of(guest)
        process = self.begin(
            guest, speed=2, env=base.environment(**ENVIRONMENT)
        )
        self.wait_for_copying(process, guest)
        (record,) = self.records(guest)
        self.direct().delete(record.id)
        ended = self.assert_ended(process, 7, 'was deleted')
        self.assertEqual([], ended.errors)
        self.assert_as_found(guest, found)
        self.assert_nothing_left()
