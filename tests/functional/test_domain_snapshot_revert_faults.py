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

"""Reverts while other programs work with the guest, and lost memory."""

import os
import pathlib
import signal
import subprocess

import testtools

from tests.functional import base
from tests.functional import domain_snapshot_base
from tests.lab import disk as disk_lib
from tests.lab import exhaustive
from tests.lab import guest as guest_lib
from tests.lab import root_disk
from tests.lab import steps

CONFLICT = domain_snapshot_base.CONFLICT
MIB = root_disk.MIB


def cut(path: pathlib.Path) -> None:
    """Leave the beginning of a file of memory."""
    os.truncate(path, MIB)


def overwrite(path: pathlib.Path) -> None:
    """Leave no memory in a file."""
    path.write_bytes(bytes(MIB))


#: What happens to a file of memory.
DAMAGES = exhaustive.choose(
    (pathlib.Path.unlink, cut, overwrite), (pathlib.Path.unlink,)
)

#: Arguments of a revert while the guest is started by another program.
STARTS = exhaustive.choose((('a',), ('b', '--start')), (('a',),))


class RevertTestCase(domain_snapshot_base.DomainSnapshotTestCase):
    """Guests that run, and their disks."""

    def disk_in_use(self, guest: guest_lib.Guest) -> str:
        """Return the file that the guest writes to."""
        return domain_snapshot_base.top_file(guest.xml())

    def start_otherwise(self, guest: guest_lib.Guest) -> None:
        """Start a guest as another program does."""
        with guest.domain() as dom:
            dom.create()

    def memories(self, guest: guest_lib.Guest) -> list[pathlib.Path]:
        """Return the files of memory that reverts have saved."""
        return [
            path
            for path in self.folder_of(guest).glob('*.memory')
            if path.name.count('-') == 4
        ]

    def run_number(self, guest: guest_lib.Guest) -> int:
        with guest.domain() as dom:
            return int(dom.ID())


