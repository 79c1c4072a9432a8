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


"""Folders of the state that others could have written to."""

import os
import uuid

import fixtures

from nova_snap import exception
from nova_snap import journal as journal_lib
from nova_snap import locks as locks_lib
from nova_snap import undo
from tests.unit import base
from tests.unit import journals

SOMEBODY = 12345

#: Dies when a journal entry is written and has not got its name.
KILLED_AT_RENAME = """
import os, pathlib, signal, sys
from nova_snap import journal, undo
kill = lambda *names: os.kill(os.getpid(), signal.SIGKILL)
with journal.Journal(pathlib.Path(sys.argv[1])).begun('uuid', 'name') as entry:
    if len(sys.argv) > 2:
        pathlib.Path.rename = kill
    with entry.undoing(undo.UnknownStep('first', {'xml': 'password'})):
        pathlib.Path.rename = kill
        with entry.undoing(undo.UnknownStep('second', {'xml': 'password'})):
            pass
"""


class StateFolderTestCase(base.TestCase):
    """A journal that holds an entry."""

    def setUp(self) -> None:
        super().setUp()
        self.directory = self.folder() / 'journal'
        self.journal = journal_lib.Journal(self.directory)
        self.entry = journals.leave(
            self.directory, 'uuid', 'web', undo.UnknownStep('a', {})
        )

    def own(self, path: object) -> None:
        """Give a file to somebody else; needs root."""
        if os.geteuid():
            self.skipTest('needs root')
        os.chown(str(path), SOMEBODY, -1, follow_symlinks=False)


class RefusedTest(StateFolderTestCase):
    """A folder that others decide about is not used."""

    def check_refused(self, *words: str) -> None:
        """Check that the journal is neither read nor written to."""
        before = os.listdir(self.directory)
        for call in (
            self.journal.contents,
            self.journal.tidy,
            lambda: list(self.journal.entries()),
            self.journal.begun('uuid', 'web').__enter__,
        ):
            error = self.assertRaises(exception.NotPermitted, call)
            for word in (str(self.directory), *words):
                self.assertIn(word, str(error))
        self.assertEqual(before, os.listdir(self.directory))

    def test_writable_by_others(self) -> None:
        for mode in (0o770, 0o702, 0o1777):
            self.directory.chmod(mode)
            self.check_refused('writable by others')

    def test_of_another_user(self) -> None:
        self.own(self.directory)
        self.check_refused(f'user {SOMEBODY}')

    def test_link_of_another_user(self) -> None:
        real = self.directory.rename(self.directory.with_name('real'))
        self.directory.symlink_to(real)
        self.assertEqual(1, len(list(self.journal.entries())))
        self.own(self.directory)
        self.check_refused(f'user {SOMEBODY}')

    def test_locks(self) -> None:
        self.directory.chmod(0o777)
        locks = locks_lib.Locks(self.directory, 0, 0)
        self.assertRaises(
            exception.NotPermitted, locks.instance(str(uuid.uuid4())).__enter__
        )


class EntryTest(StateFolderTestCase):
    """Entries that others have made, in a folder that is ours."""

    def check_unreadable(self, word: str) -> None:
        """Check that the entry is named, and left."""
        contents = self.journal.contents()
        self.assertEqual((), contents.entries)
        (file,) = contents.unreadable
        self.assertIn(word, str(file))
        self.assertTrue(os.path.lexists(self.entry))

    def test_of_another_user(self) -> None:
        self.own(self.entry)
        self.check_unreadable(f'user {SOMEBODY}')

    def test_link(self) -> None:
        self.entry.symlink_to(self.entry.rename(self.folder() / 'entry'))
        self.check_unreadable('symbolic links')

    def test_fifo(self) -> None:
        self.entry.unlink()
        os.mkfifo(self.entry)
        self.check_unreadable('no regular file')


class StaleTest(base.TestCase):
    """What is left of writing an entry, passwords included."""

    def setUp(self) -> None:
        super().setUp()
        self.directory = self.folder() / 'journal'

    def kill(self, *arguments: object) -> None:
        """Let a process die between its write and its rename."""
        child = self.python(KILLED_AT_RENAME, self.directory, *arguments)
        _output, errors = child.communicate(timeout=base.PATIENCE)
        self.assertEqual(-9, child.returncode, errors)
        (left,) = self.directory.glob('*.tmp')
        self.assertIn('password', left.read_text())

    def names(self) -> list[str]:
        """Suffixes of the files in the journal."""
        return sorted(path.suffix for path in self.directory.iterdir())

    def test_first_entry(self) -> None:
        self.kill('at once')
        self.assertEqual(['.tmp'], self.names())
        with journal_lib.Journal(self.directory).begun('other', 'web'):
            self.assertEqual([], self.names())

    def test_entry_that_stays(self) -> None:
        self.kill()
        journal_lib.Journal(self.directory).tidy()
        self.assertEqual(['.json'], self.names())
        (entry,) = journal_lib.Journal(self.directory).entries()
        self.assertEqual(('first',), entry.kinds)

    def test_what_is_being_written_stays(self) -> None:
        real = os.fsync

        def tidy(descriptor: int) -> None:
            journal_lib.Journal(self.directory).tidy()
            real(descriptor)

        self.useFixture(fixtures.MonkeyPatch('os.fsync', tidy))
        with (
            journal_lib.Journal(self.directory).begun('uuid', 'web') as entry,
            entry.undoing(undo.UnknownStep('a', {})),
        ):
            self.assertEqual(['.json'], self.names())
