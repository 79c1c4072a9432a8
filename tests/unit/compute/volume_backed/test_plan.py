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

import io
import json
import threading
import time
from unittest import mock

from nova_snap import exception
from nova_snap import journal as journal_lib
from nova_snap import progress as progress_lib
from nova_snap.compute import image_upload
from nova_snap.compute import manager as manager_lib
from nova_snap.compute.volume_backed import moment as volume_moment
from nova_snap.compute.volume_backed import plan as volume_backed
from nova_snap.compute.volume_backed import requests as volume_requests
from nova_snap.compute.volume_backed import snapshots as volume_snapshots
from nova_snap.image import api as image_api
from nova_snap.volume import api as volume_api
from tests.unit import journals
from tests.unit.compute import base
from tests.unit.compute import volumes as volumes_lib


class VolumeBackedTestCase(base.ManagerTestCase):
    """An instance on two volumes; real images, a real journal."""

    def setUp(self):
        super().setUp()
        for owner, name, value in (
            (progress_lib, 'POLL_INTERVAL', 0.01),
            (volume_requests, 'QUICK_INTERVAL', 0.01),
            (volume_snapshots, 'SETTLE_TIMEOUT', 1),
        ):
            patcher = mock.patch.object(owner, name, value)
            patcher.start()
            self.addCleanup(patcher.stop)
        self.volumes = volumes_lib.MemoryVolumes()
        self.volumes.events = self.driver.events
        self.driver.devices = (
            volumes_lib.device(),
            volumes_lib.device('vdb', None),
            volumes_lib.device('vdc', volumes_lib.DATA),
        )
        self.use(self.volumes)

    def use(self, volumes, **options):
        """Make the manager, with these volumes."""
        self.manager = manager_lib.SnapshotManager(
            self.driver,
            self.journal,
            self.locks,
            cancel_check_interval=0.05,
            volume_backed=volume_backed.VolumeBacked(
                self.driver,
                volumes,
                volume_moment.Options(
                    **{'snapshot_timeout': 5, 'frozen_timeout': 5, **options}
                ),
            ),
        )

    def assert_nothing(self):
        """No snapshot, no record, no entry; whatever was frozen thawed."""
        self.assertEqual({}, self.volumes.made)
        self.assertEqual([], list(self.images.list()))
        self.assertEqual([], list(self.journal.entries()))
        events = self.driver.events
        self.assertEqual(events.count('freeze'), events.count('thaw'))