@exhaustive.usually(
    'test_guest_is_started_meanwhile',
    'test_guest_has_run_before_the_recovery',
    'test_lost_memory',
)
class TestRunning(RevertTestCase):
    """A guest that runs, and writes all the time."""

    def test_guest_is_started_meanwhile(self) -> None:
        guest = self.guest()
        self.take(guest, 'a', '--system')
        self.take(guest, 'b')
        for name, *options in STARTS:
            with self.subTest(name):
                self.check_started(guest, name, *options)

    def check_started(
        self, guest: guest_lib.Guest, name: str, *options: str
    ) -> None:
        found, files = base.Found.of(guest), self.files(guest)
        with self.held_at(
            steps.after('save-memory'),
            *('snapshot-revert', guest.uuid, name, *options),
        ) as process:
            self.start_otherwise(guest)
            run = self.run_number(guest)
        done = self.finish(process)
        self.assertEqual(CONFLICT, done.returncode, done.stderr)
        self.assertEqual(run, self.run_number(guest))
        guest.wait_until_up()
        self.assert_as_found(guest, found)
        self.assertEqual(files, self.files(guest))
        self.assertTrue(self.listed(guest)['b']['Current'])
        self.assert_nothing_left()

    def test_guest_has_run_before_the_recovery(self) -> None:
        """Old memory on a newer disk would destroy what is on that."""
        guest = self.guest()
        self.take(guest, 'a', '--system')
        files = self.files(guest)
        self.kill_at(
            steps.after('save-memory'), 'snapshot-revert', guest.uuid, 'a'
        )
        self.start_otherwise(guest)
        guest.wait_until_up()
        guest.wait_for_ticks(3)
        ticks = guest.ticks()
        guest.destroy()
        self.run_command('recover')
        self.assertEqual('shut off', guest.state())
        self.assertEqual(files, self.files(guest))
        path = self.disk(guest)
        self.assertIn(ticks, disk_lib.ring_numbers(path, 'qcow2'))
        self.assertEqual('', disk_lib.check(path))
        self.assert_nothing_left()

    def test_guest_is_started_before_the_recovery(self) -> None:
        guest = self.guest()
        self.take(guest, 'a')
        self.take(guest, 'b')
        self.kill_at(
            steps.after('define'),
            *('snapshot-revert', guest.uuid, 'a', '--start'),
        )
        self.start_otherwise(guest)
        guest.wait_until_up()
        run, disk = self.run_number(guest), self.disk_in_use(guest)
        self.run_command('recover')
        self.assertEqual(run, self.run_number(guest))
        self.assertEqual(disk, str(self.disk(guest)))
        # What it writes comes after "a".
        self.assertTrue(self.listed(guest)['a']['Current'])
        self.assert_same_tree(guest)
        self.assert_nothing_left()

    def test_lost_memory(self) -> None:
        """The memory of before, when the revert has failed."""
        guest = self.guest_that_cannot_go_back('a')
        for damage in DAMAGES:
            with self.subTest(damage.__name__):
                found, files = base.Found.of(guest), self.files(guest)
                with self.held_at(
                    steps.before('start'), 'snapshot-revert', guest.uuid, 'a'
                ) as process:
                    (memory,) = self.memories(guest)
                    damage(memory)
                    guest.serial_log.unlink()
                done = self.finish(process)
                self.assertEqual(1, done.returncode, done.stderr)
                self.assertIn('does not get the memory back', done.stderr)
                self.assertIn('It boots', done.stderr)
                guest.wait_until_up()
                self.assert_as_found(guest, found)
                self.assertEqual(files, self.files(guest))
                self.assert_nothing_left()

    def test_guest_that_ends_by_itself(self) -> None:
        guest = self.guest()
        self.take(guest, 'a', '--system')
        files = self.files(guest)
        for point in (steps.before('save-memory'), steps.before('name-file')):
            with self.subTest(str(point)):
                with self.held_at(
                    point, 'snapshot-revert', guest.uuid, 'a'
                ) as process:
                    guest.destroy()
                done = self.finish(process)
                self.assertNotEqual(0, done.returncode)
                self.assertEqual('shut off', guest.state())
                self.assertEqual(files, self.files(guest))
                self.assert_nothing_left()
                self.start_otherwise(guest)
                guest.wait_until_up()

    def test_disk_that_becomes_full(self) -> None:
        room = self.tmpfs(400 * MIB)
        disk = root_disk.make(room, root_disk.Kind.RAW, name='root')
        guest = self.make_guest(disk=disk)
        self.take(guest, 'a')
        found, files = base.Found.of(guest), self.files(guest)
        with self.held_at(
            steps.before('save-memory'), 'snapshot-revert', guest.uuid, 'a'
        ) as process:
            filler = room / 'filler'
            with open(filler, 'wb') as file:
                free = os.statvfs(room)
                size = free.f_bavail * free.f_frsize
                os.posix_fallocate(file.fileno(), 0, size - 8 * MIB)
        done = self.finish(process)
        self.assertEqual(1, done.returncode, done.stderr)
        filler.unlink()
        self.assert_as_found(guest, found)
        self.assertEqual(files, self.files(guest))
        self.assert_nothing_left()

    def test_libvirtd_that_is_killed(self) -> None:
        guest = self.guest()
        self.take(guest, 'a', '--system')
        for step in ('define', 'redefine', 'restore-memory'):
            with self.subTest(step):
                found = base.Found.of(guest)
                with self.held_at(
                    steps.before(step), 'snapshot-revert', guest.uuid, 'a'
                ) as process:
                    self.libvirtd.restart(signal.SIGKILL)
                done = self.finish(process)
                self.run_command('recover')
                self.assertTrue(guest.is_ticking(), guest.console()[-500:])
                if done.returncode:
                    self.assert_as_found(guest, found)
                self.assertEqual(
                    self.disk_in_use(guest), str(self.disk(guest))
                )
                self.assert_same_tree(guest)
                self.assert_nothing_left()

    def test_internal_and_stopped_before_the_recovery(self) -> None:
        guest = self.guest()
        self.take(guest, 'i', '--internal')
        guest.wait_for_ticks(3)
        self.kill_at(
            steps.after('revert-internal'), 'snapshot-revert', guest.uuid, 'i'
        )
        guest.wait_until_up()
        guest.destroy()
        sectors = disk_lib.ring_numbers(self.disk(guest), 'qcow2')
        self.run_command('recover')
        self.assertEqual('shut off', guest.state())
        self.assertEqual(
            sectors, disk_lib.ring_numbers(self.disk(guest), 'qcow2')
        )
        self.assertEqual(['i'], list(self.listed(guest)))
        self.assert_nothing_left()

    def test_internal_and_restarted_before_the_recovery(self) -> None:
        guest = self.guest()
        self.take(guest, 'i', '--internal')
        self.kill_at(
            steps.after('create-domain-snapshot'),
            *('snapshot-revert', guest.uuid, 'i'),
        )
        guest.destroy()
        self.start_otherwise(guest)
        guest.wait_until_up()
        run = self.run_number(guest)
        self.run_command('recover')
        self.assertEqual(run, self.run_number(guest))
        self.assertTrue(guest.is_ticking())
        self.assertEqual(['i'], list(self.listed(guest)))
        self.assert_nothing_left()


