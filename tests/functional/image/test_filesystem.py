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


"""The filesystem image service on a file system that is really full."""

import io
import os
import pathlib
import subprocess
import uuid

import fixtures
import testtools

from nova_snap import exception
from nova_snap import progress
from nova_snap.image import api
from nova_snap.image import filesystem
from nova_snap.image import store_folder

MiB = 1024 * 1024


class FullDiskTest(testtools.TestCase):
    """On a tmpfs of 4 MiB; mounting it takes root, as all of libvirt does."""

    def setUp(self):
        super().setUp()
        directory = self.useFixture(fixtures.TempDir()).path
        self._run('mount', '-t', 'tmpfs', '-o', 'size=4M', 'none', directory)
        self.addCleanup(self._run, 'umount', directory)
        self.directory = pathlib.Path(directory, 'images')
        self.service = filesystem.FilesystemImageService(self.directory)

    def _run(self, *argv):
        subprocess.run(argv, check=True)

    def files(self):
        return sorted(set(os.listdir(self.directory)) - {store_folder.MARK})

    def create(self):
        return self.service.create(
            api.Image(id=str(uuid.uuid4()), name='n', status='queued')
        )

    def upload(self, image_id, size):
        return self.service.upload(
            image_id, io.BytesIO(os.urandom(size)), size, progress.Progress()
        )

    def test_data_that_does_not_fit_leaves_nothing(self):
        made = self.create()
        error = self.assertRaises(
            exception.ImageTooLarge, self.upload, made.id, 16 * MiB
        )
        self.assertIn('No space left', str(error))
        self.assertIn(str(self.directory), str(error))
        self.assertEqual([f'{made.id}.json'], self.files())
        self.assertEqual('active', self.upload(made.id, MiB).status)

    def test_no_room_for_a_record(self):
        first = self.create()
        filler = self.directory.parent / 'filler'
        with open(filler, 'wb', buffering=0) as file:
            while True:
                try:
                    file.write(bytes(4096))
                except OSError:
                    break
        self.assertRaises(exception.ImageTooLarge, self.create)
        self.assertRaises(
            exception.ImageTooLarge, self.service.update, first.id, name='m'
        )
        self.assertEqual(first, self.service.get(first.id))
        self.assertEqual([f'{first.id}.json'], self.files())
