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


"""A step is on disk before it is begun, and is undone exactly once."""

import contextlib
import dataclasses
import json
import os
import pathlib
import stat
import threading
from typing import Any

import testtools

from nova_snap import exception
from nova_snap import journal as journal_lib
from nova_snap import undo
from tests.lab import exhaustive
from tests.unit import base
from tests.unit import journals

KILLS = exhaustive.choose(range(4), usual=range(2))

INSTANCE = '6a6bdf3d-8a1c-4a6b-9b9c-0c7e1d1f0c55'

BEGIN_AND_WAIT = """
import pathlib, sys, time
from nova_snap import journal, undo
with journal.Journal(pathlib.Path(sys.argv[1])).begun('uuid', 'name') as entry:
    with entry.undoing(undo.UnknownStep('first', {'number': 1})):
        with entry.undoing(undo.UnknownStep('second', {'number': 2})):
            print('begun', flush=True)
            time.sleep(60)
"""

BEGIN_FOR_EVER = """
import pathlib, sys
from nova_snap import journal, undo

class Step(undo.UnknownStep):
    def undo(self, resources):
        pass

with journal.Journal(pathlib.Path(sys.argv[1])).begun('uuid', 'name') as entry:
    with entry.undoing(Step('first', {})):
        print('begun', flush=True)
        while True:
            with entry.undoing(Step('second', {'text': 'x' * 9000})):
                pass
"""


class Noted(undo.UnknownStep):
    """A step that notes what it has undone in a list."""

    def undo(self, resources: undo.Resources) -> None:
        resources.get(list).append(dict(self.content))


class Failing(undo.UnknownStep):
    """A step that can't be undone."""

    def undo(self, resources: undo.Resources) -> None:
        raise RuntimeError('the device is on fire')


@dataclasses.dataclass(frozen=True)
class Registered(undo.Step, kind='undo what the test began'):
    """A step that the journal knows."""

    number: int
    known_here: str = dataclasses.field(default='', metadata=undo.VOLATILE)

    def undo(self, resources: undo.Resources) -> None:
        resources.get(list).append(self.number)


def noted(kind: str, **data: Any) -> Noted:
    """Make a step that can be undone."""
    return Noted(kind, data)


def failing(kind: str, **data: Any) -> Failing:
    """Make a step that can't be undone."""
    return Failing(kind, data)


class JournalTestCase(base.TestCase):
    """A journal, and steps that note what they undid."""

    def setUp(self) -> None:
        super().setUp()
        self.directory = self.folder() / 'state' / 'journal'
        self.journal = journal_lib.Journal(self.directory)
        self.undone: list[Any] = []

    def begun(
        self,
    ) -> contextlib.AbstractContextManager[journal_lib.Entry]:
        """Begin an entry of the journal."""
        return self.journal.begun(INSTANCE, 'web', undo.Resources(self.undone))

    def kinds_on_disk(self) -> list[str]:
        """Return the kinds of the steps that are on disk."""
        (entry,) = journal_lib.Journal(self.directory).entries()
        return list(entry.kinds)

    def begin_and_fail(self, *kinds: str) -> None:
        """Leave an entry behind with steps that could not be undone."""
        with self.begun() as entry:
            for number, kind in enumerate(kinds):
                with entry.undoing(failing(kind, number=number)):
                    pass


