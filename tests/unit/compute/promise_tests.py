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

"""Tests of what every operation promises, for a test case of each operation.

Open this file to add a promise.  The operations are in ``promises.py``.
"""

import dataclasses
import errno
import json
import os
import pathlib
from typing import TYPE_CHECKING
from typing import Any
from typing import ClassVar

from nova_snap import durable
from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap import undo
from nova_snap.compute.volume_backed import requests as volume_requests
from nova_snap.compute.volume_backed import snapshots as volume_snapshots
from tests.unit import base
from tests.unit import journals
from tests.unit.compute import promises

#: The test cases add their own base class.
TestCase = base.TestCase if TYPE_CHECKING else object


@dataclasses.dataclass(frozen=True)
class Tidy(undo.Step, kind='remove the folder of the test'):
    """What an earlier operation has left: an empty folder."""

    path: str

    def undo(self, resources: undo.Resources) -> None:
        os.rmdir(self.path)


class PromiseTests(TestCase):
    """What every operation promises."""

    operation_class: ClassVar[type[promises.Operation]]

    def setUp(self) -> None:
        super().setUp()
        self.patch(progress_lib, 'POLL_INTERVAL', 0.01)
        self.patch(volume_requests, 'QUICK_INTERVAL', 0.01)
        self.patch(volume_snapshots, 'SETTLE_TIMEOUT', 0.05)

    def operation(self) -> promises.Operation:
        """Make an operation that has not begun."""
        return self.operation_class(self)

    def calls(self) -> list[str]:
        """Return the calls of an operation without faults, each name once."""
        operation = self.operation()
        operation.run()
        self.assertTrue(operation.is_done())
        return list(dict.fromkeys(operation.probe.calls))

    def assert_over(self, operation: promises.Operation) -> None:
        """Check that it owes nothing, and is in nobody's way."""
        self.assertEqual((), operation.kinds_on_disk())
        self.assertFalse(operation.has_lock())
        self.assertFalse(operation.has_slot())

    # Its place among other operations

    def test_is_done(self) -> None:
        operation = self.operation()
        operation.run()
        self.assertTrue(operation.is_done())
        self.assert_over(operation)
        self.assertLessEqual(
            set(operation.changes), set(operation.probe.calls)
        )

    def test_looks_at_nothing_without_the_lock(self) -> None:
        operation = self.operation()
        with operation.locks.instance(operation.instance.uuid):
            self.assertRaises(exception.SnapshotInProgress, operation.run)
        self.assertEqual([], operation.looks())
        self.assertTrue(operation.is_undone())
        self.assert_over(operation)

    def test_holds_the_lock_for_as_long_as_it_does_something(self) -> None:
        operation = self.operation()
        without: list[str] = []

        def look(name: str) -> None:
            # The command shows the image when the operation has ended.
            if name != 'images.get' and not operation.has_lock():
                without.append(name)

        operation.probe.hook = look
        operation.run()
        self.assertEqual([], without)

    def test_waits_for_a_slot_before_it_works(self) -> None:
        operation = self.operation()
        with operation.locks.snapshot_slot(progress_lib.Progress()):
            attempt = base.Attempt(operation.run)
            self.assertTrue(operation.progress.waits.wait(base.PATIENCE))
            self.assertFalse(attempt.has_ended)
            self.assertTrue(operation.has_lock())
            self.assertEqual([], operation.looks())
        self.assertIsNone(attempt.wait().error)
        self.assertTrue(operation.is_done())
        self.assert_over(operation)

    def test_has_the_slot_when_it_changes_something(self) -> None:
        operation = self.operation()
        without: list[str] = []

        def look(name: str) -> None:
            if name in operation.changes and not operation.has_slot():
                without.append(name)

        operation.probe.hook = look
        operation.run()
        self.assertEqual([], without)

    def test_can_be_cancelled_while_it_waits_for_a_slot(self) -> None:
        operation = self.operation()
        with operation.locks.snapshot_slot(progress_lib.Progress()):
            operation.progress.cancel('enough.')
            self.assertRaises(exception.SnapshotCancelled, operation.run)
        self.assertEqual([], operation.looks())
        self.assertTrue(operation.is_undone())
        self.assert_over(operation)

    # What earlier operations have left

    def leave(self, operation: promises.Operation) -> pathlib.Path:
        """Leave what a killed process leaves; return it."""
        left = operation.folder / 'left'
        left.mkdir()
        journals.leave(
            operation.journal_directory,
            operation.instance.uuid,
            operation.instance.name,
            Tidy(str(left)),
        )
        return left

    def test_recovers_before_it_looks(self) -> None:
        operation = self.operation()
        left = self.leave(operation)
        there: list[str] = []

        def look(name: str) -> None:
            if left.exists() or Tidy.kind in operation.kinds_on_disk():
                there.append(name)

        operation.probe.hook = look
        operation.run()
        self.assertEqual([], there)
        self.assertTrue(operation.is_done())
        self.assert_over(operation)

    def test_does_not_begin_where_recovery_fails(self) -> None:
        operation = self.operation()
        (self.leave(operation) / 'file').touch()
        error = self.assertRaises(exception.RecoveryNeeded, operation.run)
        self.assertIn(Tidy.kind, str(error))
        self.assertEqual([], operation.looks())
        self.assertTrue(operation.is_undone())
        self.assertEqual((Tidy.kind,), operation.kinds_on_disk())

    # The journal

    def test_writes_down_each_change_before_it_makes_it(self) -> None:
        operation = self.operation()
        unknown: list[tuple[str, tuple[str, ...]]] = []

        def look(name: str) -> None:
            kinds = operation.kinds_on_disk()
            needed = operation.changes.get(name)
            if needed is not None and needed not in kinds:
                unknown.append((name, kinds))

        operation.probe.hook = look
        operation.run()
        self.assertEqual([], unknown)

    def test_changes_nothing_that_it_can_not_write_down(self) -> None:
        operation = self.operation()

        def refuse(*_arguments: Any) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        self.patch(durable, 'write', refuse)
        error = self.assertRaises(exception.SnapshotFailed, operation.run)
        self.assertIn('No space left', str(error))
        self.assertEqual(
            set(), set(operation.changes) & set(operation.probe.calls)
        )
        self.assert_over(operation)

    def test_undoes_in_reverse(self) -> None:
        """Each write of the journal is that of a stack."""
        operation = self.operation()
        writes: list[list[str]] = [[]]
        write = durable.write

        def note(path: pathlib.Path, text: str, *options: Any) -> None:
            if path.parent == operation.journal_directory:
                steps = json.loads(text)['steps']
                writes.append([step['kind'] for step in steps])
            write(path, text, *options)

        unlink = pathlib.Path.unlink

        def note_end(path: pathlib.Path, missing_ok: bool = False) -> None:
            if path.parent == operation.journal_directory and path.exists():
                writes.append([])
            unlink(path, missing_ok)

        self.patch(durable, 'write', note)
        self.patch(pathlib.Path, 'unlink', note_end)
        operation.run()
        self.assertEqual([], writes[-1])
        self.assertGreater(max(map(len, writes)), 0)
        for before, after in zip(writes[:-1], writes[1:], strict=True):
            shorter, longer = sorted((before, after), key=len)
            if shorter == longer[:-1]:
                continue
            self.assertEqual(before, longer, 'begun before another')
            early = [kind for kind in longer if kind not in shorter]
            self.assertLessEqual(set(early), operation.undone_early)

    # Faults

    def test_undoes_everything_at_a_fault_anywhere(self) -> None:
        for name in self.calls():
            operation = self.operation()
            operation.probe.hook = failing_once(operation, name)
            error = self.error_of(operation)
            is_left = operation.kinds_on_disk() != ()
            if is_left:
                self.assertIn('left undone', self.log.output)
                operation.recover()
            expected = (
                operation.is_done()
                if error is None or isinstance(error, exception.NotUndone)
                else operation.is_undone()
            )
            self.assertTrue(expected, f'{name}: {error!r}')
            if isinstance(error, exception.NotUndone):
                self.assertTrue(is_left, name)
            self.assert_over(operation)

    def error_of(self, operation: promises.Operation) -> Exception | None:
        """Run it, and return what it raises."""
        try:
            operation.run()
        except Exception as error:
            return error
        return None

    def test_ends_at_a_cancellation_anywhere(self) -> None:
        cancelled = []
        for name in self.calls():
            operation = self.operation()
            operation.probe.hook = cancelling_once(operation, name)
            error = self.error_of(operation)
            if error is None:
                self.assertTrue(operation.is_done(), name)
            else:
                self.assertIsInstance(error, exception.SnapshotCancelled)
                self.assertTrue(operation.is_undone(), name)
                cancelled.append(name)
            self.assert_over(operation)
        self.assertIn(operation.looks()[0], cancelled)
        self.assertNotIn('Failed to', self.log.output)

    def test_names_what_it_can_not_undo(self) -> None:
        """And the next operation waits for a recovery."""
        operation = self.operation()
        if not operation.undoing:
            return
        operation.probe.hook = failing(operation, operation.undoing)
        self.assertRaises(exception.NotUndone, operation.run)
        kinds = ', '.join(operation.kinds_on_disk())
        self.assertNotEqual('', kinds)
        self.assertIn(f'left undone: {kinds}', self.log.output)
        self.assertRaises(exception.RecoveryNeeded, operation.run)
        operation.probe.hook = promises.pass_by
        operation.recover()
        self.assert_over(operation)


def failing(operation: promises.Operation, name: str) -> promises.Hook:
    """Make a hook that lets each call of a name fail."""

    def fail(called: str) -> None:
        if called == name:
            raise operation.fault(name)

    return fail


def failing_once(operation: promises.Operation, name: str) -> promises.Hook:
    """Make a hook that lets the first call of a name fail."""

    def fail(called: str) -> None:
        if called == name and operation.probe.calls.count(name) == 1:
            raise operation.fault(name)

    return fail


def cancelling_once(operation: promises.Operation, name: str) -> promises.Hook:
    """Make a hook that cancels the operation at the first call of a name."""

    def cancel(called: str) -> None:
        if called == name:
            operation.progress.cancel('enough.')

    return cancel
