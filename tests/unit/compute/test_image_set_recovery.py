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


"""Recovery of image sets: after a kill at any point, all images or none."""

import hashlib
import io
import os
import pathlib
import shutil
import threading
from typing import Any

from nova_snap import durable
from nova_snap import exception
from nova_snap import journal as journal_lib
from nova_snap import undo
from nova_snap.compute import image_set
from nova_snap.compute import image_upload
from nova_snap.image import api as image_api
from nova_snap.image import filesystem
from tests.unit import base as unit_base
from tests.unit import journals
from tests.unit.compute import base
from tests.unit.compute import promises


class KilledTest(unit_base.TestCase):
    """An operation that is killed at any point, and recovered."""

    def setUp(self) -> None:
        super().setUp()
        self.operation = promises.ImageSet(self)
        self.is_running = True
        # No host crashes here, and it takes most of the time.
        self.patch(os, 'fsync', lambda _descriptor: None)
        self.patch(image_set, 'LONGEST_PAUSE', 0.05)
        #: Held while records and the journal change, and while they are
        #: copied: a process is killed with all of its threads.
        self.lock = threading.RLock()
        self.copies: dict[frozenset[Any], tuple[str, pathlib.Path]] = {}

    def copy(self, point: str) -> None:
        """Keep what is on disk, as a process leaves it that is killed now."""
        with self.lock:
            place = self.folder()
            for name in ('images', 'journal'):
                found = self.operation.folder / name
                if found.exists():
                    shutil.copytree(found, place / name)
            content = frozenset(
                (str(path.relative_to(place)), path.read_bytes())
                for path in place.rglob('*')
                if path.is_file() and path.suffix != '.upload'
            )
            self.copies.setdefault(content, (point, place))

    def copy_around(self, target: Any, method: str) -> None:
        """Copy before and after each call of a method."""
        original = getattr(target, method)

        def call(*args: Any, **options: Any) -> Any:
            if not self.is_running:
                return original(*args, **options)
            with self.lock:
                self.copy(f'before {method}')
                found = original(*args, **options)
                self.copy(f'after {method}')
            return found

        self.patch(target, method, call)

    def recovered(self, place: pathlib.Path) -> promises.ImageSet:
        """Recover as a process does that is started later."""
        later = promises.ImageSet(self)
        later.folder = place
        later.images = filesystem.FilesystemImageService(place / 'images')
        later.journal = journal_lib.Journal(place / 'journal')
        later.manager = base.manager_lib.SnapshotManager(
            later.driver, later.journal, later.locks
        )
        later.recover()
        return later

    def test_all_or_none(self) -> None:
        self.operation.probe.hook = self.copy
        self.copy_around(durable, 'write')
        self.copy_around(self.operation.images, '_activate')
        self.copy_around(self.operation.images, '_write')
        self.operation.run()
        self.is_running = False
        ends = set()
        for point, place in list(self.copies.values()):
            later = self.recovered(place)
            self.assertEqual((), later.kinds_on_disk(), point)
            self.assertTrue(later.is_done() or later.is_undone(), point)
            ends.add(later.is_done())
        self.assertEqual({True, False}, ends)


