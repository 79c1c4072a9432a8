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

"""Servers that boot from volumes, and deleting images, by the command."""

import json
import re

from nova_snap.image import api as image_api
from nova_snap.image import filesystem
from tests.unit.cmd import base

VOLUME = '2f0c3bd5-1b7a-4f4e-9d0e-52f6a7f2f2a9'
IMAGE = '44444444-1b7a-4f4e-9d0e-52f6a7f2f2a9'
CINDER = {'auth_type': 'none', 'endpoint_template': 'http://127.0.0.1:9/v3'}


class VolumeBackedTest(base.CommandTestCase):
    """What can be told without a Cinder."""

    def setUp(self) -> None:
        super().setUp()
        self.guests = [
            re.sub(
                r"<source file='[^']*'",
                f"<source file='/volumes/volume-{VOLUME}'",
                guest.replace('</disk>', f'<serial>{VOLUME}</serial></disk>'),
            )
            for guest in self.guests
        ]

    def check_all(self, status: int, text: str) -> None:
        self.check_failure(status, text, 'explain', 'web')
        self.check_failure(status, text, 'image-create', 'web', 'backup')
        self.assertEqual([], self.files())

    def test_no_cinder(self) -> None:
        self.check_all(2, f'it boots from volume {VOLUME}')

    def test_volume_in_a_file(self) -> None:
        self.options['cinder'] = CINDER
        self.check_all(2, 'is a file of this host')


class DeleteTest(base.CommandTestCase):
    """image-delete."""

    def setUp(self) -> None:
        super().setUp()
        self.images = filesystem.FilesystemImageService(
            self.state / 'state' / 'images'
        )
        (self.state / 'state').mkdir()
        self.images.create(image_api.Image(IMAGE, 'backup', 'queued'))

    def test_by_name(self) -> None:
        found = self.run_command('image-delete', 'backup', '-f', 'json')
        self.assertEqual(0, found.status, found.errors)
        self.assertEqual([], json.loads(found.output))
        self.assertEqual([], list(self.images.list()))

    def test_unknown(self) -> None:
        self.check_failure(3, 'does not exist', 'image-delete', 'nothing')

    def test_snapshots_without_cinder(self) -> None:
        self.check_failure(
            2, '[cinder]', 'image-delete', '--with-snapshots', 'backup'
        )
        self.assertEqual(1, len(list(self.images.list())))

    def test_image_that_names_no_snapshots(self) -> None:
        self.options['cinder'] = CINDER
        found = self.run_command(
            'image-delete', '--with-snapshots', 'backup', '-f', 'json'
        )
        self.assertEqual(0, found.status, found.errors)
        self.assertEqual([], list(self.images.list()))
