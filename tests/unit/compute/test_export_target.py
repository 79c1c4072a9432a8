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


"""Names that an export is written to."""

import os
import pathlib
import stat
import subprocess
from typing import Any
import uuid

import fixtures

from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap import undo
from nova_snap.compute import export_target
from nova_snap.virt import driver as driver_lib
from tests.unit import base as unit_base
from tests.unit.compute import base

#: Exports to a file, and dies when all data is written to it.
KILLED = """
import os, pathlib, signal, sys
from nova_snap import progress
from nova_snap.compute import export_target, manager
from tests.unit.compute import base

def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)

class Test(base.ManagerTestCase):
    def folder(self):
        return pathlib.Path(sys.argv[1])
    def runTest(self):
        pass

test = Test()
test.setUp()
manager._write = die
test.manager.export_instance(
    base.INSTANCE, export_target.at(sys.argv[2]), test.images,
    progress.Progress(),
)
"""


class ExportTargetTestCase(base.ManagerTestCase):
    """Exports of an instance, into a folder of the test."""

    def setUp(self) -> None:
        super().setUp()
        self.place = self.folder()
        self.path = self.place / 'image'

    def export(self, output: object = None) -> None:
        """Export as the command does."""
        self.manager.export_instance(
            base.INSTANCE,
            export_target.at(str(output or self.path)),
            self.images,
            progress_lib.Progress('web'),
        )

    def check_refused(self, output: object, *words: str) -> None:
        """Check that a name is refused before anything begins."""
        error = self.assertRaises(
            exception.Invalid, export_target.at, str(output)
        )
        for word in words:
            self.assertIn(word, str(error))

    def check_nothing_left(self, *names: str) -> None:
        """Only these files are in the folder; the journal is empty."""
        self.assertEqual(sorted(names), sorted(os.listdir(self.place)))
        self.assertEqual([], list(self.journal.entries()))


class FileTest(ExportTargetTestCase):
    """Regular files."""

    def test_new_file_is_private_and_durable(self) -> None:
        synced: list[int] = []
        real = os.fsync

        def fsync(descriptor: int) -> None:
            synced.append(os.fstat(descriptor).st_ino)
            real(descriptor)

        self.useFixture(fixtures.MonkeyPatch('os.fsync', fsync))
        self.export()
        self.assertEqual(base.DATA, self.path.read_bytes())
        found = self.path.stat()
        self.assertEqual(0o600, stat.S_IMODE(found.st_mode))
        self.assertIn(found.st_ino, synced)
        self.assertIn(self.place.stat().st_ino, synced)
        self.check_nothing_left('image')

    def test_old_file_stays_until_the_new_one_is_whole(self) -> None:
        self.path.write_text('old')

        def fail(_request: Any) -> None:
            self.assertEqual('old', self.path.read_text())
            raise ZeroDivisionError

        self.driver.behave = fail
        self.assertRaises(ZeroDivisionError, self.export)
        self.assertEqual('old', self.path.read_text())
        self.check_nothing_left('image')
        self.driver.behave = lambda request: None
        self.export()
        self.assertEqual(base.DATA, self.path.read_bytes())

    def test_name_as_long_as_can_be(self) -> None:
        path = self.place / ('i' * 255)
        self.export(path)
        self.assertEqual(base.DATA, path.read_bytes())
        self.check_refused(f'{path}i', 'too long')

    def test_full_disk(self) -> None:
        path = self.small_disk(4096) / 'image'
        path.with_name('filler').write_bytes(bytes(4096))
        error = self.assertRaises(exception.SnapshotFailed, self.export, path)
        self.assertIn('No space left', str(error))
        self.assertEqual(['filler'], os.listdir(path.parent))

    def test_name_that_becomes_a_fifo(self) -> None:
        self.driver.behave = lambda request: os.mkfifo(self.path)
        self.assertRaises(exception.Invalid, self.export)
        self.assertTrue(self.path.is_fifo())
        self.check_nothing_left('image')


class RefusedTest(ExportTargetTestCase):
    """Names that no image can be written to."""

    def test_folder(self) -> None:
        self.check_refused(self.place, str(self.place), 'folder')
        self.check_refused(f'{self.path}/', 'folder')
        self.check_refused('', 'folder')

    def test_missing_folder(self) -> None:
        self.check_refused(self.place / 'a' / 'b', str(self.place / 'a'))

    def test_folder_that_is_a_file(self) -> None:
        self.path.touch()
        self.check_refused(self.path / 'b', str(self.path))

    def test_link_to_a_file(self) -> None:
        target = self.place / 'target'
        for _number in range(2):
            self.path.unlink(missing_ok=True)
            self.path.symlink_to(target)
            self.check_refused(self.path, str(target))
            target.touch()

    def test_socket(self) -> None:
        os.mknod(self.path, stat.S_IFSOCK | 0o600)
        self.check_refused(self.path, str(self.path))

    def test_folder_without_permission(self) -> None:
        self.check_refused('/proc/image', '/proc')

    def test_file_of_another_user_in_a_shared_folder(self) -> None:
        self.path.touch()
        self.place.chmod(0o1777)
        self.useFixture(fixtures.MonkeyPatch('os.geteuid', lambda: 12345))
        self.check_refused(self.path, 'replace')


