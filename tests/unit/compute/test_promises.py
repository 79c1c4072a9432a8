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

"""What every operation promises, whatever it does: the same tests for each.

Live and cold snapshots of a real disk are in ``test_promises_libvirt.py``.
"""

from nova_snap import exception
from nova_snap import progress as progress_lib
from tests.unit import base
from tests.unit.compute import promise_tests
from tests.unit.compute import promises


class ImageCreateTest(promise_tests.PromiseTests, base.TestCase):
    """image-create of the command."""

    operation_class = promises.ImageCreate


class AcceptedImageTest(promise_tests.PromiseTests, base.TestCase):
    """image-create of the API."""

    operation_class = promises.AcceptedImage

    def test_waits_for_a_slot_before_it_works(self) -> None:
        """It makes its record before that, and looks again afterwards."""
        operation = self.operation()
        assert isinstance(operation, promises.AcceptedImage)
        with operation.locks.snapshot_slot(progress_lib.Progress()):
            attempt = base.Attempt(operation.run)
            self.assertTrue(operation.progress.waits.wait(base.PATIENCE))
            self.assertFalse(attempt.has_ended)
            self.assertTrue(operation.has_lock())
            self.assertEqual(
                ['driver.plan', 'states.accept'], operation.looks()
            )
            (record,) = operation.records()
            self.assertEqual('queued', record.status)
        self.assertIsNone(attempt.wait().error)
        self.assertEqual(2, operation.probe.calls.count('driver.plan'))
        self.assertTrue(operation.is_done())
        self.assert_over(operation)

    def test_has_the_slot_when_it_changes_something(self) -> None:
        """Only the record is made without one."""
        operation = self.operation()
        without: list[str] = []

        def look(name: str) -> None:
            if name in operation.changes and not operation.has_slot():
                without.append(name)

        operation.probe.hook = look
        operation.run()
        self.assertEqual(['images.create'], without)

    def test_can_be_cancelled_while_it_waits_for_a_slot(self) -> None:
        operation = self.operation()
        with operation.locks.snapshot_slot(progress_lib.Progress()):
            operation.progress.cancel('enough.')
            self.assertRaises(exception.SnapshotCancelled, operation.run)
        self.assertTrue(operation.is_undone())
        self.assert_over(operation)

    def test_fails_if_the_disks_change_while_it_waits(self) -> None:
        operation = self.operation()
        assert isinstance(operation, promises.AcceptedImage)

        def change(name: str) -> None:
            if name == 'states.accept':
                operation.memory.further = ('vdb',)

        operation.probe.hook = change
        error = self.assertRaises(exception.SnapshotFailed, operation.run)
        self.assertIn('have changed', str(error))
        self.assertTrue(operation.is_undone())
        self.assert_over(operation)


class ImageSetTest(promise_tests.PromiseTests, base.TestCase):
    """image-create of all disks of an instance."""

    operation_class = promises.ImageSet


class SnapshotOfNovaTest(promise_tests.PromiseTests, base.TestCase):
    """A snapshot of nova-compute."""

    operation_class = promises.SnapshotOfNova


class ExportTest(promise_tests.PromiseTests, base.TestCase):
    """An export to a file."""

    operation_class = promises.Export


class VolumeBackedTest(promise_tests.PromiseTests, base.TestCase):
    """image-create of an instance that boots from a volume."""

    operation_class = promises.VolumeBacked
