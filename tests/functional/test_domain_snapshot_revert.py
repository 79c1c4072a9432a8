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

"""Going back to domain snapshots of guests that number what they write."""

import signal

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
MIB = root_disk.MIB


class TestStopped(domain_snapshot_base.ContentTestCase):
    """A guest that does not run, of which each file is known."""

    COMMAND = 'snapshot-revert'

    def revert(self, guest: guest_lib.Guest, *arguments: str) -> None:
        self.run_command('snapshot-revert', guest.uuid, *arguments)
        self.assertEqual('shut off', guest.state())

    def test_there_and_back(self) -> None:
        guest = self.stopped()
        self.chain(guest, 'a', 'b', 'c')
        self.revert(guest, 'a')
        self.assert_content(guest, 1, a=1, b=2, c=3)
        # What was written after "c" is gone.
        self.assertEqual(4, len(self.files(guest)), self.files(guest))
        self.write(guest, 2)
        self.take(guest, 'd')
        self.write(guest, 3)
        self.revert(guest, 'c', '--keep')
        (kept,) = set(self.listed(guest)) - set('abcd')
        self.assert_content(guest, 3, a=1, b=2, c=3, d=2, **{kept: 3})
        self.revert(guest, kept)
        self.assert_content(guest, 3, a=1, b=2, c=3, d=2, **{kept: 3})
        # Each of them can be deleted.
        for name, *arguments in (('b', '--children'), (kept,), ('a',)):
            self.run_command('snapshot-delete', guest.uuid, name, *arguments)
        self.assert_content(guest, 3, d=2)
        self.run_command('snapshot-delete', guest.uuid, 'd')
        self.assert_content(guest, 3)
        self.assertEqual(['root.qcow2'], self.files(guest))

    def test_internal(self) -> None:
        guest = self.stopped()
        self.take(guest, 'i', '--internal')
        self.write(guest, 2)
        self.take(guest, 'j', '--internal')
        self.write(guest, 3)
        self.revert(guest, 'i')
        self.assertEqual({1}, self.numbers(self.disk(guest)))
        self.assertEqual({'i', 'j'}, set(self.listed(guest)))
        self.write(guest, 2)
        self.revert(guest, 'j', '--keep')
        self.assertEqual({1, 2}, self.numbers(self.disk(guest)))
        self.assertEqual(3, len(self.listed(guest)))
        self.assert_same_tree(guest)
        self.assert_nothing_left()

    def test_refused(self) -> None:
        guest = self.stopped()
        self.take(guest, 'i', '--internal')
        disk = self.disk(guest)
        command.run('qemu-img', 'bitmap', '--add', disk, 'b')
        self.assert_refused(guest, 'persistent bitmaps', 'i')
        command.run('qemu-img', 'bitmap', '--remove', disk, 'b')
        self.take(guest, 'a')
        self.assert_refused(guest, 'is not the disk vda any more', 'i')
        frozen = self.frozen(guest, 'a')
        with open(frozen, 'r+b'):
            self.assert_refused(guest, f'has {frozen} open', 'a')
        away = frozen.with_name('away')
        frozen.rename(away)
        self.assert_refused(guest, 'does not exist', 'a')
        away.rename(frozen)
        self.revert(guest, 'a')

    def test_refused_of_nova(self) -> None:
        guest = self.guest(start=False, metadata=domain.NovaMetadata('web'))
        self.take(guest, 'a')
        self.assert_refused(guest, 'Nova manages the server', 'a')
        self.revert(guest, 'a', '--force')

    def test_killed(self) -> None:
        for point in steps.REVERT_STOPPED:
            with self.subTest(str(point)):
                guest = self.stopped()
                self.chain(guest, 'a', 'b')
                files = self.files(guest)
                self.kill_at(point, 'snapshot-revert', guest.uuid, 'a')
                self.run_command('recover')
                self.assertEqual('shut off', guest.state())
                if self.listed(guest)['a']['Current']:
                    self.assert_content(guest, 1, a=1, b=2)
                else:
                    self.assert_content(guest, 3, a=1, b=2)
                    self.assertEqual(files, self.files(guest))
                guest.remove()


