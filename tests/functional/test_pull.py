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

"""The method pull: one pass from the running guest to the image."""

import pathlib
import shutil
import signal
import subprocess
import sys
import threading
from typing import Any

import libvirt

from tests.functional import base
from tests.functional import content
from tests.functional import faults
from tests.functional import test_kill
from tests.lab import disk as disk_lib
from tests.lab import steps

PULL = {'live_method': 'pull', 'scratch_min_mb': '0'}

#: MiB per second; reading FILLER takes some seconds.
SLOW = {**PULL, 'bandwidth_limit_mb': str(faults.SLOW)}


ASKED = 'it asks for extents'

#: Runs nova-snap, interrupts it when it asks for extents for the first time,
#: and has it ask for those of 1 MiB each time.
INTERRUPT = f"""
import os, signal, sys
from nova_snap.cmd import shell
from nova_snap.qcow2 import nbd_source
from tests.functional import die_at
asked = []
def interrupt():
    print({ASKED!r}, file=sys.stderr)
    if not asked:
        os.kill(os.getpid(), signal.SIGINT)
    asked.append(True)
nbd_source._STATUS_LENGTH = 1 << 20
step = 'nova_snap.qcow2.nbd_connection:NbdConnection.status'
die_at.wrap('before', step, interrupt)
sys.exit(shell.main(sys.argv[1:]))
"""


def has_backup_job(guest: Any) -> bool:
    """Whether a backup job runs."""
    try:
        with guest.domain() as domain:
            domain.backupGetXMLDesc()
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN_BACKUP:
            return False
        raise
    return True


class TestKilled(test_kill.KillTestCase):
    """Kill, recover, look."""

    POINTS = steps.PULL
    OPTIONS = {'snapshot': PULL}

    def recover(self) -> None:
        super().recover()
        self.assertFalse(has_backup_job(self.guest))

    def test_each_point(self) -> None:
        self.check_all_points()

    def test_libvirtd_restarted_before_recovery(self) -> None:
        self.kill_at(steps.after('begin-export'))
        self.libvirtd.restart()
        self.recover()


class TestExport(base.SnapshotTestCase):
    """What a file or a pipe gets; images are in test_content_kinds.py."""

    OPTIONS = {'snapshot': PULL}

    def test_export_to_a_file_and_to_standard_output(self) -> None:
        guest = self.make_guest()
        with content.paused(guest):
            file = self.state_path / 'exported.qcow2'
            self.run_command('export', guest.uuid, '-o', str(file))
            piped = self.state_path / 'piped.qcow2'
            with piped.open('wb') as stream:
                command = self.command('export', guest.uuid, '-o', '-')
                subprocess.run(command, stdout=stream, check=True)
            for path in (file, piped):
                self.assertEqual('', disk_lib.check(path))
            self.assertEqual(
                '',
                disk_lib.differences(file, 'qcow2', piped, 'qcow2'),
            )
        self.assertEqual([], list(self.images.list()))
        self.assert_nothing_left()


