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

"""Domain snapshots of guests that number what they write."""

import json
import os
import signal
import subprocess

from tests.functional import base
from tests.functional import domain_snapshot_base
from tests.lab import command
from tests.lab import disk as disk_lib
from tests.lab import domain
from tests.lab import exhaustive
from tests.lab import guest as guest_lib
from tests.lab import root_disk
from tests.lab import steps

CONFLICT = 4
INVALID = 2
CANCELLED = 7


class CreateTestCase(domain_snapshot_base.DomainSnapshotTestCase):
    """Each domain snapshot is compared with virsh and with the files."""

    def create(self, guest: guest_lib.Guest, *arguments: str) -> None:
        self.run_command(
            'snapshot-create', guest.uuid, *arguments, '-f', 'json'
        )
        self.assert_same_tree(guest)
        self.assert_nothing_left()

    def assert_refused(
        self, guest: guest_lib.Guest, reason: str, *arguments: str
    ) -> None:
        """Check that it is refused, and nothing was touched."""
        found, files = base.Found.of(guest), self.files(guest)
        tree = self.virsh_tree(guest)
        done = self.run_command(
            'snapshot-create', guest.uuid, *arguments, status=None
        )
        self.assertIn(done.returncode, (CONFLICT, INVALID), done.stderr)
        self.assertIn(reason, done.stderr)
        self.assertEqual(found, base.Found.of(guest))
        self.assertEqual(files, self.files(guest))
        self.assertEqual(tree, self.virsh_tree(guest))
        self.assert_nothing_left()


class TestCreate(CreateTestCase):
    def test_each_kind_of_a_running_guest(self) -> None:
        guest = self.guest(agent=True)
        folder = self.folder_of(guest)
        before = guest.ticks()
        with guest.gap_watch():
            self.create(guest, 'd', '--quiesce', '--description', 'why')
        self.assertTrue(guest.is_ticking())
        self.assertEqual('why', self.shown(guest, 'd')['description'])
        frozen = folder / 'root.qcow2'
        last = disk_lib.last_log_number(frozen, 'qcow2')
        self.assertGreaterEqual(last, before)
        self.assertTrue(disk_lib.file_system(frozen, 'qcow2').clean)
        guest.wait_for_ticks(5)
        # What is written now is not in the frozen file.
        self.assertEqual(last, disk_lib.last_log_number(frozen, 'qcow2'))
        self.create(guest, 's', '--system', '--live')
        self.assertTrue(guest.is_ticking())
        self.create(guest, 'p', '--system')
        self.assertTrue(guest.is_ticking())
        self.create(guest, 'i', '--system', '--internal')
        self.assertTrue(guest.is_ticking())
        self.create(guest, 'm', '--memory')
        self.assertEqual('shut off', guest.state())
        self.assertEqual(
            [
                'root.d',
                'root.m.memory',
                'root.p',
                'root.p.memory',
                'root.qcow2',
                'root.s',
                'root.s.memory',
            ],
            self.files(guest),
        )
        rows = self.listed(guest)
        self.assertEqual(
            [
                *('disk', 'system external', 'system external'),
                *('system internal', 'memory'),
            ],
            [rows[name]['Kind'] for name in 'dspim'],
        )
        self.assertEqual([[]] * 5, [row['Problems'] for row in rows.values()])
        self.assertEqual('', disk_lib.check(folder / 'root.p'))
        # The definition has the newest file, and the guest starts with it.
        self.assertIn(f'{folder}/root.p', guest.inactive_xml())

    def test_of_a_stopped_guest(self) -> None:
        for kind in (root_disk.Kind.RAW, root_disk.Kind.BLOCK):
            with self.subTest(kind=kind):
                guest = self.guest(kind=kind, start=False)
                arguments: tuple[str, ...] = ()
                if kind is root_disk.Kind.BLOCK:
                    self.assert_refused(guest, '--directory has to say')
                    arguments = '--directory', str(self.directory())
                self.create(guest, 'a', *arguments)
                (file,) = [
                    file['path']
                    for file in self.shown(guest, 'a')['files']
                    if file['role'] == 'overlay'
                ]
                self.assertIn(file, guest.inactive_xml())
                with guest.domain() as dom:
                    dom.create()
                guest.wait_until_up()
                guest.remove()

    def test_print_touches_nothing(self) -> None:
        guest = self.guest(start=False)
        found, files = base.Found.of(guest), self.files(guest)
        done = self.run_command(
            'snapshot-create', guest.uuid, 'a', '--print', '-f', 'json'
        )
        told = json.loads(done.stdout)
        self.assertEqual(
            ('a', 'vda', f'{self.folder_of(guest)}/root.a', 'does not run'),
            tuple(told[k] for k in ('name', 'disks', 'files', 'guest')),
        )
        self.assertEqual(found, base.Found.of(guest))
        self.assertEqual(files, self.files(guest))
        self.assertEqual([], self.virsh_tree(guest))

    def test_refused(self) -> None:
        guest = self.guest(start=False)
        self.assert_refused(guest, 'no disk vdz', '--disks', 'vdz')
        self.assert_refused(guest, 'part of the names', '../a')
        self.assert_refused(guest, 'no memory to keep', 'a', '--system')
        self.assert_refused(guest, 'it does not run', 'a', '--quiesce')
        taken = self.folder_of(guest) / 'root.a'
        taken.write_text('somebody else has written this')
        self.assert_refused(guest, f'{taken} exists', 'a')
        taken.unlink()
        self.create(guest, 'a')
        self.assert_refused(guest, 'it has a domain snapshot a', 'a')

    def test_refused_internal(self) -> None:
        guest = self.guest(start=False)
        internal = '--system', '--internal'
        self.assert_refused(guest, 'the number of another', '2', *internal)
        disk = self.folder_of(guest) / 'root.qcow2'
        command.run('qemu-img', 'snapshot', '-c', 'theirs', disk)
        self.assert_refused(guest, 'of this name already', 'theirs', *internal)
        self.create(guest, 'ours', *internal)
        self.assertEqual('', disk_lib.check(disk))

    def test_memory_without_all_disks_is_said(self) -> None:
        more = root_disk.make(self.directory(), root_disk.Kind.QCOW2, 'more')
        guest = self.guest(extra_disks=(more,), wait=False)
        done = self.run_command(
            *('snapshot-create', guest.uuid, 'a', '--system', '--print'),
            *('--disks', 'vda', '-f', 'json'),
        )
        self.assertIn('Disk vdc is not kept', json.loads(done.stdout)['notes'])

    def test_refused_of_nova(self) -> None:
        guest = self.guest(start=False, metadata=domain.NovaMetadata('web'))
        self.assert_refused(guest, 'Nova manages the server', 'a')
        self.create(guest, 'a', '--force')

    def test_no_room(self) -> None:
        guest = self.guest(start=False)
        self.configure(snapshot={'reserved_space_mb': str(2**40)})
        found, files = base.Found.of(guest), self.files(guest)
        done = self.run_command('snapshot-create', guest.uuid, status=1)
        self.assertIn('Not enough free space', done.stderr)
        self.assertEqual(found, base.Found.of(guest))
        self.assertEqual(files, self.files(guest))