@exhaustive.usually(
    'test_memory_and_disks',
    'test_guest_that_does_not_start',
    'test_killed',
)
class TestRunning(domain_snapshot_base.DomainSnapshotTestCase):
    """A guest that runs, and writes all the time."""

    def revert(self, guest: guest_lib.Guest, *arguments: str) -> None:
        self.run_command('snapshot-revert', guest.uuid, *arguments)
        self.assert_same_tree(guest)
        self.assert_nothing_left()

    def ticks_from(self, guest: guest_lib.Guest, said: int) -> list[int]:
        """Return what a guest has told since its console had so many bytes.

        Wait until it has told some numbers.
        """
        guest.wait_for(
            lambda: len(guest_lib.TICK.findall(guest.console()[said:])) > 2,
            'ticks',
            guest_lib.BOOT_TIMEOUT,
        )
        found = guest_lib.TICK.findall(guest.console()[said:])
        return [int(number) for number in found]

    def assert_gone_on(self, guest: guest_lib.Guest, said: int) -> None:
        """Check that a guest goes on with the memory that it had."""
        last = int(guest_lib.TICK.findall(guest.console()[:said])[-1])
        self.assertIn(self.ticks_from(guest, said)[0] - last, range(1, 3))

    def test_memory_and_disks(self) -> None:
        guest = self.guest()
        for name, arguments in (
            ('external', ('--system',)),
            ('live', ('--system', '--live')),
            ('inside', ('--internal',)),
        ):
            with self.subTest(name):
                self.check_memory(guest, name, *arguments)
        guest.destroy()
        self.assertEqual('', disk_lib.check(self.disk(guest)))

    def check_memory(
        self, guest: guest_lib.Guest, name: str, *arguments: str
    ) -> None:
        before = guest.ticks()
        self.take(guest, name, *arguments)
        after = guest.ticks()
        guest.wait_for_ticks(5)
        self.revert(guest, name, '--pause')
        self.assertEqual('paused', guest.state())
        said = len(guest.console())
        guest.resume()
        numbers = self.ticks_from(guest, said)
        # The number in its memory is that of then.
        self.assertIn(numbers[0], range(before, after + 2))
        self.assertEqual(
            list(range(numbers[0], numbers[0] + len(numbers))), numbers
        )
        self.revert(guest, name)
        self.assertTrue(guest.is_ticking())
        self.assertEqual('running', guest.state())

    def test_disks_alone(self) -> None:
        guest = self.guest(agent=True)
        self.take(guest, 'a', '--quiesce')
        frozen = self.folder_of(guest) / 'root.qcow2'
        last = disk_lib.last_log_number(frozen, 'qcow2')
        guest.wait_for_ticks(20)
        self.revert(guest, 'a')
        self.assertEqual('shut off', guest.state())
        said = len(guest.console())
        self.assertEqual(
            last, disk_lib.last_log_number(self.disk(guest), 'qcow2')
        )
        self.revert(guest, 'a', '--keep', '--start')
        numbers = self.ticks_from(guest, said)
        self.assertLess(numbers[0], last + 20)
        self.assertTrue(disk_lib.file_system(frozen, 'qcow2').clean)
        self.assertEqual(2, len(self.listed(guest)))

    def test_memory_alone(self) -> None:
        guest = self.guest()
        self.run_command('snapshot-create', guest.uuid, 'm', '--memory')
        said = len(guest.console())
        self.assertEqual('shut off', guest.state())
        self.revert(guest, 'm')
        self.assert_gone_on(guest, said)
        done = self.run_command(
            'snapshot-revert', guest.uuid, 'm', status=CONFLICT
        )
        self.assertIn('disk vda was written to since', done.stderr)
        self.assertTrue(guest.is_ticking())

    def test_kept_with_its_memory(self) -> None:
        guest = self.guest()
        self.take(guest, 'a', '--system')
        guest.wait_for_ticks(20)
        before = guest.ticks()
        self.revert(guest, 'a', '--keep')
        (kept,) = set(self.listed(guest)) - {'a'}
        self.assertEqual('system external', self.listed(guest)[kept]['Kind'])
        self.revert(guest, kept, '--pause')
        said = len(guest.console())
        guest.resume()
        self.assertGreaterEqual(self.ticks_from(guest, said)[0], before)

    def test_guest_that_does_not_start(self) -> None:
        guest = self.guest_that_cannot_go_back('a')
        self.take(guest, 'b')
        for arguments in ((), ('--start',)):
            with self.subTest(arguments=arguments):
                found, files = base.Found.of(guest), self.files(guest)
                said = len(guest.console())
                done = self.run_command(
                    *('snapshot-revert', guest.uuid, 'a', *arguments),
                    status=1,
                )
                self.assertIn('cd.iso', done.stderr)
                self.assert_gone_on(guest, said)
                self.assert_as_found(guest, found)
                self.assertEqual(files, self.files(guest))
                self.assertTrue(self.listed(guest)['b']['Current'])
                self.assert_nothing_left()

    def check_killed(
        self, guest: guest_lib.Guest, name: str, point: steps.Point
    ) -> None:
        found, files = base.Found.of(guest), self.files(guest)
        self.kill_at(point, 'snapshot-revert', guest.uuid, name)
        self.run_command('recover')
        self.assertEqual('running', guest.state())
        self.assertTrue(guest.is_ticking(), guest.console()[-500:])
        self.assert_nothing_left()
        self.assert_same_tree(guest)
        self.assertEqual(
            domain_snapshot_base.top_file(guest.xml()), str(self.disk(guest))
        )
        if not self.listed(guest)[name]['Current']:
            self.assert_as_found(guest, found)
            self.assertEqual(files, self.files(guest))

    def test_killed(self) -> None:
        guest = self.guest()
        self.take(guest, 'a', '--system')
        self.take(guest, 'b')
        for point in steps.REVERT_RUNNING:
            with self.subTest(str(point)):
                self.check_killed(guest, 'a', point)

    def test_killed_internal(self) -> None:
        guest = self.guest()
        self.take(guest, 'a', '--internal')
        for point in steps.REVERT_INTERNAL:
            with self.subTest(str(point)):
                self.check_killed(guest, 'a', point)
                self.assertEqual({'a'}, set(self.listed(guest)))

    def test_faults(self) -> None:
        guest = self.guest()
        self.take(guest, 'a', '--system')
        self.take(guest, 'b')
        command = 'snapshot-revert', guest.uuid, 'a'
        found, files = base.Found.of(guest), self.files(guest)
        said = len(guest.console())
        with self.held_at(steps.after('save-memory'), *command) as process:
            process.send_signal(signal.SIGINT)
            self.libvirtd.restart(signal.SIGKILL)
        done = self.finish(process)
        if done.returncode == 0:  # it was too late
            return
        self.assert_gone_on(guest, said)
        self.assert_as_found(guest, found)
        self.assertEqual(files, self.files(guest))
        self.assert_nothing_left()

    def test_no_room(self) -> None:
        guest = self.guest()
        self.take(guest, 'a')
        self.configure(snapshot={'reserved_space_mb': str(2**40)})
        found, files = base.Found.of(guest), self.files(guest)
        done = self.run_command('snapshot-revert', guest.uuid, 'a', status=1)
        self.assertIn('Not enough free space', done.stderr)
        self.assertEqual(files, self.files(guest))
        self.assert_as_found(guest, found)
