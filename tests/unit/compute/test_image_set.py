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


"""Images of several disks: all become active, the root disk's last, or none.

Interrupted operations are in ``test_image_set_recovery.py``.
"""

from collections.abc import Callable
import dataclasses
import io
import threading
from typing import Any
import uuid

from nova_snap import concurrency
from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap import waiting
from nova_snap.compute import image_set
from nova_snap.compute import manager as manager_lib
from nova_snap.image import api as image_api
from nova_snap.image import upload_data
from tests.unit import base as unit_base
from tests.unit.compute import base
from tests.unit.compute import promises

DEVICES = ('vda', *base.FURTHER)


class SetTestCase(base.ManagerTestCase):
    """An instance with four disks.

    ``uploads`` has the device of each upload, in the order in which they
    ended; ``errors`` those that failed.
    """

    def setUp(self) -> None:
        super().setUp()
        self.patch(progress_lib, 'POLL_INTERVAL', 0.01)
        self.patch(image_set, 'LONGEST_PAUSE', 0.05)
        self.driver.further = tuple(base.FURTHER)
        self.uploads: list[str] = []
        self.errors: dict[str, BaseException] = {}
        self.upload_progress: dict[str, progress_lib.Progress] = {}
        self.before_upload: Callable[[str], None] = lambda device: None
        self.after_upload: Callable[[str], None] = lambda device: None
        self.upload = self.images.upload
        self.images.upload = self.watched_upload  # type: ignore[method-assign,assignment]

    def watched_upload(self, image_id: str, *arguments: Any) -> None:
        """Note an upload, and let the test interfere with it."""
        device = self.images.get(image_id).properties[image_set.DEVICE]
        self.upload_progress[device] = arguments[2]
        try:
            self.before_upload(device)
            self.upload(image_id, *arguments)
            self.after_upload(device)
        except BaseException as error:
            self.errors[device] = error
            raise
        self.uploads.append(device)

    def parallel(self, number: int) -> None:
        """Set how many disks are read at the same time."""
        self.manager = manager_lib.SnapshotManager(
            self.driver,
            self.journal,
            self.locks,
            cancel_check_interval=0.05,
            parallel_disks=number,
        )

    def statuses(self) -> dict[str, str]:
        """Return the status of each disk's image."""
        return {
            image.properties[image_set.DEVICE]: image.status
            for image in self.images.list()
        }

    def image_id(self, device: str) -> str:
        """Return the ID of a disk's image."""
        return next(
            image.id
            for image in self.images.list()
            if image.properties[image_set.DEVICE] == device
        )

    def fail_set(self, category: type[BaseException]) -> Any:
        """Return the error of a set, of which nothing is left."""
        with self.assertRaisesRegex(category, '') as caught:
            self.snapshots()
        self.images.upload = self.upload  # type: ignore[method-assign]
        self.assert_nothing_is_left()
        for image in self.images.list():
            self.images.delete(image.id)
        self.progress = progress_lib.Progress('web')
        return caught.exception


class RecordsTest(SetTestCase):
    """The records of a set, and how they are linked."""

    def test_names_and_properties(self) -> None:
        root, *further = self.snapshots(colour='blue')
        self.assertEqual('backup', root.name)
        self.assertEqual(
            [f'backup-{device}' for device in base.FURTHER],
            [image.name for image in further],
        )
        for device, image in zip(DEVICES, (root, *further), strict=True):
            own = {
                'nova_snap:set': root.id,
                'nova_snap:device': device,
                'nova_snap:disks': 'vda,vdb,vdc,vdd',
                'colour': 'blue',
                'image_type': 'snapshot',
                'instance_uuid': base.INSTANCE.uuid,
            }
            self.assertLessEqual(own.items(), image.properties.items())
            self.assertEqual('active', image.status)
            data = (self.images_directory / image.id).read_bytes()
            self.assertEqual(base.FURTHER.get(device, base.DATA), data)

    def test_id_follows_from_the_root(self) -> None:
        root, *further = self.snapshots()
        for device, image in zip(base.FURTHER, further, strict=True):
            self.assertEqual(
                str(uuid.uuid5(uuid.UUID(root.id), device)), image.id
            )

    def test_one_disk_is_no_set(self) -> None:
        self.images.upload = self.upload  # type: ignore[method-assign]
        self.driver.further = ()
        found = self.snapshot().properties
        self.assertEqual([], [k for k in found if k.startswith('nova_snap:')])

    def test_links_are_not_inherited(self) -> None:
        """A server may be booted from the root disk's image."""
        root, *_further = self.snapshots(colour='blue')
        self.images.upload = self.upload  # type: ignore[method-assign]
        self.driver.further = ()
        booted = dataclasses.replace(base.OTHER, image_ref=root.id)
        found = self.snapshot(booted).properties
        self.assertEqual('blue', found['colour'])
        self.assertEqual([], [k for k in found if k.startswith('nova_snap:')])

    def test_set_of_a_server_from_a_set(self) -> None:
        first, *_further = self.snapshots()
        booted = dataclasses.replace(base.OTHER, image_ref=first.id)
        root, *_further = self.snapshots(booted)
        self.assertEqual(root.id, root.properties[image_set.SET])

    def test_links_are_refused_from_a_user(self) -> None:
        for key in (image_set.SET, 'nova_snap:anything'):
            error = self.failure(
                exception.InvalidMetadata, **{key: base.BASE_ID}
            )
            self.assertIn('reserved', str(error))
        self.assertEqual([], list(self.images.list()))

    def test_name_that_is_too_long_with_the_disk(self) -> None:
        error = self.failure(exception.InvalidName, name='x' * 252)
        self.assertIn('it has 252 characters; here 251 are', str(error))
        self.assertIn('"-vdb" behind it', str(error))
        self.assertEqual([], list(self.images.list()))


