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

"""A guest that writes all the time, and what of the host it may take.

The file system of the temporary files is small, and the export is read slowly:
in the middle, what the guest overwrites reaches the reserve.
"""

import shutil
import signal
import subprocess

import libvirt

from tests.functional import base
from tests.functional import faults
from tests.functional import test_pull
from tests.lab import guest as guest_lib

MIB = faults.MIB

#: MB per second that the guest overwrites at random.
WRITE = 8

#: MiB per second that are read of an export: 32 MiB take a minute.
SLOW = 1


class GreedyTestCase(faults.FaultTestCase):
    """A guest that writes; its snapshot would take long."""

    def setUp(self) -> None:
        super().setUp()
        self.greedy = self.shared_guest(write=WRITE)
        self.found = base.Found.of(self.greedy)

    def configure_pull(self, size: int, left: int, **snapshot: str) -> None:
        """Configure exports to a small file system.

        :param size: MiB of the file system.
        :param left: MiB of it that are not reserved.
        """
        point = self.small_file_system(size * MIB)
        self.snapshots = point / 'snapshots'
        reserve = self.reserve = shutil.disk_usage(point).free // MIB - left
        options = {
            'live_method': 'pull',
            'scratch_percent': '0',
            'scratch_min_mb': '0',
            'reserved_space_mb': str(reserve),
            'bandwidth_limit_mb': str(SLOW),
        }
        self.configure(snapshot={**options, **snapshot})

    def left(self) -> int:
        """Return the MiB that are free beyond the reserve."""
        return shutil.disk_usage(self.snapshots).free // MIB - self.reserve

    def begin_reading(self, guest: guest_lib.Guest) -> subprocess.Popen[str]:
        """Begin a snapshot; return when its export is read."""
        process = self.begin(guest, speed=None)
        self.wait_until(process, lambda: 'image_uploading' in self._log_text())
        self.assertTrue(test_pull.has_backup_job(guest))
        return process

    def wait_for_end_of_job(self, guest: guest_lib.Guest) -> None:
        """Wait until no backup job runs; without a recovery."""
        guest.wait_for(
            lambda: not test_pull.has_backup_job(guest), 'end of its job', 60
        )


class TestKilled(GreedyTestCase):
    """The process of a snapshot is killed, and nobody recovers."""

    def kill(self) -> None:
        """Kill a snapshot in the middle."""
        self.configure_pull(64, 40)
        process = self.begin_reading(self.greedy)
        process.kill()
        process.wait()

    def check(self) -> None:
        """Check that the export ends; recover."""
        self.wait_for_end_of_job(self.greedy)
        self.run_command('recover')
        self.assert_as_found(self.greedy, self.found)
        self.assert_nothing_left()

    def test_export_ends(self) -> None:
        self.kill()
        self.check()

    def test_export_ends_once_libvirtd_is_back(self) -> None:
        self.configure_pull(64, 40)
        process = self.begin_reading(self.greedy)
        self.libvirtd.kill(signal.SIGTERM)
        self.addCleanup(self.libvirtd.start)
        process.kill()
        process.wait()
        self.libvirtd.start()
        self.check()


class TestReserve(GreedyTestCase):
    """A reserve that is reached because of one guest."""

    def test_others_go_on(self) -> None:
        other = self.shared_guest()
        others_found = base.Found.of(other)
        self.configure_pull(96, 12)
        first = self.begin_reading(other)
        second = self.begin_reading(self.greedy)
        # Else, who ends first may be a matter of who looks first.
        second.send_signal(signal.SIGSTOP)
        self.wait_until(second, lambda: self.left() < -8, 60)
        self.assertIsNone(first.poll(), self._log_text())
        second.send_signal(signal.SIGCONT)
        self.assert_ended(second, 1, 'Not enough free space')
        self.assertEqual(0, self.finish(first).returncode)
        (image,) = self.images.list()
        self.assertEqual('active', image.status)
        self.assert_as_found(other, others_found)
        self.assert_as_found(self.greedy, self.found)
        self.assert_nothing_left()

    def test_kept_without_libvirtd(self) -> None:
        self.configure_pull(64, 8)
        process = self.begin_reading(self.greedy)
        self.libvirtd.kill(signal.SIGTERM)
        self.addCleanup(self.libvirtd.start)
        self.wait_until(
            process, lambda: 'Not enough free space' in self._log_text(), 30
        )
        self.libvirtd.start()
        self.assert_ended(process, 1, 'Not enough free space')
        self.assert_as_found(self.greedy, self.found)
        self.assert_nothing_left()

    def test_shares_of_running_snapshots_count(self) -> None:
        other = self.shared_guest()
        others_found = base.Found.of(other)
        self.configure_pull(128, 60, scratch_min_mb='40')
        first = self.begin_reading(other)
        self.snapshot_fails(
            self.greedy, 1, 'Not enough free space', 'running snapshots'
        )
        self.assertIsNone(first.poll())
        first.send_signal(signal.SIGINT)
        self.assertEqual(7, self.finish(first).returncode)
        # A share ends with its snapshot.
        second = self.begin_reading(self.greedy)
        second.send_signal(signal.SIGINT)
        self.assertEqual(7, self.finish(second).returncode)
        self.assert_as_found(other, others_found)
        self.assert_as_found(self.greedy, self.found)
        self.assert_nothing_left()


class TestStall(GreedyTestCase):
    """A mirror that never gets to its end."""

    def test_mirror_ends(self) -> None:
        self.configure(snapshot={'mirror_stall_timeout': '5'})
        process = self.begin(self.greedy, speed=1)
        self.assert_ended(process, 1, 'no progress', 'mirror_stall_timeout')
        self.assertEqual([], list(self.images.list()))
        self.assert_as_found(self.greedy, self.found)
        self.assert_nothing_left()
        with self.greedy.domain() as domain:
            self.assertEqual(libvirt.VIR_DOMAIN_RUNNING, domain.state()[0])