@exhaustive.usually(
    'test_each_point',
    'test_each_point_with_memory',
    'test_a_guest_that_has_gone_meanwhile',
)
class TestKilled(CreateTestCase):
    """kill -9 at each step, and the recovery after it."""

    def test_each_point(self) -> None:
        guest = self.guest(agent=True)
        for point in steps.DOMAIN_SNAPSHOT:
            with self.subTest(str(point)):
                self.check_point(guest, point, '--disk', '--quiesce')

    def test_each_point_with_memory(self) -> None:
        guest = self.guest()
        for point in steps.DOMAIN_SNAPSHOT_OF_SYSTEM:
            with self.subTest(str(point)):
                self.check_point(guest, point, '--system')

    def check_point(
        self, guest: guest_lib.Guest, point: steps.Point, *arguments: str
    ) -> None:
        found, files = base.Found.of(guest), self.files(guest)
        command = 'snapshot-create', guest.uuid, 'killed', *arguments
        self.kill_at(point, *command)
        self.run_command('recover')
        self.assert_nothing_left()
        self.assertTrue(guest.is_ticking(), guest.console()[-500:])
        if self.virsh_tree(guest):
            # It was whole by then, and stays.
            self.assertIn(
                str(point), ('after create-domain-snapshot', 'before thaw')
            )
            self.assertEqual([], self.listed(guest)['killed']['Problems'])
            self.virsh('snapshot-delete', guest.uuid, 'killed')
            # libvirt 9.0 leaves the memory.
            memory = self.folder_of(guest) / 'root.killed.memory'
            memory.unlink(missing_ok=True)
        self.assert_as_found(guest, found)
        self.assertEqual(files, self.files(guest))

    def test_the_next_one_recovers_by_itself(self) -> None:
        guest = self.guest(agent=True)
        self.kill_at(
            steps.after('freeze'),
            *('snapshot-create', guest.uuid, 'killed', '--quiesce'),
        )
        self.create(guest, 'killed')
        self.assertTrue(guest.is_ticking())

    def test_memory_that_was_half_written(self) -> None:
        """As a libvirtd that is killed meanwhile leaves it."""
        guest = self.guest()
        found, files = base.Found.of(guest), self.files(guest)
        self.kill_at(
            steps.before('create-domain-snapshot'),
            *('snapshot-create', guest.uuid, 'killed', '--system'),
        )
        half = self.folder_of(guest) / 'root.killed.memory'
        half.write_bytes(b'half of it')
        # Nobody else's file is removed, though it has the same name.
        other = self.folder_of(guest) / 'root.killed'
        theirs = other.with_name('theirs')
        theirs.write_text('somebody else has written this')
        theirs.replace(other)
        self.run_command('recover')
        self.assertEqual('somebody else has written this', other.read_text())
        other.unlink()
        self.assertEqual(files, self.files(guest))
        self.assert_as_found(guest, found)
        self.assert_nothing_left()

    def test_a_guest_that_powers_off_meanwhile(self) -> None:
        guest = self.guest(agent=True)
        self.kill_at(
            steps.after('freeze'),
            *('snapshot-create', guest.uuid, 'killed', '--quiesce'),
        )
        guest.destroy()
        files = [f for f in self.files(guest) if 'killed' not in f]
        self.run_command('recover')
        self.assertEqual(files, self.files(guest))
        self.assertEqual('shut off', guest.state())
        self.assert_nothing_left()

    def test_a_guest_that_has_gone_meanwhile(self) -> None:
        """Another host may run it with the new files."""
        guest = self.guest(start=False)
        self.kill_at(
            steps.before('create-domain-snapshot'),
            *('snapshot-create', guest.uuid, 'killed'),
        )
        files = self.files(guest)
        self.assertIn('root.killed', files)
        with guest.domain() as dom:
            dom.undefine()
        done = self.run_command('recover')
        self.assertIn('root.killed', done.stderr)
        self.assertEqual(files, self.files(guest))
        self.assert_nothing_left()


