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


"""What is owed is on disk before it is begun, and is undone exactly once."""

import json
import os
import pathlib
import stat
from typing import Any

import testtools

from nova_snap import exception
from nova_snap import journal as journal_lib
from tests.unit import base

INSTANCE = '6a6bdf3d-8a1c-4a6b-9b9c-0c7e1d1f0c55'

OWE_AND_WAIT = """
import pathlib, sys, time
from nova_snap import journal
with journal.Journal(pathlib.Path(sys.argv[1])).begun('uuid', 'name') as entry:
    with entry.owing('first', print, number=1):
        with entry.owing('second', print, number=2):
            print('owing', flush=True)
            time.sleep(60)
"""

OWE_FOR_EVER = """
import pathlib, sys
from nova_snap import journal
with journal.Journal(pathlib.Path(sys.argv[1])).begun('uuid', 'name') as entry:
    with entry.owing('first', lambda data: None):
        print('owing', flush=True)
        while True:
            with entry.owing('second', lambda data: None, text='x' * 9000):
                pass
"""


class JournalTestCase(base.TestCase):
    """A journal, and undoings that note what they undid."""

    def setUp(self) -> None:
        super().setUp()
        self.directory = self.folder() / 'state' / 'journal'
        self.journal = journal_lib.Journal(self.directory)
        self.undone: list[Any] = []

    def undo(self, data: journal_lib.Data) -> None:
        """Note what was undone."""
        self.undone.append(dict(data))

    def undo_badly(self, data: journal_lib.Data) -> None:
        """Fail."""
        raise RuntimeError('the device is on fire')

    def kinds_on_disk(self) -> list[str]:
        """The duties that a process would find that starts now."""
        (entry,) = journal_lib.Journal(self.directory).entries()
        return [duty.kind for duty in entry.duties]

    def owe_and_fail(self, *kinds: str) -> None:
        """Leave an entry behind with duties that could not be undone."""
        with self.journal.begun(INSTANCE, 'web') as entry:
            for number, kind in enumerate(kinds):
                with entry.owing(kind, self.undo_badly, number=number):
                    pass


class OwingTest(JournalTestCase):
    """Duties for the length of a block."""

    def test_duty_is_on_disk_before_the_block(self) -> None:
        with (
            self.journal.begun(INSTANCE, 'web') as entry,
            entry.owing('start it', self.undo, paused=True),
        ):
            found = journal_lib.Entry.read(entry.path)
            self.assertEqual(
                [journal_lib.Duty('start it', {'paused': True})], found.duties
            )
            self.assertEqual(INSTANCE, found.instance_uuid)
            self.assertEqual('web', found.instance_name)
            self.assertEqual([], self.undone)
        self.assertEqual([{'paused': True}], self.undone)

    def test_nobody_else_may_read_it(self) -> None:
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        with (
            self.journal.begun(INSTANCE, 'web') as entry,
            entry.owing('start it', self.undo),
        ):
            self.assertEqual(0o600, stat.S_IMODE(entry.path.stat().st_mode))
            mode = self.directory.stat().st_mode
            self.assertEqual(0o700, stat.S_IMODE(mode))

    def test_nothing_is_left_after_the_end(self) -> None:
        with (
            self.journal.begun(INSTANCE, 'web') as entry,
            entry.owing('start it', self.undo),
        ):
            pass
        self.assertEqual([], os.listdir(self.directory))

    def test_last_is_undone_first(self) -> None:
        with (
            self.journal.begun(INSTANCE, 'web') as entry,
            entry.owing('one', self.undo, number=1),
            entry.owing('two', self.undo, number=2),
        ):
            self.assertEqual(['one', 'two'], self.kinds_on_disk())
        self.assertEqual([{'number': 2}, {'number': 1}], self.undone)

    def test_undone_duty_is_struck_out_at_once(self) -> None:
        with (
            self.journal.begun(INSTANCE, 'web') as entry,
            entry.owing('one', self.undo),
        ):
            with entry.owing('two', self.undo):
                pass
            self.assertEqual(['one'], self.kinds_on_disk())

    def test_is_undone_when_the_block_fails(self) -> None:
        with (
            testtools.ExpectedException(ZeroDivisionError),
            self.journal.begun(INSTANCE, 'web') as entry,
            entry.owing('one', self.undo),
        ):
            raise ZeroDivisionError
        self.assertEqual([{}], self.undone)

    def test_failing_undo_neither_hides_nor_stops_anything(self) -> None:
        with (
            testtools.ExpectedException(ZeroDivisionError),
            self.journal.begun(INSTANCE, 'web') as entry,
            entry.owing('outer', self.undo),
            entry.owing('inner', self.undo_badly),
        ):
            raise ZeroDivisionError
        self.assertEqual([{}], self.undone)
        self.assertEqual(['inner'], self.kinds_on_disk())
        for text in ('inner', INSTANCE, 'on fire', str(entry.path)):
            self.assertIn(text, self.log.output)

    def test_failing_undo_does_not_fail_the_block(self) -> None:
        self.owe_and_fail('one')
        self.assertEqual(['one'], self.kinds_on_disk())