class SnapshotTest(VolumeBackedTestCase):
    def test_snapshots_and_record(self):
        image = self.snapshot(color='blue')
        self.assertEqual(('active', 0), (image.status, image.size))
        mapping = json.loads(image.properties['block_device_mapping'])
        made = [self.volumes.made[e['snapshot_id']] for e in mapping]
        self.assertEqual(
            [volumes_lib.ROOT, volumes_lib.DATA],
            [snapshot.volume_id for snapshot in made],
        )
        self.assertEqual(['snapshot for backup'] * 2, self.volumes.names)
        self.assertEqual(
            'base',
            self.volumes.volumes[volumes_lib.ROOT].image_metadata[
                'image_name'
            ],
        )
        self.assertEqual('blue', image.properties['color'])

    def test_frozen_until_all_are_taken(self):
        self.snapshot()
        first, *between, last = self.driver.events
        self.assertEqual(('freeze', 'thaw'), (first, last))
        self.assertEqual(
            ['available', 'available', 'create', 'create'], sorted(between)
        )

    def test_all_are_asked_for_at_the_same_time(self):
        """Each is answered when both have come, or never."""
        meeting = threading.Barrier(2)
        self.volumes.on_create = lambda volume_id: meeting.wait(10)
        self.assertEqual('active', self.snapshot().status)

    def test_slow_answers_freeze_nothing(self):
        """Thawed when it is time, and the answers are waited for then."""
        self.volumes.on_create = lambda volume_id: self.until('thaw')
        self.use(self.volumes, frozen_timeout=0.1)
        self.assertEqual('active', self.snapshot().status)
        self.assertEqual(['freeze', 'thaw'], self.driver.events[:2])
        self.assertIn('thawed early', self.log.output)
        self.assertIn('frozen for 0.', self.log.output)

    def test_slow_looks_freeze_nothing(self):
        look = self.volumes.snapshot

        def slow(snapshot_id, urgent=False):
            if urgent:
                self.until('thaw')
            return look(snapshot_id)

        self.use(self.volumes, frozen_timeout=0.5)
        with mock.patch.object(self.volumes, 'snapshot', slow):
            self.assertEqual('active', self.snapshot().status)
        self.assertEqual('thaw', self.driver.events[3])

    def test_nobody_looks_in_a_hurry_after_the_thaw(self):
        look = self.volumes.snapshot
        late = []

        def count(snapshot_id, urgent=False):
            if urgent and 'thaw' in self.driver.events:
                late.append(snapshot_id)
            return look(snapshot_id)

        self.volumes.looks = 60
        self.use(self.volumes, frozen_timeout=0.1)
        with mock.patch.object(self.volumes, 'snapshot', count):
            self.assertEqual('active', self.snapshot().status)
        # No more than what each thread had begun.
        self.assertLessEqual(len(late), 2)

    def until(self, event):
        """Wait until this was done; whoever waits for us fails instead."""
        deadline = time.monotonic() + 10
        while event not in self.driver.events:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)

    def test_not_frozen_and_not_waited_for(self):
        self.driver.freezes = False
        self.snapshot()
        self.assertEqual(
            ['freeze', 'create', 'create', 'thaw', 'available', 'available'],
            self.driver.events,
        )

    def test_thawed_after_the_requests_if_so_configured(self):
        self.use(self.volumes, frozen_timeout=0)
        self.snapshot()
        self.assertEqual('thaw', self.driver.events[3])

    def test_thawed_early_when_it_takes_too_long(self):
        self.volumes.looks = 20
        self.use(self.volumes, frozen_timeout=0.1)
        self.assertEqual('active', self.snapshot().status)
        events = self.driver.events
        self.assertLess(events.index('thaw'), events.index('available'))
        self.assertIn('thawed early', self.log.output)

    def test_not_thawed_early_where_quiesce_is_required(self):
        self.volumes.volumes[volumes_lib.ROOT] = volumes_lib.volume(
            image_metadata={'os_require_quiesce': 'true'}
        )
        self.volumes.looks = 20
        self.use(self.volumes, frozen_timeout=0.1)
        error = self.failure(exception.QuiesceNotPossible)
        self.assertIn('frozen_timeout', str(error))
        self.assert_nothing()

    def test_quiesce_is_required_and_nothing_is_waited_for(self):
        self.volumes.volumes[volumes_lib.ROOT] = volumes_lib.volume(
            image_metadata={'os_require_quiesce': 'true'}
        )
        self.use(self.volumes, frozen_timeout=0)
        error = self.failure(exception.QuiesceNotPossible)
        self.assertIn('frozen_timeout is 0', str(error))
        self.assertEqual(['freeze', 'thaw'], self.driver.events)
        self.assert_nothing()
        # A guest that does not run needs not be frozen.
        self.driver.freezes = False
        self.progress = progress_lib.Progress('web')
        self.assertEqual('active', self.snapshot().status)

    def test_a_look_that_fails_while_frozen_is_no_failure(self):
        look = self.volumes.snapshot

        def fail(snapshot_id, urgent=False):
            if urgent:
                raise exception.VolumeServiceUnavailable(
                    endpoint='here', reason='busy'
                )
            return look(snapshot_id)

        with mock.patch.object(self.volumes, 'snapshot', fail):
            self.assertEqual('active', self.snapshot().status)
        self.assertEqual('thaw', self.driver.events[3])

    def test_an_instance_of_an_image_is_none_of_it(self):
        self.driver.devices = (
            volumes_lib.device(volume_id=None),
            volumes_lib.device('vdb', volumes_lib.DATA),
        )
        self.assertEqual(len(base.DATA), self.snapshot().size)
        self.assertEqual({}, self.volumes.made)