@exhaustive.usually('test_disk_that_becomes_full')
class TestFaults(CreateTestCase):
    """What goes wrong while libvirt works leaves the guest as it was."""

    def check_failed(
        self,
        guest: guest_lib.Guest,
        process: subprocess.Popen[str],
        found: base.Found,
        files: list[str],
        status: int = 1,
    ) -> str:
        done = self.finish(process)
        self.assertEqual(status, done.returncode, done.stderr)
        self.assertEqual([], self.virsh_tree(guest))
        self.assertEqual(files, self.files(guest))
        self.assert_nothing_left()
        self.assert_as_found(guest, found)
        return done.stderr

    def test_disk_that_becomes_full(self) -> None:
        guest = self.guest()
        found, files = base.Found.of(guest), self.files(guest)
        room = self.tmpfs(guest.spec.memory * root_disk.MIB * 5 // 4)
        with self.held_at(
            steps.before('create-domain-snapshot'),
            *('snapshot-create', guest.uuid, 'a', '--system'),
            *('--directory', str(room)),
        ) as process:
            size = guest.spec.memory * root_disk.MIB * 6 // 5
            with open(room / 'somebody else', 'wb') as file:
                os.posix_fallocate(file.fileno(), 0, size)
        self.check_failed(guest, process, found, files)
        self.assertEqual(['somebody else'], [p.name for p in room.iterdir()])

    def test_libvirtd_that_is_killed(self) -> None:
        guest = self.guest()
        found, files = base.Found.of(guest), self.files(guest)
        memory = self.folder_of(guest) / 'root.a.memory'
        with self.held_at(
            steps.before('create-domain-snapshot'),
            *('snapshot-create', guest.uuid, 'a', '--system'),
        ) as process:
            pass
        self.wait_until(process, lambda: memory.stat().st_size)
        self.libvirtd.restart(signal.SIGKILL)
        self.check_failed(guest, process, found, files, status=6)

    def test_guest_that_is_switched_off(self) -> None:
        guest = self.guest()
        files = self.files(guest)
        with self.held_at(
            steps.before('create-domain-snapshot'),
            *('snapshot-create', guest.uuid, 'a', '--system', '--live'),
        ) as process:
            guest.destroy()
        self.check_failed(guest, process, base.Found.of(guest), files)

    def test_cancelled_while_memory_is_written(self) -> None:
        guest = self.guest()
        found, files = base.Found.of(guest), self.files(guest)
        with self.held_at(
            steps.before('create-domain-snapshot'),
            *('snapshot-create', guest.uuid, 'a', '--system', '--live'),
        ) as process:
            process.send_signal(signal.SIGINT)
        done = self.finish(process)
        if done.returncode == 0:  # libvirt was quicker
            self.assertEqual(['a'], list(self.listed(guest)))
            self.assertTrue(guest.is_ticking())
            return
        self.assertEqual(CANCELLED, done.returncode, done.stderr)
        self.assertEqual(files, self.files(guest))
        self.assert_as_found(guest, found)
        self.assert_nothing_left()