class UndoingTest(JournalTestCase):
    """Steps for the length of a block."""

    def test_file_goes_with_the_last_step_and_comes_with_the_next(
        self,
    ) -> None:
        with self.begun() as entry:
            for _each in range(2):
                with entry.undoing(noted('start it')):
                    self.assertEqual(['start it'], self.kinds_on_disk())
                self.assertFalse(entry.path.exists())

    def test_dropped_step_is_not_undone(self) -> None:
        with self.begun() as entry, entry.undoing(noted('first', number=1)):
            second = noted('second', number=2)
            with entry.undoing(second):
                entry.drop(second)
                self.assertEqual(['first'], self.kinds_on_disk())
        self.assertEqual([{'number': 1}], self.undone)

    def test_step_takes_the_place_of_another(self) -> None:
        first, other = noted('first', number=1), noted('other', number=2)
        with self.begun() as entry, entry.undoing(first):
            with entry.replacing(first, other):
                self.assertEqual(['other'], self.kinds_on_disk())
                self.assertEqual([], self.undone)
            self.assertFalse(entry.path.exists())
        self.assertEqual([{'number': 2}], self.undone)

    def test_step_stays_if_the_other_can_not_be_written(self) -> None:
        directory = self.small_disk(65536) / 'journal'
        first, other = noted('first'), noted('other', xml='x' * 100000)
        with (
            testtools.ExpectedException(
                exception.SnapshotFailed, '.*No space left.*'
            ),
            journal_lib.Journal(directory).begun(
                INSTANCE, 'web', undo.Resources(self.undone)
            ) as entry,
            entry.undoing(first),
            entry.replacing(first, other),
        ):
            self.fail('It was begun.')
        self.assertEqual([{}], self.undone)

    def test_step_is_on_disk_before_the_block(self) -> None:
        with (
            self.begun() as entry,
            entry.undoing(noted('start it', paused=True)),
        ):
            found = journal_lib.Entry.read(entry.path)
            self.assertEqual(
                [undo.UnknownStep('start it', {'paused': True})], found.steps
            )
            self.assertEqual(INSTANCE, found.instance_uuid)
            self.assertEqual('web', found.instance_name)
            self.assertEqual([], self.undone)
        self.assertEqual([{'paused': True}], self.undone)

    def test_nobody_else_may_read_it(self) -> None:
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        with (
            self.begun() as entry,
            entry.undoing(noted('start it')),
        ):
            self.assertEqual(0o600, stat.S_IMODE(entry.path.stat().st_mode))
            mode = self.directory.stat().st_mode
            self.assertEqual(0o700, stat.S_IMODE(mode))

    def test_entry_without_steps_touches_nothing(self) -> None:
        """Where the journal can't be written, its error is the reason."""
        with (
            testtools.ExpectedException(ZeroDivisionError),
            self.begun() as entry,
        ):
            self.directory.rmdir()
            self.directory.write_text('no directory any more')
            self.assertFalse(entry.steps)
            raise ZeroDivisionError

    def test_nothing_is_left_after_the_end(self) -> None:
        with (
            self.begun() as entry,
            entry.undoing(noted('start it')),
        ):
            pass
        self.assertEqual([], os.listdir(self.directory))

    def test_last_is_undone_first(self) -> None:
        with (
            self.begun() as entry,
            entry.undoing(noted('one', number=1)),
            entry.undoing(noted('two', number=2)),
        ):
            self.assertEqual(['one', 'two'], self.kinds_on_disk())
        self.assertEqual([{'number': 2}, {'number': 1}], self.undone)

    def test_undone_step_is_struck_out_at_once(self) -> None:
        with (
            self.begun() as entry,
            entry.undoing(noted('one')),
        ):
            with entry.undoing(noted('two')):
                pass
            self.assertEqual(['one'], self.kinds_on_disk())

    def test_is_undone_when_the_block_fails(self) -> None:
        with (
            testtools.ExpectedException(ZeroDivisionError),
            self.begun() as entry,
            entry.undoing(noted('one')),
        ):
            raise ZeroDivisionError
        self.assertEqual([{}], self.undone)

    def test_failing_undo_neither_hides_nor_stops_anything(self) -> None:
        with (
            testtools.ExpectedException(ZeroDivisionError),
            self.begun() as entry,
            entry.undoing(noted('outer')),
            entry.undoing(failing('inner')),
        ):
            raise ZeroDivisionError
        self.assertEqual([{}], self.undone)
        self.assertEqual(['inner'], self.kinds_on_disk())
        for text in ('inner', INSTANCE, 'on fire', str(entry.path)):
            self.assertIn(text, self.log.output)

    def test_failing_undo_does_not_fail_the_block(self) -> None:
        self.begin_and_fail('one')
        self.assertEqual(['one'], self.kinds_on_disk())