class OrderTest(SetTestCase):
    """Which upload waits for which."""

    def test_root_is_active_last(self) -> None:
        found: list[dict[str, str]] = []
        self.after_upload = lambda device: found.append(self.statuses())
        self.snapshots()
        self.assertEqual('vda', self.uploads[-1])
        for statuses in found[:-1]:
            self.assertNotEqual('active', statuses['vda'])
        self.assertEqual(dict.fromkeys(DEVICES, 'active'), found[-1])

    def test_root_that_is_sent_first_waits(self) -> None:
        """All of it is read, and the image is not active for a moment."""
        size = 3 * upload_data.CHUNK
        self.driver.behave = lambda request: setattr(request, 'size', size)
        sent, goes_on = threading.Event(), threading.Event()
        self.driver.opened = lambda device, data: (
            Last(bytes(size), sent) if device == 'vda' else io.BytesIO(data)
        )

        def hold(device: str) -> None:
            if device == 'vdd':
                goes_on.wait(unit_base.PATIENCE)

        self.before_upload = hold
        attempt = unit_base.Attempt(self.snapshots)
        self.assertTrue(sent.wait(unit_base.PATIENCE))
        self.assertEqual('saving', self.statuses()['vda'])
        self.assertFalse(attempt.has_ended)
        goes_on.set()
        self.assertIsNone(attempt.wait().error)
        self.assertEqual('vda', self.uploads[-1])

    def test_root_is_not_begun_while_it_would_have_to_wait(self) -> None:
        goes_on = threading.Event()

        def hold(device: str) -> None:
            if device == 'vdb':
                goes_on.wait(unit_base.PATIENCE)
            if device == 'vda':
                self.assertTrue(goes_on.is_set())

        self.before_upload = hold
        self.progress = progress = promises.Progress()
        attempt = unit_base.Attempt(self.snapshots)
        self.assertTrue(progress.waits.wait(unit_base.PATIENCE))
        self.assertEqual('queued', self.statuses()['vda'])
        goes_on.set()
        self.assertIsNone(attempt.wait().error)

    def test_root_keeps_pace_with_the_others(self) -> None:
        """A connection that waits for them at its end would be closed."""
        self.patch(image_set, 'LONGEST_PAUSE', 3600)
        chunk = upload_data.CHUNK
        self.patch(base, 'FURTHER', {'vdb': bytes(4 * chunk)})
        self.driver.further = ('vdb',)
        root = io.BytesIO(bytes(8 * chunk))
        self.driver.behave = lambda request: setattr(
            request, 'size', 8 * chunk
        )
        goes_on = threading.Event()
        self.driver.opened = lambda device, data: (
            root if device == 'vda' else Stuck(data, goes_on)
        )
        attempt = unit_base.Attempt(self.snapshots)
        # Of the other disk three chunks are left.
        self.wait_until(
            'two are left of the root disk', lambda: root.tell() == 6 * chunk
        )
        goes_on.set()
        self.assertIsNone(attempt.wait().error)

    def check_together(self, number: int) -> None:
        """Check how many disks are read at the same time."""
        self.parallel(number)
        together = threading.Barrier(number)
        counts: list[int] = [0]
        lock = threading.Lock()

        def count(device: str) -> None:
            with lock:
                counts.append(counts[-1] + 1)
            # All of the first that may run are there before one ends.
            if device in DEVICES[1 : number + 1]:
                together.wait(unit_base.PATIENCE)

        def discount(_device: str) -> None:
            with lock:
                counts.append(counts[-1] - 1)

        self.before_upload, self.after_upload = count, discount
        self.snapshots()
        self.assertEqual(number, max(counts))

    def test_one_at_a_time(self) -> None:
        self.check_together(1)

    def test_two_at_a_time(self) -> None:
        self.check_together(2)

    def test_three_at_a_time(self) -> None:
        self.check_together(3)

    def test_progress_is_of_all_disks(self) -> None:
        heard: list[progress_lib.Report] = []
        self.progress = progress_lib.Progress('web', heard.append)
        self.snapshots()
        whole = len(base.DATA) + sum(map(len, base.FURTHER.values()))
        self.assertEqual(
            progress_lib.Report(progress_lib.Stage.UPLOADING, whole, whole),
            heard[-1],
        )


