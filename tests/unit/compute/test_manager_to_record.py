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

"""Snapshots into a record that somebody else has made, as nova-api does."""

from nova_snap import exception
from nova_snap import undo
from nova_snap.compute import image_upload
from nova_snap.image import api as image_api
from nova_snap.objects import task_state
from tests.unit.compute import base

RECORD = '5b9c7bd5-1b7a-4f4e-9d0e-52f6a7f2f2a9'


class ToRecordTest(base.ManagerTestCase):
    """Snapshots to an existing record, whose undo step is in the journal."""

    def setUp(self) -> None:
        super().setUp()
        self.images.create(
            image_api.Image(id=RECORD, name='theirs', status='queued')
        )
        self.states: list[task_state.TaskState] = []

    def take(self) -> None:
        """Take it."""
        self.manager.snapshot_to_record(
            base.INSTANCE,
            self.images.get(RECORD),
            {'os_require_quiesce': 'True'},
            self.images,
            self.progress,
            self.states.append,
        )

    def status(self) -> str:
        """Of the record."""
        return self.images.get(RECORD).status

    def test_record_gets_the_data(self) -> None:
        self.take()
        self.assertEqual('active', self.status())
        self.assertEqual('theirs', self.images.get(RECORD).name)
        self.assertEqual([], list(self.journal.entries()))

    def test_properties_reach_the_driver(self) -> None:
        self.take()
        self.assertEqual(
            {'os_require_quiesce': 'True'}, self.driver.image_properties
        )

    def test_record_is_in_the_journal_while_it_is_taken(self) -> None:
        seen: list[undo.Step] = []

        def look(request: base.Request) -> None:
            (entry,) = self.journal.entries()
            seen.extend(entry.steps)

        self.driver.behave = look
        self.take()
        self.assertEqual(
            [image_upload.RemoveRecord(RECORD), base.Start()], seen
        )

    def test_record_goes_when_it_can_not_be_taken(self) -> None:
        self.driver.plan_error = exception.NotPermitted('no')
        self.assertRaises(exception.NotPermitted, self.take)
        self.assertRaises(exception.ImageNotFound, self.status)
        self.assertEqual([], list(self.journal.entries()))

    def test_record_goes_while_another_snapshot_runs(self) -> None:
        with self.locks.instance(base.INSTANCE.uuid):
            self.assertRaises(exception.SnapshotInProgress, self.take)
        self.assertRaises(exception.ImageNotFound, self.status)
        self.assertEqual([], list(self.journal.entries()))

    def test_comes_after_what_an_earlier_one_left(self) -> None:
        self.leave_behind()
        undone: list[undo.Data] = []
        self.driver.undo = undone.append
        self.take()
        self.assertEqual([{'paused': False}] * 2, undone)
        self.assertEqual([RECORD], [image.id for image in self.images.list()])

    def test_record_that_can_not_be_removed_is_in_nobodys_way(self) -> None:
        self.leave_behind()
        self.patch(self.images, 'delete', _refuse)
        self.take()
        self.assertEqual('active', self.status())
        (left,) = self.journal.entries()
        self.assertEqual([image_upload.RemoveRecord(base.BASE_ID)], left.steps)


def _refuse(_image_id: str) -> None:
    raise exception.ImageNotPermitted(reason='it belongs to another project.')
