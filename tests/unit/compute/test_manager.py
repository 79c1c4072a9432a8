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


"""From a request to an image, and back when it fails.

The images and the journal are real.  The hypervisor is a double, since its
faults have to come at will.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
import errno
import io
import os
import threading
from typing import Any

from nova_snap import exception
from nova_snap import journal as journal_lib
from nova_snap import locks as locks_lib
from nova_snap import monitor as monitor_lib
from nova_snap.compute import instance as instance_lib
from nova_snap.compute import manager as manager_lib
from nova_snap.compute import power_state
from nova_snap.image import api as image_api
from nova_snap.image import filesystem
from nova_snap.virt import decision as decision_lib
from nova_snap.virt import driver as driver_lib
from tests.unit import base

INSTANCE = instance_lib.Instance('6a6bdf3d-8a1c-4a6b-9b9c-0c7e1d1f0c55', 'web')
OTHER = instance_lib.Instance('77777777-8a1c-4a6b-9b9c-0c7e1d1f0c55', 'db')
BASE_ID = '2f0c3bd5-1b7a-4f4e-9d0e-52f6a7f2f2a9'
DATA = b'disk' * 1000

START = 'start the guest again'


@dataclasses.dataclass(frozen=True)
class Request:
    """What the manager asked its driver for."""

    image_id: str
    images: image_api.ImageService
    entry: journal_lib.Entry
    monitor: monitor_lib.Monitor

    def upload(self) -> None:
        """Send the data."""
        self.images.upload(
            self.image_id, io.BytesIO(DATA), len(DATA), self.monitor
        )


class MemoryDriver(driver_lib.ComputeDriver):
    """Instances that are nothing but their names.

    ``behave`` is what a snapshot does, ``undo`` how its duty is undone.
    """

    def __init__(self) -> None:
        self.behave: Callable[[Request], None] = Request.upload
        self.undo: Callable[[journal_lib.Data], None] = lambda data: None
        self.image_properties: Mapping[str, str] | None = None
        self.plan_error: Exception | None = None

    def instances(
        self,
    ) -> list[tuple[instance_lib.Instance, power_state.PowerState]]:
        return [(INSTANCE, power_state.PowerState.RUNNING)]

    def instance(self, server: str) -> instance_lib.Instance:
        return INSTANCE

    def explain(
        self, instance: instance_lib.Instance
    ) -> decision_lib.Decision:
        return decision_lib.Decision(
            decision_lib.Path.COLD, None, True, (), ()
        )

    def plan(
        self,
        instance: instance_lib.Instance,
        image_properties: Mapping[str, str],
    ) -> driver_lib.Plan:
        self.image_properties = image_properties
        if self.plan_error is not None:
            raise self.plan_error
        return driver_lib.Plan(
            instance, self.explain(instance), 'raw', 1 << 30
        )

    @contextlib.contextmanager
    def extracted(
        self,
        plan: driver_lib.Plan,
        entry: journal_lib.Entry,
        monitor: monitor_lib.Monitor,
    ) -> Iterator[driver_lib.ImageData]:
        with entry.owing(START, lambda data: self.undo(data)):
            stream = io.BytesIO(DATA)
            yield driver_lib.ImageData(stream, 'raw', len(DATA), monitor)

    def snapshot(
        self,
        plan: driver_lib.Plan,
        image_id: str,
        images: image_api.ImageService,
        entry: journal_lib.Entry,
        monitor: monitor_lib.Monitor,
        update_task_state: driver_lib.UpdateTaskState,
    ) -> None:
        self.behave(Request(image_id, images, entry, monitor))

    def undoers(self, instance_uuid: str) -> Mapping[str, journal_lib.Undo]:
        return {START: lambda data: self.undo(data)}


class ManagerTestCase(base.TestCase):
    """A manager whose every file lies in a folder of its own."""

    def setUp(self) -> None:
        super().setUp()
        state = self.folder()
        self.images_directory = state / 'images'
        self.images = filesystem.FilesystemImageService(self.images_directory)
        self.journal = journal_lib.Journal(state / 'journal')
        self.locks = locks_lib.Locks(state / 'locks', 1, 0)
        self.driver = MemoryDriver()
        self.monitor = monitor_lib.Monitor('web')
        self.manager = manager_lib.SnapshotManager(
            self.driver,
            self.images,
            self.journal,
            self.locks,
            cancel_check_interval=0.05,
        )

    def snapshot(
        self,
        instance: instance_lib.Instance = INSTANCE,
        name: str = 'backup',
        **metadata: str,
    ) -> image_api.Image:
        """Take one."""
        return self.manager.snapshot_instance(
            instance, name, metadata, self.monitor
        )

    def failure(
        self, category: type[exception.NovaSnapError], **arguments: Any
    ) -> Any:
        """The error of a snapshot that fails."""
        return self.assertRaises(category, self.snapshot, **arguments)

    def assert_nothing_is_left(self) -> None:
        """No image, no file, no entry; and the next one works."""
        self.assertEqual([], list(self.images.list()))
        if self.images_directory.exists():
            self.assertEqual([], os.listdir(self.images_directory))
        self.assertEqual([], list(self.journal.entries()))
        self.driver.behave = Request.upload
        self.driver.plan_error = None
        self.monitor = monitor_lib.Monitor('web')
        self.assertEqual('active', self.snapshot().status)

    def leave_behind(
        self, instance: instance_lib.Instance = INSTANCE
    ) -> image_api.Image:
        """An entry and a record, as of a process that was killed."""
        record = image_api.Image(id=str(BASE_ID), name='half', status='queued')

        def forget(_data: journal_lib.Data) -> None:
            raise RuntimeError('killed')

        with (
            self.journal.begun(instance.uuid, instance.name) as entry,
            entry.owing(manager_lib.REMOVE_RECORD, forget, image_id=record.id),
            entry.owing(START, forget, paused=False),
        ):
            return self.images.create(record)


class SuccessTest(ManagerTestCase):
    """A snapshot that becomes an image."""

    def test_image_is_active_and_has_the_data(self) -> None:
        image = self.snapshot(colour='blue')
        self.assertEqual('active', image.status)
        self.assertEqual(len(DATA), image.size)
        self.assertEqual('backup', image.name)
        self.assertEqual('raw', image.disk_format)
        self.assertEqual('blue', image.properties['colour'])
        self.assertEqual(INSTANCE.uuid, image.properties['instance_uuid'])
        self.assertEqual(DATA, (self.images_directory / image.id).read_bytes())

    def test_nothing_is_owed_afterwards(self) -> None:
        self.snapshot()
        self.assertEqual([], list(self.journal.entries()))
        self.assertEqual([], list(self.manager.recover()))

    def test_record_is_there_and_owed_before_the_driver_acts(self) -> None:
        def look(request: Request) -> None:
            self.assertEqual(
                'queued', self.images.get(request.image_id).status
            )
            (entry,) = self.journal.entries()
            self.assertEqual(
                [
                    journal_lib.Duty(
                        manager_lib.REMOVE_RECORD,
                        {'image_id': request.image_id},
                    )
                ],
                entry.duties,
            )
            request.upload()

        self.driver.behave = look
        self.assertEqual('active', self.snapshot().status)

    def test_base_image_is_inherited_from(self) -> None:
        self.images.create(
            image_api.Image(
                id=BASE_ID,
                name='debian',
                status='queued',
                min_ram=64,
                properties={'os_require_quiesce': 'yes'},
            )
        )
        image = self.snapshot(dataclasses.replace(INSTANCE, image_ref=BASE_ID))
        self.assertEqual(64, image.min_ram)
        self.assertEqual('yes', image.properties['os_require_quiesce'])
        self.assertEqual(
            {'os_require_quiesce': 'yes'}, self.driver.image_properties
        )

    def test_base_image_that_is_gone(self) -> None:
        image = self.snapshot(dataclasses.replace(INSTANCE, image_ref=BASE_ID))
        self.assertEqual('active', image.status)
        self.assertEqual(BASE_ID, image.properties['base_image_ref'])
        self.assertEqual({}, self.driver.image_properties)
        self.assertIn(BASE_ID, self.log.output)


class FailureTest(ManagerTestCase):
    """A snapshot that fails leaves nothing."""

    def test_driver_fails(self) -> None:
        def fail(_request: Request) -> None:
            raise exception.BlockJobFailed(disk='vda', server='a', reason='b')

        self.driver.behave = fail
        self.failure(exception.BlockJobFailed)
        self.assert_nothing_is_left()

    def test_driver_fails_in_a_way_that_nobody_foresaw(self) -> None:
        def fail(_request: Request) -> None:
            raise ZeroDivisionError

        self.driver.behave = fail
        self.assertRaises(ZeroDivisionError, self.snapshot)
        self.assert_nothing_is_left()

    def test_data_breaks_off(self) -> None:
        def upload_less(request: Request) -> None:
            request.images.upload(
                request.image_id, io.BytesIO(DATA), 9999, request.monitor
            )

        self.driver.behave = upload_less
        self.failure(exception.SnapshotFailed)
        self.assert_nothing_is_left()

    def test_corrupt_image_is_deleted_even_if_it_is_active(self) -> None:
        def corrupt(request: Request) -> None:
            request.upload()
            raise exception.ImageCorrupt(
                image_id=request.image_id, what='a', found='b', sent='c'
            )

        self.driver.behave = corrupt
        self.failure(exception.ImageCorrupt)
        self.assert_nothing_is_left()

    def test_image_service_refuses(self) -> None:
        def upload_twice(request: Request) -> None:
            request.upload()
            request.upload()

        self.driver.behave = upload_twice
        self.failure(exception.ImageConflict)

    def test_plan_fails(self) -> None:
        self.driver.plan_error = exception.UnsupportedGuest(
            server='web', reason='it has no disk.'
        )
        self.failure(exception.UnsupportedGuest)
        self.assert_nothing_is_left()

    def test_name_or_metadata_are_not_accepted(self) -> None:
        self.failure(exception.InvalidName, name='x' * 256)
        self.failure(exception.InvalidMetadata, key='x' * 256)
        self.assertIsNone(self.driver.image_properties)
        self.assert_nothing_is_left()

    def test_record_is_not_accepted(self) -> None:
        self.failure(exception.ImageRejected, owner='nobody')
        self.assert_nothing_is_left()


class CancelTest(ManagerTestCase):
    """A snapshot that is wanted no longer."""

    def wait_for_ever(self, request: Request) -> None:
        """Do what takes long."""
        while True:
            request.monitor.wait(0.02)

    def test_by_the_monitor(self) -> None:
        def cancel(request: Request) -> None:
            request.monitor.cancel('interrupted.')
            self.wait_for_ever(request)

        self.driver.behave = cancel
        error = self.failure(exception.SnapshotCancelled)
        self.assertIn('interrupted.', str(error))
        self.assert_nothing_is_left()

    def test_by_deleting_the_record_in_the_middle(self) -> None:
        def delete(request: Request) -> None:
            self.images.delete(request.image_id)
            self.wait_for_ever(request)

        self.driver.behave = delete
        error = self.failure(exception.SnapshotCancelled)
        self.assertIn('deleted', str(error))
        self.assert_nothing_is_left()

    def test_by_deleting_the_record_right_before_the_upload(self) -> None:
        def delete(request: Request) -> None:
            self.images.delete(request.image_id)
            request.upload()

        self.driver.behave = delete
        error = self.failure(exception.SnapshotCancelled)
        self.assertIn('deleted', str(error))
        self.assert_nothing_is_left()

    def test_is_no_error_in_the_log(self) -> None:
        self.test_by_deleting_the_record_in_the_middle()
        self.assertNotIn('Failed', self.log.output)
        self.assertNotIn('left undone', self.log.output)

    def test_while_it_waits_for_its_turn(self) -> None:
        with self.locks.snapshot_slot(monitor_lib.Monitor()):
            self.monitor.cancel('interrupted.')
            self.failure(exception.SnapshotCancelled)
        self.assert_nothing_is_left()


class OneAtATimeTest(ManagerTestCase):
    """A second snapshot of the same instance."""

    def setUp(self) -> None:
        super().setUp()
        self.begun, self.shall_end = threading.Event(), threading.Event()
        self.driver.behave = self.hold
        self.first = base.Attempt(self.snapshot)
        self.assertTrue(self.begun.wait(base.PATIENCE))

    def hold(self, request: Request) -> None:
        """Take until the test says so."""
        self.begun.set()
        self.shall_end.wait(base.PATIENCE)
        request.upload()

    def end(self) -> image_api.Image:
        """Let the first one end."""
        self.shall_end.set()
        attempt = self.first.wait()
        self.assertIsNone(attempt.error)
        image: image_api.Image = attempt.result
        return image

    def test_is_refused_and_the_first_goes_on(self) -> None:
        self.failure(exception.SnapshotInProgress)
        self.assertEqual(1, len(list(self.images.list())))
        self.assertEqual('active', self.end().status)

    def test_recovery_leaves_it_alone(self) -> None:
        (found,) = self.manager.recover()
        self.assertTrue(found.running)
        self.assertEqual(INSTANCE.uuid, found.entry.instance_uuid)
        self.assertEqual('active', self.end().status)


class RecoveryTest(ManagerTestCase):
    """What an earlier process left behind."""

    def fail_to_undo(self, _data: journal_lib.Data) -> None:
        """Fail."""
        raise RuntimeError('the guest will not start')

    def test_guest_is_put_right_and_the_record_removed(self) -> None:
        self.leave_behind()
        undone: list[Any] = []
        self.driver.undo = undone.append
        (found,) = self.manager.recover()
        self.assertEqual((), found.left)
        self.assertFalse(found.running)
        self.assertEqual([{'paused': False}], undone)
        self.assert_nothing_is_left()

    def test_twice_is_as_good_as_once(self) -> None:
        self.leave_behind()
        list(self.manager.recover())
        self.assertEqual([], list(self.manager.recover()))
        self.assert_nothing_is_left()

    def test_record_that_is_gone_is_no_obstacle(self) -> None:
        self.images.delete(self.leave_behind().id)
        (found,) = self.manager.recover()
        self.assertEqual((), found.left)
        self.assert_nothing_is_left()

    def test_image_that_is_whole_is_kept(self) -> None:
        image = self.leave_behind()
        self.images.upload(image.id, io.BytesIO(DATA), None, self.monitor)
        list(self.manager.recover())
        self.assertEqual('active', self.images.get(image.id).status)
        self.assertEqual([], list(self.journal.entries()))

    def test_what_can_not_be_put_right_is_named_and_stays(self) -> None:
        self.leave_behind()
        self.driver.undo = self.fail_to_undo
        (found,) = self.manager.recover()
        self.assertEqual((START,), found.left)
        self.assertIn('will not start', self.log.output)
        self.assertEqual([], list(self.images.list()))
        (found,) = self.manager.recover()
        self.assertEqual((START,), found.left)

    def test_one_that_fails_does_not_stop_the_others(self) -> None:
        self.leave_behind(OTHER)
        self.images.delete(BASE_ID)
        self.leave_behind(INSTANCE)
        failing = iter([self.fail_to_undo, lambda data: None])
        self.driver.undo = lambda data: next(failing)(data)
        found = list(self.manager.recover())
        self.assertEqual([(START,), ()], [one.left for one in found])

    def test_comes_before_the_next_snapshot(self) -> None:
        self.leave_behind()
        undone: list[Any] = []
        self.driver.undo = undone.append
        image = self.snapshot()
        self.assertEqual([{'paused': False}], undone)
        self.assertEqual([image.id], [one.id for one in self.images.list()])

    def test_next_snapshot_is_refused_where_it_fails(self) -> None:
        self.leave_behind()
        self.driver.undo = self.fail_to_undo
        error = self.failure(exception.RecoveryNeeded)
        (entry,) = self.journal.entries()
        for text in (INSTANCE.uuid, START, str(entry.path)):
            self.assertIn(text, str(error))
        self.assertEqual([], list(self.images.list()))

    def test_other_instances_are_not_held_up(self) -> None:
        self.leave_behind(OTHER)
        self.driver.undo = self.fail_to_undo
        self.assertEqual('active', self.snapshot(INSTANCE).status)
        (entry,) = self.journal.entries()
        self.assertEqual(OTHER.uuid, entry.instance_uuid)


class FullFile(io.BytesIO):
    """A file that takes nothing."""

    def write(self, data: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class ExportTest(ManagerTestCase):
    """An image without a record."""

    def test_file_has_the_data(self) -> None:
        target = io.BytesIO()
        self.manager.export_instance(INSTANCE, target, monitor_lib.Monitor())
        self.assertEqual(DATA, target.getvalue())
        self.assertEqual([], list(self.images.list()))
        self.assertEqual([], list(self.journal.entries()))

    def test_file_takes_no_more(self) -> None:
        undone: list[Any] = []
        self.driver.undo = undone.append
        error = self.assertRaises(
            exception.SnapshotFailed,
            self.manager.export_instance,
            INSTANCE,
            FullFile(),
            monitor_lib.Monitor(),
        )
        self.assertIn('No space left', str(error))
        self.assertEqual([{}], undone)
        self.assertEqual([], list(self.journal.entries()))
