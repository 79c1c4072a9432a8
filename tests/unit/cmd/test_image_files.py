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

"""Images of files, and files of images, by the command."""

import json
import os
import pathlib
import subprocess
from typing import Any

from tests.unit.cmd import base

#: A hole, data, a hole that ends between two blocks.
CONTENT = bytes(1 << 20) + os.urandom(100_000) + bytes(1_000_000)


class FileTestCase(base.CommandTestCase):
    """A folder with a file in it."""

    def setUp(self) -> None:
        super().setUp()
        self.work = self.folder()
        self.file = self.work / 'disk.img'
        self.file.write_bytes(CONTENT)

    def created(self, path: pathlib.Path, disk_format: str = 'raw') -> Any:
        """Make an image of a file; return all of its fields."""
        found = self.run_command(
            *('image-create', '--file', path, '--disk-format', disk_format),
            *('--show', 'disk', '-f', 'json'),
        )
        self.assertEqual(0, found.status, found.errors)
        return json.loads(found.output)

    def assert_fails(self, status: int, says: str, *words: object) -> None:
        """Check that a command fails, and leaves nothing."""
        before = set(self.work.iterdir())
        found = self.run_command(*words)
        self.assertEqual(status, found.status, found.errors)
        self.assertIn(says, found.errors)
        self.assertEqual(before, set(self.work.iterdir()))
        self.assertEqual([], list((self.state / 'state').glob('journal/*')))

    def qcow2(self, name: str, *options: str) -> pathlib.Path:
        path = self.work / name
        subprocess.run(
            ['qemu-img', 'create', '-q', '-f', 'qcow2', *options, path, '1G'],
            check=True,
        )
        return path


class CreateTest(FileTestCase):
    """``image-create --file``."""

    def test_record_and_data(self) -> None:
        image = self.created(self.file)
        stored = self.state / 'state' / 'images' / image['id']
        self.assertEqual(CONTENT, stored.read_bytes())
        self.assertLess(stored.stat().st_blocks * 512, 300_000)
        self.assertEqual('active', image['status'])
        self.assertEqual(('raw', 1), (image['disk_format'], image['min_disk']))
        self.assertNotIn('instance_uuid', image)

    def test_refused(self) -> None:
        create = ('image-create', '--file')
        raw = ('--disk-format', 'raw')
        qcow2 = ('--disk-format', 'qcow2')
        overlay = self.qcow2('o', '-b', str(self.file), '-F', 'raw')
        other = self.qcow2('d', '-o', f'data_file={self.work}/data')
        for status, says, words in (
            (2, '--disk-format is needed', (self.file, 'a')),
            (2, 'only a NAME', (self.file, *raw, 'db', 'a')),
            (2, 'No such file', (self.work / 'none', *raw, 'a')),
            (2, 'no regular file', (self.work, *raw, 'a')),
            (1, 'not qcow2', (self.file, *qcow2, 'a')),
            (1, 'cannot become', (overlay, *qcow2, 'a')),
            (1, 'cannot become', (other, *qcow2, 'a')),
            (1, 'qcow2', (self.qcow2('q'), *raw, 'a')),
            (2, 'name', (self.file, *raw, ' ')),
        ):
            self.assert_fails(status, says, *create, *words)
        self.assert_fails(2, 'needed', 'image-create', 'db')
        self.assertEqual([], list((self.state / 'state').glob('images/*-*')))

    def test_disk_that_is_too_large(self) -> None:
        self.options['snapshot']['max_image_disk_gb'] = 1
        self.created(self.qcow2('fits'), 'qcow2')
        large = self.work / 'large'
        large.write_bytes(b'')
        os.truncate(large, (1 << 30) + 1)
        words = ('image-create', '--file', large, '--disk-format', 'raw', 'a')
        self.assert_fails(1, 'max_image_disk_gb', *words)


class SaveTest(FileTestCase):
    """``image-save``."""

    def test_the_same_and_sparse(self) -> None:
        image, target = self.created(self.file)['id'], self.work / 'saved'
        found = self.run_command('image-save', image, '-o', target)
        self.assertEqual(0, found.status, found.errors)
        self.assertEqual(CONTENT, target.read_bytes())
        self.assertLess(target.stat().st_blocks * 512, 300_000)
        self.assertEqual(0o600, target.stat().st_mode & 0o777)

    def test_file_that_exists_stays(self) -> None:
        image, target = self.created(self.file)['id'], self.work / 'saved'
        target.write_text('mine')
        self.assert_fails(4, 'exists', 'image-save', image, '-o', target)
        self.assertEqual('mine', target.read_text())
        link = self.work / 'link'
        link.symlink_to(self.work / 'nowhere')
        self.assert_fails(4, 'exists', 'image-save', image, '-o', link)

    def test_data_that_has_changed(self) -> None:
        image, target = self.created(self.file)['id'], self.work / 'saved'
        stored = self.state / 'state' / 'images' / image
        for data, says in (
            (b'x' + CONTENT[1:], 'sha512 hash'),
            (CONTENT[:-1], 'the size'),
            (CONTENT + b'x', 'at least'),
        ):
            stored.write_bytes(data)
            self.assert_fails(1, says, 'image-save', image, '-o', target)

    def test_no_such_image(self) -> None:
        self.assert_fails(3, 'exist', 'image-save', 'x', '-o', self.work / 's')
