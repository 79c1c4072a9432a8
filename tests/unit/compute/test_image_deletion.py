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

import dataclasses
from unittest import mock

from nova_snap import exception
from nova_snap.compute import image_deletion
from nova_snap.compute.volume_backed import record as volume_record
from nova_snap.compute.volume_backed import snapshots as volume_snapshots
from nova_snap.image import api as image_api
from nova_snap.image import filesystem
from nova_snap.volume import api as volume_api
from tests.unit import base
from tests.unit.compute import volumes as volumes_lib
from tests.unit.compute.volume_backed import test_record as test_volume_record


class DeleteTest(base.TestCase):
    """An image that names two snapshots."""

    def setUp(self):
        super().setUp()
        self.images = filesystem.FilesystemImageService(self.folder())
        self.volumes = volumes_lib.MemoryVolumes()
        self.volumes.looks = 1
        ids = [
            self.volumes.create_snapshot(volume_id, 'x', None, {}).id
            for volume_id in (volumes_lib.ROOT, volumes_lib.DATA)
        ]
        for snapshot_id in ids:
            self.volumes.made[snapshot_id] = dataclasses.replace(
                self.volumes.made[snapshot_id], project_id='ours'
            )
        mapping = volume_record.mapping(test_volume_record.ATTACHED, ids)
        self.root, self.data = ids
        self.image = self.images.create(
            image_api.Image(
                '2f0c3bd5-1b7a-4f4e-9d0e-52f6a7f2f2a9',
                'backup',
                'queued',
                'raw',
                'bare',
                owner='ours',
                properties=mapping,
            )
        )

    def delete(self, timeout=1):
        found = list(
            image_deletion.delete(
                self.images, self.volumes, self.image, timeout
            )
        )
        self.assertEqual([], list(self.images.list()))
        self.assertEqual(
            [self.root, self.data], [outcome.snapshot_id for outcome in found]
        )
        return found

    def assert_stays(self, outcome, text):
        self.assertIn(text, outcome.text)
        self.assertTrue(outcome.stays)

    def assert_deleted(self, outcome):
        self.assertEqual(('deleted', False), (outcome.text, outcome.stays))

    def test_all(self):
        for outcome in self.delete():
            self.assert_deleted(outcome)
        self.assertEqual({}, self.volumes.made)

    def test_one_that_is_gone_or_hidden(self):
        """Cinder says the same of both, so neither do we say "deleted"."""
        del self.volumes.made[self.root]
        root, data = self.delete()
        self.assertIn('hidden from this login', root.text)
        self.assertFalse(root.stays)
        self.assert_deleted(data)

    def test_one_of_another_project_stays(self):
        """An image names what whoever may change it has written."""
        made = self.volumes.made
        self.image = dataclasses.replace(self.image, owner='theirs')
        made[self.root] = dataclasses.replace(
            made[self.root], project_id='ours'
        )
        made[self.data] = dataclasses.replace(
            made[self.data], project_id='theirs'
        )
        root, data = self.delete()
        self.assert_stays(root, 'belongs to project ours')
        self.assert_deleted(data)
        self.assertEqual([self.root], list(made))

    def test_one_of_an_unknown_project_stays(self):
        unknown = dataclasses.replace(
            self.volumes.made[self.root], project_id=None
        )
        self.volumes.made[self.root] = unknown
        root, data = self.delete()
        self.assert_stays(root, 'belongs to an unknown project')
        self.assert_deleted(data)

    def test_all_stay_if_the_project_of_the_image_is_unknown(self):
        self.image = dataclasses.replace(self.image, owner=None)
        for outcome in self.delete():
            self.assert_stays(outcome, 'the image to an unknown project')
        self.assertEqual(2, len(self.volumes.made))

    def test_one_that_was_made_for_the_image_goes(self):
        """Whatever the project of the login in [cinder] is."""
        self.image = dataclasses.replace(self.image, owner='ours')
        mark = {volume_snapshots.IMAGE_ID: self.image.id}
        self.volumes.made[self.root] = dataclasses.replace(
            self.volumes.made[self.root], project_id='service', metadata=mark
        )
        root, _data = self.delete()
        self.assert_deleted(root)

    def test_one_in_use_stays(self):
        user = volumes_lib.volume('user', snapshot_id=self.root)
        self.volumes.volumes['user'] = user
        root, data = self.delete()
        self.assert_stays(root, 'in use by volume user')
        self.assert_deleted(data)
        self.assertEqual([self.root], list(self.volumes.made))

    def test_one_that_cinder_keeps(self):
        with mock.patch.object(self.volumes, 'delete_snapshot'):
            root, _data = self.delete()
        self.assert_stays(root, 'it is available')

    def test_one_that_takes_too_long(self):
        def begin(snapshot_id):
            self.volumes.made[snapshot_id] = dataclasses.replace(
                self.volumes.made[snapshot_id],
                status=volume_api.SnapshotStatus.DELETING,
            )

        with mock.patch.object(self.volumes, 'delete_snapshot', begin):
            root, _data = self.delete(timeout=0)
        self.assert_stays(root, 'has not deleted it')

    def test_one_that_is_refused_keeps_no_other(self):
        error = exception.VolumeConflict(what='it', reason='because')
        delete = self.volumes.delete_snapshot

        def refuse(snapshot_id):
            if snapshot_id == self.root:
                raise error
            delete(snapshot_id)

        with mock.patch.object(self.volumes, 'delete_snapshot', refuse):
            root, data = self.delete()
        self.assert_stays(root, 'because')
        self.assert_deleted(data)

    def test_cinder_is_away(self):
        """The record is gone, so only the rows name what is left."""
        away = exception.VolumeServiceUnavailable(endpoint='c', reason='gone')
        for name in ('snapshot', 'volumes_of_snapshot', 'delete_snapshot'):
            with mock.patch.object(self.volumes, name, side_effect=away):
                for outcome in self.delete():
                    self.assert_stays(outcome, 'gone')
            self.images.create(self.image)
        self.assertEqual(2, len(self.volumes.made))

    def test_interrupted(self):
        with mock.patch.object(
            self.volumes, 'delete_snapshot', side_effect=KeyboardInterrupt
        ):
            self.assertRaises(KeyboardInterrupt, self.delete)
        for snapshot_id in (self.root, self.data):
            self.assertIn(snapshot_id, self.log.output)

    def test_nothing_is_deleted_that_cannot_be_read(self):
        self.images.update(
            self.image.id, properties={'block_device_mapping': '{'}
        )
        self.image = self.images.get(self.image.id)
        self.assertRaises(
            exception.Invalid,
            list,
            image_deletion.delete(self.images, self.volumes, self.image),
        )
        self.assertEqual([self.image], list(self.images.list()))
        self.assertEqual(2, len(self.volumes.made))
