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


"""What an earlier process left behind, and who ends it."""

import hashlib
import io
from typing import Any

from nova_snap import exception
from nova_snap import undo
from nova_snap.compute import image_upload
from nova_snap.image import api as image_api
from tests.unit import journals
from tests.unit.compute import base


class RecoveryTest(base.ManagerTestCase):
    """What an earlier process left behind."""

    def fail_to_undo(self, _data: undo.Data) -> None:
        """Fail."""
        raise RuntimeError('the guest will not start')

    def test_guest_is_put_right_and_the_record_removed(self) -> None:
        self.leave_behind()
        undone: list[Any] = []
        self.driver.undo = undone.append
        (found,) = self.recover()
        self.assertEqual((), found.left)
        self.assertFalse(found.running)
        self.assertEqual([{'paused': False}], undone)
        self.assert_nothing_is_left()

    def test_twice_is_as_good_as_once(self) -> None:
        self.leave_behind()
        self.recover()
        self.assertEqual([], self.recover())
        self.assert_nothing_is_left()

    def test_record_that_is_gone_is_no_obstacle(self) -> None:
        self.images.delete(self.leave_behind().id)
        (found,) = self.recover()
        self.assertEqual((), found.left)
        self.assert_nothing_is_left()

    def test_image_that_is_whole_is_kept(self) -> None:
        image = self.leave_behind()
        self.images.upload(
            image.id, io.BytesIO(base.DATA), None, self.progress
        )
        self.recover()
        self.assertEqual('active', self.images.get(image.id).status)
        self.assertEqual([], list(self.journal.entries()))

    def check_unverified(self, digest: str, is_kept: bool) -> None:
        """Recover where an image became active and nobody compared it."""
        image = self.images.create(
            image_api.Image(id=base.BASE_ID, name='sent', status='queued')
        )
        self.images.upload(
            image.id, io.BytesIO(base.DATA), None, self.progress
        )
        journals.leave(
            self.journal_directory,
            base.INSTANCE.uuid,
            base.INSTANCE.name,
            image_upload.RemoveRecord(image.id),
            image_upload.VerifyImage(
                image.id, len(base.DATA), 'sha512', digest
            ),
        )
        (found,) = self.recover()
        self.assertEqual((), found.left)
        ids = [one.id for one in self.images.list()]
        self.assertEqual([image.id] if is_kept else [], ids)

    def test_image_that_is_what_was_sent_is_kept(self) -> None:
        digest = hashlib.sha512(base.DATA).hexdigest()
        self.check_unverified(digest, is_kept=True)

    def test_image_that_is_not_what_was_sent_is_deleted(self) -> None:
        self.check_unverified('0' * 128, is_kept=False)

    def test_what_can_not_be_put_right_is_named_and_stays(self) -> None:
        self.leave_behind()
        self.driver.undo = self.fail_to_undo
        (found,) = self.recover()
        self.assertEqual((base.START,), found.left)
        self.assertIn('will not start', self.log.output)
        self.assertEqual([], list(self.images.list()))
        (found,) = self.recover()
        self.assertEqual((base.START,), found.left)

    def test_all_guests_come_before_images(self) -> None:
        self.leave_behind(base.OTHER)
        self.images.delete(base.BASE_ID)
        self.leave_behind(base.INSTANCE)
        done: list[str] = []
        self.driver.undo = lambda _data: done.append('guest')
        delete = self.images.delete

        def delete_image(image_id: str) -> None:
            done.append('image')
            delete(image_id)

        self.patch(self.images, 'delete', delete_image)
        self.recover()
        self.assertEqual(['guest', 'guest'], done[:2])
        self.assertIn('image', done)

    def test_one_that_fails_does_not_stop_the_others(self) -> None:
        self.leave_behind(base.OTHER)
        self.images.delete(base.BASE_ID)
        self.leave_behind(base.INSTANCE)
        failing = iter([self.fail_to_undo, lambda data: None])
        self.driver.undo = lambda data: next(failing)(data)
        found = self.recover()
        self.assertEqual([(base.START,), ()], [one.left for one in found])

    def test_each_step_is_tried_once_and_each_entry_named_once(self) -> None:
        self.leave_behind(base.OTHER)
        self.images.delete(base.BASE_ID)
        self.leave_behind(base.INSTANCE)
        tried: list[undo.Data] = []

        def fail(data: undo.Data) -> None:
            tried.append(data)
            self.fail_to_undo(data)

        self.driver.undo = fail
        self.recover()
        self.assertEqual(2, len(tried))
        self.assertEqual(2, self.log.output.count('Undoing what was'))

    def test_comes_before_the_next_snapshot(self) -> None:
        self.leave_behind()
        undone: list[Any] = []
        self.driver.undo = undone.append
        image = self.snapshot()
        # That of the one before, then its own.
        self.assertEqual([{'paused': False}] * 2, undone)
        self.assertEqual([image.id], [one.id for one in self.images.list()])

    def test_next_snapshot_is_refused_where_it_fails(self) -> None:
        self.leave_behind()
        self.driver.undo = self.fail_to_undo
        error = self.failure(exception.RecoveryNeeded)
        (entry,) = self.journal.entries()
        for text in (base.INSTANCE.uuid, base.START, str(entry.path)):
            self.assertIn(text, str(error))
        self.assertEqual([], list(self.images.list()))

    def test_other_instances_are_not_held_up(self) -> None:
        self.leave_behind(base.OTHER)
        self.assertEqual('active', self.snapshot(base.INSTANCE).status)
        (entry,) = self.journal.entries()
        self.assertEqual(base.OTHER.uuid, entry.instance_uuid)