class SpecialTest(ExportTargetTestCase):
    """FIFOs and devices."""

    def read_from(self, path: pathlib.Path) -> 'subprocess.Popen[bytes]':
        """Begin to read from a FIFO."""
        reader = subprocess.Popen(
            ['timeout', '20', 'cat', str(path)], stdout=subprocess.PIPE
        )
        self.addCleanup(reader.wait)
        return reader

    def test_fifo(self) -> None:
        os.mkfifo(self.path)
        link = self.place / 'link'
        link.symlink_to(self.path)
        for path in (self.path, link):
            reader = self.read_from(self.path)
            self.export(path)
            self.assertEqual(base.DATA, reader.communicate()[0])
            self.assertTrue(self.path.is_fifo())
        self.check_nothing_left('image', 'link')

    def test_fifo_that_nobody_reads_from(self) -> None:
        self.useFixture(
            fixtures.MonkeyPatch(
                'nova_snap.compute.export_target.READER_TIMEOUT', 0
            )
        )
        os.mkfifo(self.path)
        error = self.assertRaises(exception.SnapshotFailed, self.export)
        self.assertIn('nobody reads', str(error))
        self.check_nothing_left('image')

    def test_null_device(self) -> None:
        found = os.stat('/dev/null')
        self.export('/dev/null')
        self.assertEqual(found.st_rdev, os.stat('/dev/null').st_rdev)

    def test_full_device(self) -> None:
        error = self.assertRaises(
            exception.SnapshotFailed, self.export, '/dev/full'
        )
        self.assertIn('No space left', str(error))

    def loop_device(self) -> str:
        """Make a block device of 1 MiB; needs root."""
        backing = self.folder() / 'device'
        backing.write_bytes(bytes(1 << 20))
        made = subprocess.run(
            ['losetup', '--find', '--show', str(backing)],
            capture_output=True,
            text=True,
        )
        if made.returncode:
            self.skipTest(made.stderr)
        device = made.stdout.strip()
        self.addCleanup(
            subprocess.run, ['losetup', '--detach', device], check=True
        )
        return device

    def test_block_device_behind_a_link(self) -> None:
        device = self.loop_device()
        self.path.symlink_to(device)
        self.export()
        self.assertTrue(self.path.is_symlink())
        with open(device, 'rb') as stream:
            self.assertEqual(base.DATA, stream.read(len(base.DATA)))

    def test_block_device_in_use(self) -> None:
        device = self.loop_device()
        descriptor = os.open(device, os.O_RDONLY | os.O_EXCL)
        self.addCleanup(os.close, descriptor)
        self.check_refused(device, 'busy')


class KilledTest(ExportTargetTestCase):
    """Exports that are killed when their data is written."""

    def setUp(self) -> None:
        super().setUp()
        state = self.images_directory.parent
        child = self.python(KILLED, state, self.path)
        _output, errors = child.communicate(timeout=3 * unit_base.PATIENCE)
        self.assertEqual(-9, child.returncode, errors)
        (self.left,) = os.listdir(self.place)

    def test_recovery_removes_the_file(self) -> None:
        (recovery,) = self.recover()
        self.assertEqual((), recovery.left)
        self.check_nothing_left()

    def test_next_export_to_the_name_works(self) -> None:
        self.journal_directory.rename(self.folder() / 'lost')
        self.export()
        self.assertEqual(base.DATA, self.path.read_bytes())
        self.check_nothing_left('image')

    def test_export_that_runs_keeps_its_file(self) -> None:
        (self.place / self.left).unlink()
        first = export_target.at(str(self.path))
        with self.journal.begun(base.INSTANCE.uuid, 'web') as entry:
            operation = driver_lib.Operation(
                base.INSTANCE, entry, progress_lib.Progress('web')
            )
            with first.opened(operation) as stream:
                stream.write(b'first')
                with export_target.at(str(self.path)).opened(operation):
                    pass
                self.assertEqual(b'', self.path.read_bytes())
        self.assertEqual(b'first', self.path.read_bytes())


class RemoveUnfinishedTest(ExportTargetTestCase):
    """The undo step, with what a journal may say."""

    def test_other_files_stay(self) -> None:
        self.path.touch()
        name = f'.nova-snap-export-{"a" * 16}-{uuid.uuid4()}'
        folder = os.path.relpath(self.place)
        for path in ('', self.path, name, f'{folder}/{name}', self.place):
            step = export_target.RemoveUnfinished(str(path))
            self.assertRaises(
                exception.SnapshotFailed, step.undo, undo.Resources()
            )
        self.check_nothing_left('image')

    def test_twice(self) -> None:
        path = self.place / f'.nova-snap-export-{"a" * 16}-{uuid.uuid4()}'
        path.touch()
        step = export_target.RemoveUnfinished(str(path))
        step.undo(undo.Resources())
        step.undo(undo.Resources())
        self.check_nothing_left()