class Last(io.BytesIO):
    """A file that tells when all of it was read."""

    def __init__(self, data: bytes, was_read: threading.Event) -> None:
        super().__init__(data)
        self._size, self._was_read = len(data), was_read

    def read(self, size: int | None = -1) -> bytes:
        chunk = super().read(size)
        if self.tell() == self._size:
            self._was_read.set()
        return chunk


class Stuck(io.BytesIO):
    """A file of which one chunk can be read at once."""

    def __init__(self, data: bytes, goes_on: threading.Event) -> None:
        super().__init__(data)
        self._goes_on = goes_on

    def read(self, size: int | None = -1) -> bytes:
        if self.tell():
            self._goes_on.wait(unit_base.PATIENCE)
        return super().read(size)


class FailureTest(SetTestCase):
    """A set of which one disk fails."""

    def check_fails(self, device: str, error: BaseException) -> None:
        """Check that an error of one disk is that of the set."""

        def fail(found: str) -> None:
            if found == device:
                raise error

        self.driver.reading = fail
        self.assertIs(error, self.fail_set(type(error)))

    def test_disk_can_not_be_read(self) -> None:
        for device in ('vda', 'vdb', 'vdd'):
            self.setUp_again()
            self.check_fails(
                device, exception.ExportFailed(server='web', reason='x')
            )

    def setUp_again(self) -> None:
        """Have a guest with all disks again."""
        self.driver.further = tuple(base.FURTHER)
        self.images.upload = self.watched_upload  # type: ignore[method-assign,assignment]

    def test_another_way_only_while_no_image_is_there(self) -> None:
        self.parallel(1)
        refused = exception.MethodUnavailable(method='x', reason='refused.')

        def refuse(found: str) -> None:
            if found == device:
                raise refused

        self.before_upload = refuse
        device = 'vdb'
        self.assertIs(refused, self.fail_set(exception.MethodUnavailable))
        self.setUp_again()
        device = 'vdc'
        error = self.fail_set(exception.SnapshotFailed)
        self.assertNotIsInstance(error, exception.MethodUnavailable)
        self.assertIn('refused. Another image of the set', str(error))

    def test_in_a_way_that_nobody_foresaw(self) -> None:
        self.check_fails('vdb', ZeroDivisionError())

    def test_thread_is_ended(self) -> None:
        self.check_fails('vdc', SystemExit(3))

    def test_others_end_at_once(self) -> None:
        """And the error of the first is that of the set."""
        begun = threading.Event()

        def fail(device: str) -> None:
            if device == 'vdb':
                begun.wait(unit_base.PATIENCE)
                raise exception.ImageServiceUnavailable(
                    endpoint='x', reason='y'
                )
            begun.set()
            progress = self.upload_progress[device]
            for _poll in waiting.polls(unit_base.PATIENCE, progress):
                pass

        self.before_upload = fail
        self.fail_set(exception.ImageServiceUnavailable)
        # An image service sends again what failed with an error of its own.
        self.assertIsInstance(self.errors['vdc'], exception.SnapshotCancelled)
        self.assertEqual([], self.uploads)

    def test_root_ends_while_it_waits_for_the_others(self) -> None:
        size = upload_data.CHUNK
        self.driver.behave = lambda request: setattr(request, 'size', size)
        sent = threading.Event()
        self.driver.opened = lambda device, data: (
            Last(bytes(size), sent) if device == 'vda' else io.BytesIO(data)
        )

        def fail(device: str) -> None:
            if device == 'vdd':
                sent.wait(unit_base.PATIENCE)
                raise exception.ImageTooLarge(image_id='x', reason='y')

        self.before_upload = fail
        self.fail_set(exception.ImageTooLarge)

    def test_thread_can_not_be_started(self) -> None:
        start = concurrency.start_thread

        def refuse(name: str, target: Callable[[], None]) -> Any:
            if name == 'upload-2':
                raise RuntimeError("can't start new thread")
            return start(name, target)

        self.patch(concurrency, 'start_thread', refuse)
        self.fail_set(RuntimeError)

    def test_quota_is_used_up_at_the_third_record(self) -> None:
        create = self.images.create
        made: list[str] = []

        def refuse(record: image_api.Image) -> image_api.Image:
            if len(made) == 2:
                made.append(record.id)
                raise exception.ImageTooLarge(
                    image_id=record.id, reason='the quota is used up'
                )
            made.append(record.id)
            return create(record)

        self.images.create = refuse  # type: ignore[method-assign]
        read: list[base.Request] = []
        self.driver.behave = read.append
        self.fail_set(exception.ImageTooLarge)
        self.assertEqual([], read)

    def corrupt(self, device: str) -> None:
        """Let the image of a disk not be what was sent."""

        def differ(found: str) -> None:
            if found == device:
                image_id = self.image_id(device)
                raise exception.ImageCorrupt(
                    image_id=image_id, what='hash', found='b', sent='c'
                )

        self.after_upload = differ

    def test_image_that_differs(self) -> None:
        for device in ('vdb', 'vda'):
            self.setUp_again()
            self.corrupt(device)
            self.fail_set(exception.ImageCorrupt)

    def test_own_deletion_is_no_cancellation(self) -> None:
        """The watch sees that an image is gone before the operation ends."""
        self.corrupt('vdb')
        delete, get = self.images.delete, self.images.get
        is_seen = threading.Event()

        def wait(image_id: str) -> None:
            delete(image_id)
            self.assertTrue(is_seen.wait(unit_base.PATIENCE))

        def look(image_id: str) -> image_api.Image:
            try:
                return get(image_id)
            except exception.ImageNotFound:
                is_seen.set()
                raise

        self.images.delete = wait  # type: ignore[method-assign]
        self.images.get = look  # type: ignore[method-assign]
        with self.assertRaisesRegex(exception.ImageCorrupt, ''):
            self.snapshots()
        self.progress.check()