class TestStopped(domain_snapshot_base.ContentTestCase):
    """A guest that does not run, of which each file is known."""

    COMMAND = 'snapshot-revert'

    def test_tree_that_is_changed_meanwhile(self) -> None:
        guest = self.stopped()
        self.chain(guest, 'a')
        with self.held_at(
            steps.after('name-file'), self.COMMAND, guest.uuid, 'a'
        ) as process:
            self.chain(guest, 'b')
        done = self.finish(process)
        self.assertEqual(CONFLICT, done.returncode, done.stderr)
        self.assertIn('has changed just now', done.stderr)
        self.assert_content(guest, 2, a=1, b=2)
        self.assertTrue(self.listed(guest)['b']['Current'])

    def test_virsh_goes_on(self) -> None:
        """A newer libvirt removes what the guest leaves, and only that."""
        guest = self.stopped()
        self.chain(guest, 'a', 'b', 'c')
        with self.libvirtd.connection() as connection:
            has_revert = connection.getLibVersion() >= 9009000
        for ours, theirs, number in (('b', 'a', 1), ('c', 'b', 2)):
            self.run_command(self.COMMAND, guest.uuid, ours)
            if not has_revert:
                with testtools.ExpectedException(
                    subprocess.CalledProcessError
                ):
                    self.virsh(self.COMMAND, guest.uuid, theirs)
                continue
            self.virsh(self.COMMAND, guest.uuid, theirs)
            self.assert_content(guest, number, a=1, b=2, c=3)
            self.assertEqual(4, len(self.files(guest)), self.files(guest))
        self.run_command(self.COMMAND, guest.uuid, 'b')
        self.run_command('snapshot-delete', guest.uuid, 'a')
        if has_revert:
            self.virsh(self.COMMAND, guest.uuid, 'c')
            self.assert_content(guest, 3, b=2, c=3)
            self.virsh('snapshot-delete', guest.uuid, 'c')
            self.virsh('snapshot-delete', guest.uuid, 'b')
            self.assert_content(guest, 3)
            self.assertEqual(['root.qcow2'], self.files(guest))

    def test_virsh_after_a_deletion(self) -> None:
        """The one before becomes the current one, and has another child."""
        guest = self.stopped()
        self.chain(guest, 'a', 'b')
        self.run_command(self.COMMAND, guest.uuid, 'a')
        self.write(guest, 2)
        self.take(guest, 'd')
        self.write(guest, 3)
        self.run_command('snapshot-delete', guest.uuid, 'd')
        self.assert_content(guest, 3, a=1, b=2)
        with self.libvirtd.connection() as connection:
            has_revert = connection.getLibVersion() >= 9009000
        if has_revert:
            self.virsh(self.COMMAND, guest.uuid, 'b')
            self.assert_content(guest, 2, a=1, b=2)
            self.assertEqual(3, len(self.files(guest)), self.files(guest))

    def test_on_a_block_device(self) -> None:
        """An overlay that is a device, so that it has no folder."""
        guest = self.stopped()
        device = self.take_on_device(guest, 'a')
        self.run_command(self.COMMAND, guest.uuid, 'a')
        self.assertEqual({1}, self.numbers(self.disk(guest)))
        self.assertEqual(self.folder_of(guest), self.disk(guest).parent)
        self.assertTrue(device.is_block_device())
        self.assert_nothing_left()