class LeftTest(base.ManagerTestCase):
    """What a killed process has left, and what recovery makes of it."""

    def setUp(self) -> None:
        super().setUp()
        self.root = base.BASE_ID
        self.ids = [
            self.root,
            *(image_set.member_id(self.root, name) for name in base.FURTHER),
        ]

    def leave_set(self, *left: str, digest: str | None = None) -> None:
        """Leave an entry of a set, with images of these statuses.

        :param digest: of the root disk's data, as it was sent; None if it
            was not sent yet.
        """
        for image_id, status in zip(self.ids, left, strict=True):
            if status != 'missing':
                self.images.create(
                    image_api.Image(id=image_id, name='x', status='queued')
                )
            if status == 'active':
                self.images.upload(
                    image_id, io.BytesIO(base.DATA), None, self.progress
                )
        steps: list[Any] = [image_set.RemoveSet(self.ids)]
        if digest is not None:
            steps.append(
                image_upload.VerifyImage(
                    self.root,
                    len(base.DATA),
                    'sha512',
                    digest,
                    self.ids[1:],
                )
            )
        journals.leave(
            self.journal_directory, base.INSTANCE.uuid, 'web', *steps
        )

    def kept(self) -> int:
        """Return how many images there are."""
        return len(list(self.images.list()))

    def test_root_is_not_active(self) -> None:
        self.leave_set('queued', 'active', 'active', 'active')
        self.recover()
        self.assert_nothing_is_left()

    def test_only_some_records(self) -> None:
        self.leave_set('queued', 'queued', 'missing', 'missing')
        self.recover()
        self.assert_nothing_is_left()

    def test_whole_set_stays(self) -> None:
        self.leave_set('active', 'active', 'active', 'active')
        self.recover()
        self.assertEqual(4, self.kept())
        self.assertEqual([], list(self.journal.entries()))

    def test_user_has_deleted_an_image_of_a_whole_set(self) -> None:
        self.leave_set('active', 'missing', 'active', 'active')
        self.recover()
        self.assertEqual(3, self.kept())

    def test_user_has_deleted_the_root(self) -> None:
        self.leave_set('missing', 'active', 'active', 'active')
        self.recover()
        self.assert_nothing_is_left()

    def test_root_is_what_was_sent(self) -> None:
        sent = hashlib.sha512(base.DATA).hexdigest()
        self.leave_set('active', 'active', 'active', 'active', digest=sent)
        self.recover()
        self.assertEqual(4, self.kept())

    def test_root_is_not_what_was_sent(self) -> None:
        self.leave_set('active', 'active', 'active', 'active', digest='00')
        self.recover()
        self.assert_nothing_is_left()

    def test_step_of_an_earlier_version(self) -> None:
        """It knows of no other images."""
        data = {'size': 3, 'algorithm': 'sha512', 'digest': '00'}
        step = undo.load(
            image_upload.VerifyImage.kind, {'image_id': self.root, **data}
        )
        self.assertEqual(
            image_upload.VerifyImage(self.root, 3, 'sha512', '00'), step
        )

    def check_fails_at_first(self, method: str) -> None:
        """Recover twice; the first request of a kind fails."""
        self.leave_set('active', 'active', 'active', 'active', digest='00')
        original = getattr(self.images, method)
        calls: list[str] = []

        def fail_once(image_id: str) -> Any:
            calls.append(image_id)
            if len(calls) == 1:
                raise exception.ImageServiceUnavailable(
                    endpoint='x', reason='y'
                )
            return original(image_id)

        setattr(self.images, method, fail_once)
        (found,) = self.recover()
        self.assertNotEqual((), found.left)
        self.recover()
        self.assert_nothing_is_left()

    def test_image_service_fails_at_first(self) -> None:
        """The step that finds the difference may be left alone."""
        self.check_fails_at_first('get')

    def test_image_service_deletes_nothing_at_first(self) -> None:
        self.check_fails_at_first('delete')

    def test_one_that_can_not_be_deleted_does_not_keep_the_others(
        self,
    ) -> None:
        self.leave_set('queued', 'active', 'active', 'active')
        delete = self.images.delete

        def refuse(image_id: str) -> None:
            if image_id == self.ids[1]:
                raise exception.ImageNotPermitted(reason='it is protected.')
            delete(image_id)

        self.images.delete = refuse  # type: ignore[method-assign]
        (found,) = self.recover()
        self.assertEqual((image_set.RemoveSet.kind,), found.left)
        self.assertIn('it is protected', self.log.output)
        self.assertEqual(1, self.kept())
        # Nor does it keep the next operation from beginning.
        self.images.delete = delete  # type: ignore[method-assign]
        self.assertEqual('active', self.snapshot().status)
        self.assertEqual([], list(self.journal.entries()))