class RefusedTest(VolumeBackedTestCase):
    """What is found out before anything is made."""

    def refused(self, category):
        error = self.failure(category)
        self.assertEqual([], self.driver.events)
        self.assert_nothing()
        return str(error)

    def test_no_cinder(self):
        self.use(None)
        message = self.refused(exception.UnsupportedGuest)
        self.assertIn('[cinder]', message)
        self.assertIn(volumes_lib.ROOT, message)

    def test_volume_in_a_file(self):
        self.driver.devices = (
            volumes_lib.device(),
            volumes_lib.device('vdb', volumes_lib.DATA, in_file=True),
        )
        message = self.refused(exception.UnsupportedGuest)
        self.assertIn(volumes_lib.DATA, message)
        self.assertIn('Nova', message)

    def test_quota(self):
        self.volumes.quota = volume_api.SnapshotQuota(used=9, limit=10)
        self.assertIn('9 of 10', self.refused(exception.VolumeQuotaExceeded))
        self.volumes.quota = volume_api.SnapshotQuota(used=8, limit=10)
        self.assertEqual('active', self.snapshot().status)

    def test_volume_that_does_not_exist(self):
        self.volumes.volumes.clear()
        self.refused(exception.VolumeNotFound)

    def test_quiesce_not_possible(self):
        self.driver.plan_error = exception.QuiesceNotPossible(
            server='web', reason='no agent'
        )
        self.refused(exception.QuiesceNotPossible)
        self.assertEqual('scsi', self.driver.image_properties['hw_disk_bus'])


class FailureTest(VolumeBackedTestCase):
    """What goes wrong on the way leaves nothing."""

    def second(self, error):
        """Raise this when the snapshot of the second volume is asked for."""

        def fail(volume_id):
            if volume_id == volumes_lib.DATA:
                raise error

        return fail

    def test_refused(self):
        error = exception.VolumeConflict(what='volume', reason='no')
        self.volumes.on_create = self.second(error)
        self.assertIs(error, self.failure(exception.VolumeConflict))
        self.assert_nothing()

    def test_refused_in_the_queue(self):
        """What was not sent yet is not sent any more."""
        error = exception.VolumeConflict(what='volume', reason='no')
        self.volumes.on_create = mock.Mock(side_effect=error)
        with mock.patch.object(volume_requests, 'AT_ONCE', 1):
            self.failure(exception.VolumeConflict)
        self.volumes.on_create.assert_called_once()
        self.assert_nothing()

    def test_answer_comes_when_all_is_over(self):
        """A request that is on its way is waited for, and undone."""
        self.volumes.volumes[volumes_lib.ROOT] = volumes_lib.volume(
            image_metadata={'os_require_quiesce': 'true'}
        )
        self.volumes.on_create = lambda volume_id: time.sleep(0.5)
        self.use(self.volumes, frozen_timeout=0.1)
        self.failure(exception.QuiesceNotPossible)
        self.assertEqual(2, self.driver.events.count('create'))
        self.assert_nothing()

    def test_answer_is_lost(self):
        """The snapshot exists, and its id was never heard of."""
        self.volumes.after_create = self.second(
            exception.VolumeServiceUnavailable(endpoint='here', reason='cut')
        )
        self.failure(exception.VolumeServiceUnavailable)
        self.assertEqual(2, self.driver.events.count('create'))
        self.assert_nothing()

    def test_snapshot_comes_after_the_error(self):
        lookup = self.volumes.snapshots
        looks = []

        def late(volume_id, metadata):
            looks.append(volume_id)
            if len(looks) == 5:
                self.volumes.on_create = lambda volume_id: None
                self.volumes.create_snapshot(
                    volumes_lib.DATA, 'late', None, metadata
                )
            return lookup(volume_id, metadata)

        self.volumes.on_create = self.second(
            exception.VolumeServiceUnavailable(endpoint='here', reason='slow')
        )
        with mock.patch.object(self.volumes, 'snapshots', late):
            self.failure(exception.VolumeServiceUnavailable)
        self.assertIn('late', self.volumes.names)
        self.assert_nothing()

    def test_snapshot_in_error(self):
        self.volumes.end = volume_api.SnapshotStatus.ERROR
        error = self.failure(exception.VolumeSnapshotFailed)
        self.assertEqual(volumes_lib.ROOT, error.volume_id)
        self.assertIn('no room', str(error))
        self.assert_nothing()
        self.volumes.reason = None
        # The watcher of the first may still see that its image is gone.
        self.progress = progress_lib.Progress('web')
        error = self.failure(exception.VolumeSnapshotFailed)
        self.assertIn('see its log', str(error))

    def test_snapshot_takes_too_long(self):
        self.use(self.volumes, snapshot_timeout=0.05, frozen_timeout=0)
        self.volumes.looks = 10
        error = self.failure(exception.VolumeSnapshotFailed)
        self.assertIn('snapshot_timeout', str(error))
        self.assert_nothing()

    def test_image_service_refuses_the_properties(self):
        error = exception.ImageRejected(image_id='i', reason='no')
        with mock.patch.object(self.images, 'update', side_effect=error):
            self.failure(exception.ImageRejected)
        self.assert_nothing()

    def test_cancelled_while_it_is_waited(self):
        self.volumes.looks = 1000
        self.volumes.after_create = lambda _id: self.progress.cancel('enough')

        def delete(volume_id, metadata):
            self.volumes.looks = 1
            return lookup(volume_id, metadata)

        lookup = self.volumes.snapshots
        with mock.patch.object(self.volumes, 'snapshots', delete):
            self.failure(exception.SnapshotCancelled)
        self.assert_nothing()

    def test_snapshot_that_cannot_be_deleted_stays_owed(self):
        self.volumes.end = volume_api.SnapshotStatus.ERROR
        self.volumes.delete_snapshot = self.leave
        self.failure(exception.VolumeSnapshotFailed)
        (entry,) = self.journal.entries()
        self.assertEqual((volume_snapshots.DeleteSnapshots.kind,), entry.kinds)
        # It is in nobody's way.
        self.progress = progress_lib.Progress('web')
        self.volumes.end = volume_api.SnapshotStatus.AVAILABLE
        self.assertEqual('active', self.snapshot().status)

    def leave(self, snapshot_id):
        self.volumes.made[snapshot_id] = volume_api.Snapshot(
            snapshot_id,
            self.volumes.made[snapshot_id].volume_id,
            volume_api.SnapshotStatus.ERROR_DELETING,
            self.volumes.made[snapshot_id].metadata,
        )


