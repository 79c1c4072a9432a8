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
import signal
import subprocess

from tests.functional import base
from tests.functional import domain_snapshot_base
from tests.lab import disk as disk_lib
from tests.lab import domain
from tests.lab import guest as guest_lib
from tests.lab import root_disk
from tests.lab import steps

CONFLICT = 4
INVALID = 2


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
                    arguments = '--directory', str(self.folder_of(guest))
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


class TestKilled(CreateTestCase):
    """kill -9 at each step, and the recovery after it."""

    ARGUMENTS = ('--disk', '--quiesce')

    def kill_at(self, guest: guest_lib.Guest, point: steps.Point) -> None:
        command = self.command(
            'snapshot-create', guest.uuid, 'killed', *self.ARGUMENTS
        )
        shell = command.index('nova_snap.cmd.shell')
        command[shell : shell + 1] = [
            *('tests.functional.die_at', point.moment, point.function)
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=base.TIMEOUT
        )
        self.assertEqual(-signal.SIGKILL, done.returncode, done.stderr)

    def test_each_point(self) -> None:
        guest = self.guest(agent=True)
        for point in steps.DOMAIN_SNAPSHOT:
            with self.subTest(str(point)):
                self.check_point(guest, point)

    def check_point(self, guest: guest_lib.Guest, point: steps.Point) -> None:
        found, files = base.Found.of(guest), self.files(guest)
        self.kill_at(guest, point)
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
        self.assert_as_found(guest, found)
        self.assertEqual(files, self.files(guest))

    def test_the_next_one_recovers_by_itself(self) -> None:
        guest = self.guest(agent=True)
        self.kill_at(guest, steps.after('freeze'))
        self.create(guest, 'killed')
        self.assertTrue(guest.is_ticking())

    def test_memory_that_was_half_written(self) -> None:
        """As a libvirtd that is killed meanwhile leaves it."""
        guest = self.guest()
        found, files = base.Found.of(guest), self.files(guest)
        command = self.command(
            'snapshot-create', guest.uuid, 'killed', '--system'
        )
        shell = command.index('nova_snap.cmd.shell')
        point = steps.before('create-domain-snapshot')
        command[shell : shell + 1] = [
            *('tests.functional.die_at', point.moment, point.function)
        ]
        subprocess.run(command, capture_output=True, timeout=base.TIMEOUT)
        half = self.folder_of(guest) / 'root.killed.memory'
        half.write_bytes(b'half of it')
        # Nobody else's file is removed, though it has the same name.
        other = self.folder_of(guest) / 'root.killed'
        other.unlink()
        other.write_text('somebody else has written this')
        self.run_command('recover')
        self.assertEqual('somebody else has written this', other.read_text())
        other.unlink()
        self.assertEqual(files, self.files(guest))
        self.assert_as_found(guest, found)
        self.assert_nothing_left()

    def test_a_guest_that_powers_off_meanwhile(self) -> None:
        guest = self.guest(agent=True)
        self.kill_at(guest, steps.after('freeze'))
        guest.destroy()
        files = [f for f in self.files(guest) if 'killed' not in f]
        self.run_command('recover')
        self.assertEqual(files, self.files(guest))
        self.assertEqual('shut off', guest.state())
        self.assert_nothing_left()
