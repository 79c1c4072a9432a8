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

"""Deleting domain snapshots: the disks of all others have to stay the same."""

import json
import os
import pathlib
import signal
import subprocess

from tests.functional import domain_snapshot_base
from tests.lab import command
from tests.lab import disk as disk_lib
from tests.lab import domain
from tests.lab import exhaustive
from tests.lab import guest as guest_lib
from tests.lab import root_disk
from tests.lab import steps

CANCELLED = 7
MIB = root_disk.MIB


class DeleteTestCase(domain_snapshot_base.ContentTestCase):
    """Deletes, and compares what is left."""

    COMMAND = 'snapshot-delete'

    def has(self, guest: guest_lib.Guest, name: str) -> bool:
        """Return True if libvirt has a domain snapshot."""
        return any(found == name for _depth, found in self.virsh_tree(guest))

    def delete(self, guest: guest_lib.Guest, *arguments: str) -> None:
        self.run_command('snapshot-delete', guest.uuid, *arguments)


class TestStopped(DeleteTestCase):
    """A guest that does not run."""

    def test_each_place_in_a_chain(self) -> None:
        for kind in ('qcow2', 'raw'):
            with self.subTest(kind=kind):
                guest = self.stopped(kind)
                self.chain(guest, 'a', 'b', 'c', 'd')
                self.delete(guest, 'd')  # the current one, a leaf
                self.assert_content(guest, 5, a=1, b=2, c=3)
                self.delete(guest, 'b')  # between others
                self.assert_content(guest, 5, a=1, c=3)
                self.delete(guest, 'a')  # the root
                self.assert_content(guest, 5, c=3)
                self.delete(guest, 'c')
                self.assert_content(guest, 5)
                self.assertEqual([f'root.{kind}'], self.files(guest))

    def test_children(self) -> None:
        guest = self.stopped()
        self.chain(guest, 'a', 'b', 'c')
        told = json.loads(
            self.run_command(
                *('snapshot-delete', guest.uuid, 'b', '--children'),
                *('--print', '-f', 'json'),
            ).stdout
        )
        self.assertEqual('c b', told['names'])
        self.assertIn('root.c is removed', told['files'])
        self.assert_content(guest, 4, a=1, b=2, c=3)
        self.delete(guest, 'b', '--children')
        self.assert_content(guest, 4, a=1)

    def branched(self) -> guest_lib.Guest:
        """Return a guest with "a", and "b" and "c" after it."""
        guest = self.stopped()
        self.chain(guest, 'a', 'b')
        other = self.folder_of(guest) / 'branch'
        command.run(
            *('qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'qcow2'),
            *('-b', self.frozen(guest, 'a'), other),
        )
        xml = guest.inactive_xml().replace(str(self.disk(guest)), str(other))
        with self.libvirtd.connection() as connection:
            connection.defineXML(xml)
        self.virsh('snapshot-current', guest.uuid, 'a')
        self.write(guest, 2)
        self.take(guest, 'c')
        self.write(guest, 3)
        return guest

    def test_branches(self) -> None:
        guest = self.branched()
        self.assert_content(guest, 3, a=1, b=2, c=2)
        self.assert_refused(guest, 'more than one branch lies over', 'a')
        # What was written after "b" is nobody's any more.
        self.delete(guest, 'b')
        self.assertEqual(
            ['branch', 'branch.c', 'root.qcow2'],
            [
                path.replace('branch.c', 'branch.c')
                for path in self.files(guest)
            ],
        )
        self.assert_content(guest, 3, a=1, c=2)
        self.delete(guest, 'a')
        self.assert_content(guest, 3, c=2)

    def test_all_of_a_tree(self) -> None:
        guest = self.branched()
        self.delete(guest, 'a', '--children')
        self.assert_content(guest, 3)
        self.assertEqual(['root.qcow2'], self.files(guest))

    def test_refused_where_another_guest_uses_a_file(self) -> None:
        guest = self.stopped()
        self.chain(guest, 'a', 'b')
        top = self.directory() / 'top'
        link = top.with_name('link')
        os.link(self.frozen(guest, 'b'), link)
        command.run(
            *('qemu-img', 'rebase', '-u', '-f', 'qcow2', '-F', 'qcow2'),
            *('-b', self.frozen(guest, 'a'), link),
        )
        command.run(
            *('qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'qcow2'),
            *('-b', link, top),
        )
        disk = root_disk.RootDisk(root_disk.Kind.OVERLAY, top, 'qcow2')
        self.configure(
            snapshot={
                'reserved_space_mb': '0',
                'backing_file_directories': str(self.folder_of(guest)),
            }
        )
        neighbour = self.make_guest(disk=disk, start=False)
        for name in ('a', 'b'):
            self.assert_refused(guest, f'server {neighbour.name}', name)
        self.delete_neighbour(neighbour)
        self.delete(guest, 'a')
        self.assert_content(guest, 3, b=2)

    def delete_neighbour(self, neighbour: guest_lib.Guest) -> None:
        with neighbour.domain() as dom:
            dom.undefine()

    def test_refused_where_a_file_is_missing_or_open(self) -> None:
        guest = self.stopped()
        self.chain(guest, 'a', 'b')
        frozen = self.frozen(guest, 'a')
        with open(frozen, 'rb'):
            self.assert_refused(guest, f'has {frozen} open', 'a')
        with open(self.frozen(guest, 'b'), 'r+b'):
            self.assert_refused(guest, 'open', 'a')
        away = frozen.with_name('away')
        frozen.rename(away)
        self.assert_refused(guest, 'does not exist', 'a')
        away.rename(frozen)
        self.delete(guest, 'a')

    def test_refused_of_nova_and_with_saved_memory(self) -> None:
        guest = self.make_guest(
            kind=root_disk.Kind.QCOW2,
            start=False,
            metadata=domain.NovaMetadata('web'),
        )
        self.take(guest, 'a')
        self.assert_refused(guest, 'Nova manages the server', 'a')
        self.delete(guest, 'a', '--force')

    def test_no_room(self) -> None:
        guest = self.stopped()
        self.chain(guest, 'a')
        self.configure(snapshot={'reserved_space_mb': str(2**40)})
        done = self.run_command('snapshot-delete', guest.uuid, 'a', status=1)
        self.assertIn('Not enough free space', done.stderr)
        self.assert_content(guest, 2, a=1)

    def test_internal(self) -> None:
        guest = self.stopped()
        self.take(guest, 'i', '--internal')
        self.write(guest, 2)
        self.take(guest, 'j', '--internal')
        self.delete(guest, 'i')
        self.assertEqual(['j'], self.internal_of(self.disk(guest)))
        self.take(guest, 'x')
        self.write(guest, 3)
        # It is in a file below the disk now, where libvirt does not look.
        self.delete(guest, 'j')
        self.assertEqual([], self.internal_of(self.frozen(guest, 'x')))
        self.assert_content(guest, 3, x=2)

    def internal_of(self, path: pathlib.Path) -> list[str]:
        found = disk_lib.info(path, 'qcow2').get('snapshots', ())
        return [snapshot['name'] for snapshot in found]

    def test_external_around_internal(self) -> None:
        guest = self.stopped()
        self.chain(guest, 'a')
        self.take(guest, 'i', '--internal')
        # The internal one would be lost.
        self.assert_refused(guest, 'its internal snapshots would be lost', 'a')
        self.write(guest, 3)
        self.take(guest, 'b')
        self.write(guest, 4)
        self.delete(guest, 'b')  # which libvirt 9.0 refuses
        self.assertEqual(['i'], self.internal_of(self.disk(guest)))
        self.assertEqual(set(range(1, 5)), self.numbers(self.disk(guest)))

    def test_killed(self) -> None:
        for point in steps.DELETE_STOPPED:
            name = 'c' if point.step == 'define' else 'b'
            with self.subTest(str(point)):
                guest = self.stopped()
                self.chain(guest, 'a', 'b', 'c')
                self.kill_at(point, 'snapshot-delete', guest.uuid, name)
                if self.has(guest, name):  # it was not begun
                    self.run_command('recover')
                    self.assert_content(guest, 4, a=1, b=2, c=3)
                    self.assert_same_tree(guest)
                    continue
                # In between, the others are as they were.
                kept = {'a': 1, 'b': 2, 'c': 3}
                del kept[name]
                for other, last in kept.items():
                    self.assertEqual(
                        set(range(1, last + 1)),
                        self.numbers(self.frozen(guest, other)),
                    )
                self.run_command('recover')
                self.assert_content(guest, 4, **kept)
                guest.remove()

    def test_disk_that_becomes_full(self) -> None:
        room = self.tmpfs(32 * MIB)
        guest = self.stopped(folder=room)
        self.chain(guest, 'a', 'b')
        with self.held_at(
            steps.before('commit-file'), 'snapshot-delete', guest.uuid, 'b'
        ) as process:
            filler = room / 'filler'
            with open(filler, 'wb') as file:
                free = os.statvfs(room)
                size = free.f_bavail * free.f_frsize
                os.posix_fallocate(file.fileno(), 0, size - 65536)
        done = self.finish(process)
        self.assertEqual(1, done.returncode, done.stderr)
        self.assertEqual({1, 2, 3}, self.numbers(self.disk(guest)))
        self.assertEqual({1}, self.numbers(self.frozen(guest, 'a')))
        filler.unlink()
        self.run_command('recover')
        self.assert_content(guest, 3, a=1)


@exhaustive.usually(
    'test_each_place_in_a_chain',
    'test_killed',
    'test_cancelled_and_gone_on_with',
)
class TestRunning(DeleteTestCase):
    """A guest that runs, and writes all the time."""

    def running(self) -> guest_lib.Guest:
        return self.guest()

    def last_numbers(self, guest: guest_lib.Guest, name: str) -> int:
        return disk_lib.last_log_number(self.frozen(guest, name), 'qcow2')

    def test_each_place_in_a_chain(self) -> None:
        guest = self.running()
        last = {}
        for name in 'abc':
            arguments = ('--system',) if name == 'b' else ()
            self.take(guest, name, *arguments)
            guest.wait_for_ticks(2)
            last[name] = self.last_numbers(guest, name)
        for name in 'bca':  # between others, current, the last
            self.delete(guest, name)
            del last[name]
            self.assertTrue(guest.is_ticking())
            self.assert_same_tree(guest)
            for other, number in last.items():
                self.assertEqual(number, self.last_numbers(guest, other))
            self.assert_nothing_left()
        self.assertEqual(['root.qcow2'], self.files(guest))
        self.assert_ends_whole(guest)

    def check_killed(
        self, guest: guest_lib.Guest, point: steps.Point, name: str
    ) -> None:
        self.take(guest, 'a')
        guest.wait_for_ticks(1)
        if name == 'a':
            self.take(guest, 'b')
        found = self.disk(guest)
        self.kill_at(point, 'snapshot-delete', guest.uuid, 'a')
        is_left = self.has(guest, 'a')
        self.assertTrue(guest.is_ticking(), guest.console()[-500:])
        self.run_command('recover')
        self.assertTrue(guest.is_ticking(), guest.console()[-500:])
        self.assert_nothing_left()
        self.assertEqual({}, guest.block_jobs())
        self.assert_same_tree(guest)
        left = set(self.listed(guest))
        self.assertEqual(is_left, 'a' in left)
        if not is_left:
            self.assertEqual(name == 'a', self.disk(guest) == found)
        for other in sorted(left, reverse=True):
            self.delete(guest, other)
        self.assertEqual(['root.qcow2'], self.files(guest))

    def test_killed(self) -> None:
        guest = self.running()
        for point in steps.DELETE_MIDDLE:
            with self.subTest(f'between others: {point}'):
                self.check_killed(guest, point, 'a')
        for point in steps.DELETE_CURRENT:
            with self.subTest(f'current: {point}'):
                self.check_killed(guest, point, 'none')
        self.assert_ends_whole(guest)

    def slow(self, guest: guest_lib.Guest) -> 'subprocess.Popen[str]':
        """Begin a deletion that takes longer than any test."""
        self.take(guest, 'a')
        top = self.disk(guest)
        guest.wait_for(
            lambda: top.stat().st_blocks * 512 > 4 * MIB, '4 MiB written', 60
        )
        process = self.start(
            *('snapshot-delete', guest.uuid, 'a', '--poll'),
            *('--rate-limit', '0.25'),
        )
        self.wait_until(process, guest.block_jobs)
        return process

    def test_cancelled_and_gone_on_with(self) -> None:
        guest = self.guest(write=1)
        process = self.slow(guest)
        assert process.stderr is not None
        self.assertIn('merging', process.stderr.readline())
        process.send_signal(signal.SIGINT)
        done = self.finish(process)
        self.assertEqual(CANCELLED, done.returncode, done.stderr)
        self.assertTrue(guest.is_ticking())
        self.assertEqual({}, guest.block_jobs())
        self.assertEqual({}, self.listed(guest))
        self.run_command('recover')
        self.assertTrue(guest.is_ticking())
        self.assertEqual(['root.qcow2'], self.files(guest))
        self.assert_nothing_left()

    def test_guest_that_is_switched_off(self) -> None:
        guest = self.guest(write=1)
        process = self.slow(guest)
        guest.destroy()
        process.send_signal(signal.SIGINT)
        self.finish(process)
        self.run_command('recover')
        self.assertEqual(['root.qcow2'], self.files(guest))
        self.assertEqual('', disk_lib.check(self.disk(guest)))
        self.assert_nothing_left()

    def test_libvirtd_that_is_killed(self) -> None:
        guest = self.guest(write=1)
        process = self.slow(guest)
        self.libvirtd.restart(signal.SIGKILL)
        self.assertTrue(guest.is_ticking())
        process.send_signal(signal.SIGINT)
        self.assertEqual(CANCELLED, self.finish(process).returncode)
        self.assertTrue(guest.is_ticking())
        self.assertEqual({}, guest.block_jobs())
