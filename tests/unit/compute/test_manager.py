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


"""From a request to an image, and back when it fails."""

import dataclasses
import errno
import io
import os
import threading
from typing import Any

from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap.compute import export_target
from nova_snap.compute import image_upload
from nova_snap.image import api as image_api
from tests.unit import base as unit_base
from tests.unit.compute import base


class SuccessTest(base.ManagerTestCase):
    """A snapshot that becomes an image."""

    def test_image_is_active_and_has_the_data(self) -> None:
        image = self.snapshot(colour='blue')
        self.assertEqual('active', image.status)
        self.assertEqual(len(base.DATA), image.size)
        self.assertEqual('backup', image.name)
        self.assertEqual('raw', image.disk_format)
        self.assertEqual('blue', image.properties['colour'])
        self.assertEqual(base.INSTANCE.uuid, image.properties['instance_uuid'])
        self.assertEqual(
            base.DATA, (self.images_directory / image.id).read_bytes()
        )

    def test_nothing_is_owed_afterwards(self) -> None:
        self.snapshot()
        self.assertEqual([], list(self.journal.entries()))
        self.assertEqual([], self.recover())

    def test_record_is_there_and_owed_before_the_driver_acts(self) -> None:
        def look(request: base.Request) -> None:
            self.assertEqual(
                'queued', self.images.get(request.image_id).status
            )
            (entry,) = self.journal.entries()
            (step, _start) = entry.steps
            self.assertEqual(image_upload.RemoveRecord(request.image_id), step)

        self.driver.behave = look
        self.assertEqual('active', self.snapshot().status)

    def test_base_image_is_inherited_from(self) -> None:
        self.images.create(
            image_api.Image(
                id=base.BASE_ID,
                name='debian',
                status='queued',
                min_ram=64,
                properties={'os_require_quiesce': 'yes'},
            )
        )
        image = self.snapshot(
            dataclasses.replace(base.INSTANCE, image_ref=base.BASE_ID)
        )
        self.assertEqual(64, image.min_ram)
        self.assertEqual('yes', image.properties['os_require_quiesce'])
        self.assertEqual(
            {'os_require_quiesce': 'yes'}, self.driver.image_properties
        )

    def test_base_image_that_is_gone(self) -> None:
        image = self.snapshot(
            dataclasses.replace(base.INSTANCE, image_ref=base.BASE_ID)
        )
        self.assertEqual('active', image.status)
        self.assertEqual(base.BASE_ID, image.properties['base_image_ref'])
        self.assertEqual({}, self.driver.image_properties)
        self.assertIn(base.BASE_ID, self.log.output)


class FailureTest(base.ManagerTestCase):
    """A snapshot that fails leaves nothing."""

    def test_driver_fails(self) -> None:
        def fail(_request: base.Request) -> None:
            raise exception.BlockJobFailed(disk='vda', server='a', reason='b')

        self.driver.behave = fail
        self.failure(exception.BlockJobFailed)
        self.assert_nothing_is_left()

    def test_driver_fails_in_a_way_that_nobody_foresaw(self) -> None:
        def fail(_request: base.Request) -> None:
            raise ZeroDivisionError

        self.driver.behave = fail
        self.assertRaises(ZeroDivisionError, self.snapshot)
        self.assert_nothing_is_left()

    def test_data_breaks_off(self) -> None:
        def upload_less(request: base.Request) -> None:
            request.size = 9999

        self.driver.behave = upload_less
        self.failure(exception.SnapshotFailed)
        self.assert_nothing_is_left()

    def test_corrupt_image_is_deleted_even_if_it_is_active(self) -> None:
        upload = self.images.upload

        def corrupt(image_id: str, *arguments: Any) -> None:
            upload(image_id, *arguments)
            raise exception.ImageCorrupt(
                image_id=image_id, what='a', found='b', sent='c'
            )

        self.images.upload = corrupt  # type: ignore[method-assign,assignment]
        self.failure(exception.ImageCorrupt)
        self.images.upload = upload  # type: ignore[method-assign]
        self.assert_nothing_is_left()

    def test_conflict_after_all_data_is_no_cancellation(self) -> None:
        """That the image is deleted then is our own doing."""
        upload = self.images.upload

        def conflict(image_id: str, *arguments: Any) -> None:
            upload(image_id, *arguments)
            raise exception.ImageConflict(image_id=image_id, reason='twice')

        self.images.upload = conflict  # type: ignore[method-assign,assignment]
        self.failure(exception.ImageConflict)
        self.images.upload = upload  # type: ignore[method-assign]
        self.assert_nothing_is_left()

    def test_image_service_refuses(self) -> None:
        def upload_twice(request: base.Request) -> None:
            self.images.upload(
                request.image_id, io.BytesIO(base.DATA), None, request.progress
            )

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
        # Glance's database has no room for such a character.
        self.failure(exception.ImageRejected, name='\U0001f600')
        self.assert_nothing_is_left()