class RecoveryTest(JournalTestCase):
    """Entries that a later process finds."""

    def leave(self, *steps: undo.Step) -> journal_lib.Entry:
        """Leave an entry, as a killed operation does."""
        journals.leave(self.directory, INSTANCE, 'web', *steps)
        (entry,) = self.journal.entries()
        return entry

    def test_undo_all_undoes_the_last_first(self) -> None:
        entry = self.leave(Registered(0), Registered(1))
        entry.undo_all(undo.Resources(self.undone))
        self.assertEqual([1, 0], self.undone)
        self.assertTrue(entry.close())
        self.assertEqual([], list(self.journal.entries()))

    def test_step_comes_back_as_it_was_begun(self) -> None:
        (step,) = self.leave(Registered(7, known_here='x')).steps
        self.assertEqual(Registered(7), step)

    def test_unknown_step_stays_and_is_named(self) -> None:
        unknown = undo.UnknownStep('from the future', {'a': [1]})
        entry = self.leave(unknown, Registered(0))
        entry.undo_all(undo.Resources(self.undone))
        self.assertEqual([0], self.undone)
        self.assertFalse(entry.close())
        (entry,) = self.journal.entries()
        self.assertEqual([unknown], entry.steps)
        self.assertIn('from the future', self.log.output)

    def test_step_without_its_resource_stays_and_the_rest_go_on(self) -> None:
        entry = self.leave(Registered(0), Registered(1))
        entry.undo_all(undo.Resources())
        self.assertFalse(entry.close())
        self.assertEqual([Registered.kind] * 2, self.kinds_on_disk())
        self.assertIn('needs list', self.log.output)

    def test_entry_of_the_format_before_is_read(self) -> None:
        duties = [{'kind': Registered.kind, 'data': {'number': 3}}]
        path = self.write('first.json', {**self.fields(), 'duties': duties})
        entry = journal_lib.Entry.read(path)
        self.assertEqual([Registered(3)], entry.steps)

    def test_entry_of_a_later_format_is_named_and_left(self) -> None:
        path = self.write(
            'later.json',
            {**self.fields(), 'version': journal_lib.VERSION + 1},
        )
        self.assertEqual([], list(self.journal.entries()))
        self.assertIn('a later release', self.log.output)
        self.assertTrue(path.exists())

    def fields(self, day: int = 1) -> dict[str, Any]:
        """Return the fields that every entry has."""
        return {
            'instance_uuid': str(day),
            'instance_name': '',
            'begun_at': f'2026-01-0{day}T00:00:00Z',
        }

    def test_oldest_comes_first(self) -> None:
        for number in (3, 1, 2):
            self.write(
                f'{number}.json',
                {**self.fields(number), 'version': 2, 'steps': []},
            )
        found = [entry.instance_uuid for entry in self.journal.entries()]
        self.assertEqual(['1', '2', '3'], found)

    def test_no_directory_means_no_entries(self) -> None:
        self.assertEqual([], list(self.journal.entries()))

    def test_unreadable_entries_are_named_and_left(self) -> None:
        self.begin_and_fail('one')
        bad = [
            self.write('list.json', []),
            self.write('short.json', {'instance_uuid': 'a'}),
            self.write('step.json', {**self.fields(), 'duties': [1]}),
            self.write('none.json', self.fields()),
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
        """Write a file to the journal, in JSON."""
        return self.write_text(name, json.dumps(content))

    def write_text(self, name: str, text: str) -> pathlib.Path:
        """Write a file to the journal."""
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / name
        path.write_bytes(text.encode(errors='surrogateescape'))
        return path


class CrashTest(JournalTestCase):
    """Processes that end, and disks that are full, at any moment."""

    def test_killed_process_leaves_its_steps(self) -> None:
        child = self.python(BEGIN_AND_WAIT, self.directory)
        self.assertEqual('begun', self.wait_for_line(child))
        child.kill()
        child.wait()
        (entry,) = self.journal.entries()
        self.assertEqual(
            [
                undo.UnknownStep('first', {'number': 1}),
                undo.UnknownStep('second', {'number': 2}),
            ],
            entry.steps,
        )

    def test_killed_while_writing_leaves_a_readable_entry(self) -> None:
        for number in KILLS:
            directory = self.directory / str(number)
            child = self.python(BEGIN_FOR_EVER, directory)
            self.assertEqual('begun', self.wait_for_line(child))
            child.kill()
            child.wait()
            (entry,) = journal_lib.Journal(directory).entries()
            self.assertEqual('first', entry.kinds[0])

    def test_full_disk_stops_it_before_anything_is_begun(self) -> None:
        directory = self.small_disk(65536) / 'journal'
        begun: list[str] = []
        with (
            testtools.ExpectedException(
                exception.SnapshotFailed, '.*No space left.*'
            ),
            journal_lib.Journal(directory).begun(
                INSTANCE, 'web', undo.Resources(self.undone)
            ) as entry,
            entry.undoing(noted('outer')),
            entry.undoing(noted('inner', xml='x' * 100000)),
        ):
            begun.append('inner')
        self.assertEqual([], begun)
        self.assertEqual([{}], self.undone)
        self.assertEqual([], os.listdir(directory))
        self.assertNotIn('left undone', self.log.output)


class Compared(Noted):
    """A step that waits a little when it is compared with another one."""

    is_compared: threading.Event
    is_over: threading.Event

    def __eq__(self, other: object) -> bool:
        if other is not self:
            self.is_compared.set()
            self.is_over.wait(0.3)
        return other is self

    __hash__ = None  # type: ignore[assignment]


class ThreadsTest(JournalTestCase):
    """Threads that share an entry."""

    def test_step_that_ends_meanwhile_hides_no_other(self) -> None:
        """A list that gets shorter while it is searched skips an item."""
        first, second = Compared('first', {'n': 1}), noted('second', n=2)
        Compared.is_compared = threading.Event()
        Compared.is_over = threading.Event()
        begun = threading.Event()

        def hold(entry: journal_lib.Entry) -> None:
            with entry.undoing(first):
                begun.set()
                Compared.is_compared.wait(base.PATIENCE)
            Compared.is_over.set()

        with self.begun() as entry:
            attempt = base.Attempt(lambda: hold(entry))
            self.assertTrue(begun.wait(base.PATIENCE))
            with entry.undoing(second):
                pass
            self.assertIsNone(attempt.wait().error)
            self.assertEqual([], entry.steps)
        self.assertEqual(
            [{'n': 1}, {'n': 2}],
            sorted(self.undone, key=lambda step: step['n']),
        )
