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


"""The folder that an operator names may hold what is not ours."""

import io
import json
import os
import pathlib
import uuid

from nova_snap import exception
from nova_snap import progress
from nova_snap.image import api
from nova_snap.image import filesystem
from nova_snap.image import store_folder
from tests.unit import base

GLANCE_IMAGE = str(uuid.uuid4())


class StoreFolderTestCase(base.TestCase):
    """A folder that was there before."""

    def setUp(self) -> None:
        super().setUp()
        self.directory = self.folder() / 'images'
        self.directory.mkdir()

    @property
    def service(self) -> filesystem.FilesystemImageService:
        """A service as a new process has it."""
        return filesystem.FilesystemImageService(self.directory)

    def files(self) -> set[str]:
        """Names of the files in the folder, without the mark."""
        return set(os.listdir(self.directory)) - {store_folder.MARK}

    def put(self, name: str, text: str = 'x') -> pathlib.Path:
        """Write a file into the folder."""
        path = self.directory / name
        path.write_text(text)
        return path

    def image(self) -> str:
        """Make an active image; return its id."""
        image_id = str(uuid.uuid4())
        self.service.create(api.Image(image_id, 'n', 'queued'))
        self.service.upload(
            image_id, io.BytesIO(b'data'), 4, progress.Progress()
        )
        return image_id

    def names(self) -> list[str]:
        """Return the ids of the images that are listed."""
        return [image.id for image in self.service.list()]


class ForeignFolderTest(StoreFolderTestCase):
    """A folder with files of others, such as Glance's own store."""

    def check_refused(self, name: str) -> None:
        """Nothing begins, and nothing is removed or made."""
        before = set(os.listdir(self.directory))
        record = api.Image(str(uuid.uuid4()), 'n', 'queued')
        for call in (
            lambda: self.service.create(record),
            lambda: self.service.delete(GLANCE_IMAGE),
            lambda: self.service.get(GLANCE_IMAGE),
            lambda: list(self.service.list()),
        ):
            error = self.assertRaises(exception.InvalidConfiguration, call)
            self.assertIn('filesystem_store_datadir', str(error))
            self.assertIn(str(self.directory), str(error))
            self.assertIn(name, str(error))
        self.assertEqual(before, set(os.listdir(self.directory)))

    def test_images_of_glance_stay(self) -> None:
        self.put(GLANCE_IMAGE)
        self.check_refused(GLANCE_IMAGE)

    def test_other_files(self) -> None:
        self.put('notes.json', '[]')
        self.check_refused('notes.json')

    def test_json_that_is_no_record(self) -> None:
        self.put(f'{GLANCE_IMAGE}.json', '{}')
        self.check_refused(GLANCE_IMAGE)

    def test_images_that_glance_adds_later_stay(self) -> None:
        mine = self.image()
        self.put(GLANCE_IMAGE)
        self.assertEqual([mine], self.names())
        self.service.delete(GLANCE_IMAGE)
        record = api.Image(GLANCE_IMAGE, 'n', 'queued')
        self.assertRaises(exception.ImageConflict, self.service.create, record)
        self.service.delete(mine)
        self.assertEqual({GLANCE_IMAGE}, self.files())


class OwnFolderTest(StoreFolderTestCase):
    """Folders that are this service's."""

    def test_empty_folder_gets_the_mark(self) -> None:
        self.assertEqual([], self.names())
        self.assertEqual([store_folder.MARK], os.listdir(self.directory))

    def test_folder_that_is_missing_gets_the_mark(self) -> None:
        self.directory.rmdir()
        self.assertEqual([], self.names())
        self.assertEqual([store_folder.MARK], os.listdir(self.directory))

    def test_topmost_folder_of_a_file_system(self) -> None:
        (self.directory / 'lost+found').mkdir()
        self.assertEqual([], self.names())

    def test_folder_of_an_earlier_release(self) -> None:
        image_id = self.image()
        (self.directory / store_folder.MARK).unlink()
        self.put('notes.json', '[]')
        self.put(GLANCE_IMAGE)
        self.assertEqual([image_id], self.names())
        self.assertTrue((self.directory / store_folder.MARK).exists())
        self.assertEqual(
            {image_id, f'{image_id}.json', 'notes.json', GLANCE_IMAGE},
            self.files(),
        )

    def test_what_a_killed_deletion_left_is_removed(self) -> None:
        image_id = self.image()
        record = self.directory / f'{image_id}.json'
        record.rename(self.directory / f'{image_id}.json.deleted')
        self.assertEqual([], self.names())
        self.assertEqual(set(), self.files())

    def test_what_a_killed_activation_left_is_removed(self) -> None:
        image_id = self.image()
        record = self.directory / f'{image_id}.json'
        fields = json.loads(record.read_text()) | {'status': 'queued'}
        record.write_text(json.dumps(fields))
        self.assertEqual([image_id], self.names())
        self.assertEqual({f'{image_id}.json'}, self.files())


class StrayFileTest(StoreFolderTestCase):
    """Files that are no records, among records."""

    def setUp(self) -> None:
        super().setUp()
        self.image_id = self.image()

    def check_works(self) -> None:
        """Check that the image is listed, shown, and deleted."""
        self.assertEqual([self.image_id], self.names())
        self.assertEqual('n', self.service.get(self.image_id).name)
        self.assertEqual(self.image_id, api.find(self.service, 'n').id)
        self.service.delete(self.image_id)
        self.assertEqual([], self.names())

    def test_name_that_is_no_id(self) -> None:
        self.put('notes.json', '[]')
        self.check_works()
        self.assertEqual({'notes.json'}, self.files())

    def test_unreadable_record(self) -> None:
        for text in (
            '{',
            '[]',
            '{}',
            '[' * 100000,
            '{"id": 1, "status": 2}',
            json.dumps({'id': GLANCE_IMAGE, 'status': 'a', 'created_at': 1}),
            json.dumps({'id': self.image_id, 'status': 'active'}),
        ):
            self.put(f'{GLANCE_IMAGE}.json', text)
            self.assertEqual([self.image_id], self.names())
            self.assertIn(GLANCE_IMAGE, self.log.output)
            error = self.assertRaises(
                exception.ImageServiceUnavailable,
                self.service.get,
                GLANCE_IMAGE,
            )
            self.assertIn(f'{GLANCE_IMAGE}.json', str(error))
        self.check_works()
        self.service.delete(GLANCE_IMAGE)
        self.assertEqual(set(), self.files())

    def test_other_kinds_of_files(self) -> None:
        for suffix in ('.json', '.json.tmp', '.upload', '', '.json.deleted'):
            for make in (os.mkdir, os.mkfifo):
                make(self.directory / f'{uuid.uuid4()}{suffix}')
        self.check_works()
        self.assertEqual(10, len(self.files()))