class RecoveryTest(VolumeBackedTestCase):
    """A later process finds the entry of one that was killed."""

    def leave_behind(self, status, **written):
        image = image_api.Image(id=base.BASE_ID, name='half', status='queued')

        journals.leave(
            self.journal_directory,
            base.INSTANCE.uuid,
            'web',
            image_upload.RemoveRecord(image.id),
            volume_snapshots.DeleteSnapshots(
                image.id, [volumes_lib.ROOT, volumes_lib.DATA], **written
            ),
        )
        self.images.create(image)
        self.volumes.create_snapshot(
            volumes_lib.DATA,
            'half',
            None,
            {volume_snapshots.IMAGE_ID: image.id},
        )
        if status == 'active':
            self.images.upload(image.id, io.BytesIO(), 0, self.progress)

    def test_deletes_what_no_image_names(self):
        self.volumes.create_snapshot(
            volumes_lib.ROOT, 'of another', None, {'a': 'b'}
        )
        self.leave_behind('queued')
        (recovery,) = self.recover()
        self.assertEqual((), recovery.left)
        (left,) = self.volumes.made.values()
        self.assertEqual({'a': 'b'}, left.metadata)
        self.assertEqual([], list(self.images.list()))

    def test_leaves_what_an_active_image_names(self):
        self.leave_behind('active')
        (recovery,) = self.recover()
        self.assertEqual((), recovery.left)
        self.assertEqual(1, len(self.volumes.made))
        self.assertEqual(1, len(list(self.images.list())))

    def test_active_image_needs_no_login_to_its_project(self):
        self.leave_behind('active', project_id='theirs')
        (recovery,) = self.recover()
        self.assertEqual((), recovery.left)
        self.assertEqual(1, len(self.volumes.made))

    def test_login_of_another_project_leaves_them_owed(self):
        self.leave_behind('queued', project_id='ours')
        self.volumes.project = 'theirs'
        (recovery,) = self.recover()
        self.assertEqual(
            (volume_snapshots.DeleteSnapshots.kind,), recovery.left
        )
        self.assertEqual(1, len(self.volumes.made))
        self.volumes.project = 'ours'
        (recovery,) = self.recover()
        self.assertEqual((), recovery.left)
        self.assertEqual({}, self.volumes.made)

    def test_without_cinder_they_stay_owed(self):
        self.leave_behind('queued')
        self.use(None)
        (recovery,) = self.recover()
        self.assertEqual(
            (volume_snapshots.DeleteSnapshots.kind,), recovery.left
        )
        self.assertEqual(1, len(list(self.journal.entries())))
        self.assertIsInstance(self.journal, journal_lib.Journal)