class CancelTest(SetTestCase):
    """A set that is wanted no longer."""

    def test_while_the_disks_are_read(self) -> None:
        self.before_upload = lambda device: self.progress.cancel('enough.')
        error = self.fail_set(exception.SnapshotCancelled)
        self.assertIn('enough.', str(error))

    def test_while_the_root_disk_waits_for_its_turn(self) -> None:
        def cancel(device: str) -> None:
            if device == 'vdd':
                self.progress.cancel('enough.')
                goes_on.wait(unit_base.PATIENCE)

        goes_on = threading.Event()
        check = self.progress.check

        def checked() -> None:
            try:
                check()
            except exception.SnapshotCancelled:
                goes_on.set()
                raise

        self.progress.check = checked  # type: ignore[method-assign]
        self.before_upload = cancel
        self.fail_set(exception.SnapshotCancelled)

    def check_deleted(self, victim: str, at_the_end_of: str) -> None:
        """Check that deleting one image cancels the operation."""

        def delete(device: str) -> None:
            if device == at_the_end_of:
                self.images.delete(self.image_id(victim))

        self.after_upload = delete
        error = self.fail_set(exception.SnapshotCancelled)
        self.assertIn('its image was deleted', str(error))

    def test_by_deleting_an_image_that_is_active(self) -> None:
        self.check_deleted('vdb', at_the_end_of='vdb')

    def test_by_deleting_the_last_one_before_the_root(self) -> None:
        """The watch does not look again before the root disk's is active."""
        self.manager = manager_lib.SnapshotManager(
            self.driver, self.journal, self.locks, cancel_check_interval=3600
        )
        self.check_deleted('vdd', at_the_end_of='vdd')

    def test_by_deleting_the_root(self) -> None:
        self.check_deleted('vda', at_the_end_of='vdb')

    def test_deleting_one_later_leaves_the_others(self) -> None:
        root, further, *_others = self.snapshots()
        self.images.delete(further.id)
        self.assertEqual([], self.recover())
        self.assertEqual(3, len(list(self.images.list())))
        self.assertEqual('active', self.images.get(root.id).status)