class CancelTest(base.ManagerTestCase):
    """A snapshot that is wanted no longer."""

    def wait_for_ever(self, request: base.Request) -> None:
        """Do what takes long."""
        while True:
            request.progress.wait(0.02)

    def test_by_the_caller(self) -> None:
        def cancel(request: base.Request) -> None:
            request.progress.cancel('interrupted.')
            self.wait_for_ever(request)

        self.driver.behave = cancel
        error = self.failure(exception.SnapshotCancelled)
        self.assertIn('interrupted.', str(error))
        self.assert_nothing_is_left()

    def test_by_deleting_the_record_in_the_middle(self) -> None:
        def delete(request: base.Request) -> None:
            self.images.delete(request.image_id)
            self.wait_for_ever(request)

        self.driver.behave = delete
        error = self.failure(exception.SnapshotCancelled)
        self.assertIn('deleted', str(error))
        self.assert_nothing_is_left()

    def test_by_deleting_the_record_right_before_the_upload(self) -> None:
        def delete(request: base.Request) -> None:
            self.images.delete(request.image_id)

        self.driver.behave = delete
        error = self.failure(exception.SnapshotCancelled)
        self.assertIn('deleted', str(error))
        self.assert_nothing_is_left()

    def test_by_deleting_the_record_after_the_last_byte_was_sent(self) -> None:
        upload = self.images.upload

        def delete(image_id: str, *arguments: Any) -> None:
            *others, register = arguments

            def register_and_delete(sent: image_api.Sent) -> None:
                register(sent)
                self.images.delete(image_id)

            upload(image_id, *others, register_and_delete)

        self.images.upload = delete  # type: ignore[method-assign,assignment]
        error = self.failure(exception.SnapshotCancelled)
        self.images.upload = upload  # type: ignore[method-assign]
        self.assertIn('deleted', str(error))
        self.assert_nothing_is_left()

    def test_is_no_error_in_the_log(self) -> None:
        self.test_by_deleting_the_record_in_the_middle()
        self.assertNotIn('Failed', self.log.output)
        self.assertNotIn('left undone', self.log.output)

    def test_while_it_waits_for_its_turn(self) -> None:
        with self.locks.snapshot_slot(progress_lib.Progress()):
            self.progress.cancel('interrupted.')
            self.failure(exception.SnapshotCancelled)
        self.assert_nothing_is_left()


class OneAtATimeTest(base.ManagerTestCase):
    """A second snapshot of the same instance."""

    def setUp(self) -> None:
        super().setUp()
        self.begun, self.shall_end = threading.Event(), threading.Event()
        self.driver.behave = self.hold
        self.first = unit_base.Attempt(self.snapshot)
        self.assertTrue(self.begun.wait(unit_base.PATIENCE))

    def hold(self, request: base.Request) -> None:
        """Take until the test says so."""
        self.begun.set()
        self.shall_end.wait(unit_base.PATIENCE)

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
        (found,) = self.recover()
        self.assertTrue(found.running)
        self.assertEqual(base.INSTANCE.uuid, found.entry.instance_uuid)
        self.assertEqual('active', self.end().status)


class FullFile(io.BytesIO):
    """A file that takes nothing."""

    def write(self, data: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class ExportTest(base.ManagerTestCase):
    """An image without a record."""

    def test_file_has_the_data(self) -> None:
        target = io.BytesIO()
        self.manager.export_instance(
            base.INSTANCE,
            export_target.Stream(target),
            self.images,
            progress_lib.Progress(),
        )
        self.assertEqual(base.DATA, target.getvalue())
        self.assertEqual([], list(self.images.list()))
        self.assertEqual([], list(self.journal.entries()))

    def test_file_takes_no_more(self) -> None:
        undone: list[Any] = []
        self.driver.undo = undone.append
        error = self.assertRaises(
            exception.SnapshotFailed,
            self.manager.export_instance,
            base.INSTANCE,
            export_target.Stream(FullFile()),
            self.images,
            progress_lib.Progress(),
        )
        self.assertIn('No space left', str(error))
        self.assertEqual([{'paused': False}], undone)
        self.assertEqual([], list(self.journal.entries()))