class TestFaults(faults.FaultTestCase):
    """What goes wrong in the middle."""

    OPTIONS = {'snapshot': SLOW}

    def begin_reading(self, guest: Any) -> subprocess.Popen[str]:
        """Begin a snapshot; return when it reads the export."""
        process = self.begin(guest, speed=None)
        self.wait_until(process, lambda: 'image_uploading' in self._log_text())
        self.assertTrue(has_backup_job(guest))
        return process

    def assert_clean(self, guest: Any, found: base.Found) -> None:
        """No image, no job, and the guest as it was found."""
        self.assertFalse(has_backup_job(guest))
        self.assert_as_found(guest, found)
        self.assert_nothing_left()
        self.assertEqual([], list(self.images.list()))

    def test_full_scratch_pauses_the_guest_and_it_goes_on(self) -> None:
        # Without a reserve QEMU itself finds the file system full.
        guest = self.own_guest(write=8)
        found = base.Found.of(guest)
        small = self.small_file_system(8 * faults.MIB)
        self.configure(
            snapshot={
                'scratch_directory': str(small),
                'scratch_percent': '0',
                # Longer than the slowest guest needs to fill it.
                'bandwidth_limit_mb': '1',
            }
        )
        process = self.begin_reading(guest)
        self.assert_ended(process, 1, guest.uuid, 'I/O error|space')
        self.assert_clean(guest, found)
        guest.wait_for_ticks(10)

    def test_reserve_is_kept_and_the_guest_never_paused(self) -> None:
        guest = self.own_guest(write=8)
        found = base.Found.of(guest)
        small = self.small_file_system(64 * faults.MIB)
        free = shutil.disk_usage(small).free // faults.MIB
        self.configure(
            snapshot={
                'scratch_directory': str(small),
                'scratch_percent': '0',
                'scratch_min_mb': '0',
                # A guest on a busy host writes slowly: little has to be
                # overwritten, in the time that a slow reader takes.
                'reserved_space_mb': str(free - 4),
                'bandwidth_limit_mb': '1',
            }
        )
        states: set[str] = set()
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.02):
                states.add(guest.state())

        watcher = threading.Thread(target=watch)
        watcher.start()
        self.addCleanup(watcher.join)
        self.addCleanup(over.set)
        process = self.begin_reading(guest)
        self.assert_ended(process, 1, 'Not enough free space')
        over.set()
        watcher.join()
        self.assertEqual({'running'}, states)
        self.assert_clean(guest, found)

    def test_too_little_room_at_the_start(self) -> None:
        guest = self.shared_guest()
        found = base.Found.of(guest)
        small = self.small_file_system(16 * faults.MIB)
        self.configure(
            snapshot={
                'scratch_directory': str(small),
                'scratch_min_mb': '64',
            }
        )
        self.snapshot_fails(guest, 1, r'64 MiB are needed')
        self.assert_clean(guest, found)

    def test_job_aborted_by_another_tool(self) -> None:
        guest = self.shared_guest()
        found = base.Found.of(guest)
        process = self.begin_reading(guest)
        with guest.domain() as domain:
            domain.abortJob()
        self.assert_ended(process, 1, guest.uuid, 'failed')
        self.assert_clean(guest, found)

    def test_guest_destroyed(self) -> None:
        guest = self.own_guest()
        process = self.begin_reading(guest)
        guest.destroy()
        self.assert_ended(process, 1, guest.uuid, 'stopped')
        self.assertEqual('shut off', guest.state())
        self.assertTrue(guest.is_persistent())
        self.assert_nothing_left()

    def test_guest_reset(self) -> None:
        guest = self.own_guest()
        ticks = guest.ticks()
        process = self.begin_reading(guest)
        with guest.domain() as domain:
            domain.reset()
        self.assert_ended(process, 0)
        self.assert_image_right(self.the_image(), ticks)
        guest.wait_until_up()
        self.assert_nothing_left()

    def test_libvirtd_restarted(self) -> None:
        guest = self.shared_guest()
        found = base.Found.of(guest)
        ticks = guest.ticks()
        process = self.begin_reading(guest)
        self.libvirtd.restart()
        self.assert_ended(process, 0)
        self.assert_image_right(self.the_image(), ticks)
        self.assertFalse(has_backup_job(guest))
        self.assert_as_found(guest, found)
        self.assert_nothing_left()

    def test_another_backup_is_left_alone(self) -> None:
        guest = self.shared_guest()
        folder = pathlib.Path(self.state_path, 'other')
        folder.mkdir()
        xml = f"""<domainbackup mode='pull'>
          <server transport='unix' socket='{folder}/nbd.sock'/>
          <disks><disk name='{guest.target}' type='file'>
          <scratch file='{folder}/scratch'/></disk></disks></domainbackup>"""
        with guest.domain() as domain:
            domain.backupBegin(xml, None)
        try:
            self.snapshot_fails(guest, 4, 'backup')
            self.assertTrue(has_backup_job(guest))
        finally:
            with guest.domain() as domain:
                domain.abortJob()
        self.assert_nothing_left()

    def test_interrupted(self) -> None:
        guest = self.shared_guest()
        found = base.Found.of(guest)
        process = self.begin_reading(guest)
        process.send_signal(signal.SIGINT)
        self.assert_ended(process, 7, 'SIGINT')
        self.assert_clean(guest, found)

    def test_interrupted_before_it_reads(self) -> None:
        """While it asks for the extents, of which large disks have many."""
        guest = self.shared_guest()
        found = base.Found.of(guest)
        argv = base.SnapshotTestCase.command(
            self, 'image-create', guest.uuid, 'image'
        )
        process = self.start_process(
            [sys.executable, '-c', INTERRUPT, *argv[3:]]
        )
        done = self.finish(process)
        self.assertEqual(7, done.returncode, done.stderr)
        self.assertEqual(1, done.stderr.count(ASKED), done.stderr)
        self.assert_clean(guest, found)

    def test_under_eventlet(self) -> None:
        guest = self.shared_guest()
        found = base.Found.of(guest)
        self.configure(snapshot=PULL)
        process = self.begin(
            guest,
            speed=None,
            env=base.environment(NOVA_SNAP_CONCURRENCY_BACKEND='eventlet'),
        )
        self.assert_ended(process, 0)
        self.assert_image_right(self.the_image(), guest.ticks() - 10**6)
        self.assert_as_found(guest, found)
        self.assert_nothing_left()

    def test_without_libnbd(self) -> None:
        guest = self.shared_guest()
        found = base.Found.of(guest)
        self.configure(snapshot={'live_method': 'auto'})
        # No Python has a directory for its modules there.
        hide = (
            'import sys; from nova_snap import distribution; '
            'distribution._DIRECTORIES = (); sys.modules["nbd"] = None; '
            'from nova_snap.cmd import shell; sys.exit(shell.main())'
        )
        command = self.command('explain', guest.uuid, '-f', 'value')
        index = command.index('-m')
        command[index : index + 2] = ['-c', hide]
        done = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertIn('python3-libnbd', done.stdout)
        self.assertIn('decision live mirror', done.stdout)
        self.assert_as_found(guest, found)