class RecoveryTest(JournalTestCase):
    """Entries that a later process finds."""

    def test_undo_all_undoes_the_last_first(self) -> None:
        self.owe_and_fail('one', 'two')
        (entry,) = self.journal.entries()
        entry.undo_all({'one': self.undo, 'two': self.undo})
        self.assertEqual([{'number': 1}, {'number': 0}], self.undone)
        self.assertTrue(entry.close())
        self.assertEqual([], list(self.journal.entries()))

    def test_unknown_kind_stays_owed(self) -> None:
        self.owe_and_fail('one', 'from the future')
        (entry,) = self.journal.entries()
        entry.undo_all({'one': self.undo})
        self.assertFalse(entry.close())
        self.assertEqual(['from the future'], self.kinds_on_disk())

    def test_failure_stays_owed_and_the_rest_go_on(self) -> None:
        self.owe_and_fail('one', 'two')
        (entry,) = self.journal.entries()
        entry.undo_all({'one': self.undo, 'two': self.undo_badly})
        self.assertFalse(entry.close())
        self.assertEqual(['two'], self.kinds_on_disk())

    def test_oldest_comes_first(self) -> None:
        for number in (3, 1, 2):
            self.write(
                f'{number}.json',
                {
                    'instance_uuid': str(number),
                    'instance_name': '',
                    'begun_at': f'2026-01-0{number}T00:00:00Z',
                    'duties': [],
                },
            )
        found = [entry.instance_uuid for entry in self.journal.entries()]
        self.assertEqual(['1', '2', '3'], found)

    def test_no_directory_means_no_entries(self) -> None:
        self.assertEqual([], list(self.journal.entries()))

    def test_unreadable_entries_are_named_and_left(self) -> None:
        self.owe_and_fail('one')
        bad = [
            self.write('list.json', []),
            self.write('short.json', {'instance_uuid': 'a'}),
            self.write('duty.json', {'duties': [1]}),
            self.write_text('cut.json', '{"instance_uuid": "a", "dut'),
            self.write_text('binary.json', '\udcff\udcfe'),
        ]
        self.assertEqual(['one'], self.kinds_on_disk())
        for path in bad:
            self.assertIn(f'{path} is unreadable', self.log.output)
            self.assertTrue(path.exists())
        contents = self.journal.contents()
        self.assertEqual(1, len(contents.entries))
        self.assertEqual(set(bad), {file.path for file in contents.unreadable})

    def test_nothing_is_owed_only_where_all_could_be_read(self) -> None:
        self.assertTrue(self.journal.contents().is_empty)
        self.write_text('cut.json', '{bad')
        self.assertFalse(self.journal.contents().is_empty)

    def write(self, name: str, content: object) -> pathlib.Path:
        """A file in the journal, in JSON."""
        return self.write_text(name, json.dumps(content))

    def write_text(self, name: str, text: str) -> pathlib.Path:
        """A file in the journal."""
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / name
        path.write_bytes(text.encode(errors='surrogateescape'))
        return path


class CrashTest(JournalTestCase):
    """Processes that end, and disks that are full, at any moment."""

    def test_killed_process_leaves_what_it_owes(self) -> None:
        child = self.python(OWE_AND_WAIT, self.directory)
        self.assertEqual('owing', self.wait_for_line(child))
        child.kill()
        child.wait()
        (entry,) = self.journal.entries()
        self.assertEqual(
            [
                journal_lib.Duty('first', {'number': 1}),
                journal_lib.Duty('second', {'number': 2}),
            ],
            entry.duties,
        )

    def test_killed_while_writing_leaves_a_readable_entry(self) -> None:
        for number in range(4):
            directory = self.directory / str(number)
            child = self.python(OWE_FOR_EVER, directory)
            self.assertEqual('owing', self.wait_for_line(child))
            child.kill()
            child.wait()
            (entry,) = journal_lib.Journal(directory).entries()
            self.assertEqual('first', entry.duties[0].kind)

    def test_full_disk_stops_it_before_anything_is_begun(self) -> None:
        directory = self.small_disk(65536)
        begun: list[str] = []
        with (
            testtools.ExpectedException(
                exception.SnapshotFailed, '.*No space left.*'
            ),
            journal_lib.Journal(directory).begun(INSTANCE, 'web') as entry,
            entry.owing('outer', self.undo),
            entry.owing('inner', self.undo, xml='x' * 100000),
        ):
            begun.append('inner')
        self.assertEqual([], begun)
        self.assertEqual([{}], self.undone)
        self.assertEqual([], os.listdir(directory))
        self.assertNotIn('left undone', self.log.output)
