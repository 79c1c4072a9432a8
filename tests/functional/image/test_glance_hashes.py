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

"""Comparison of sent data by the hash that Glance is configured for."""

import hashlib
import logging

import fixtures

from nova_snap import exception
from nova_snap import progress
from nova_snap.image import api
from tests.functional.image import base
from tests.lab import fault_proxy

ONLY_SIZE = 'only the size was compared'


class HashTest(base.GlanceTestCase):
    """A Glance with hashing_algorithm = sha256."""

    hash_algorithm = 'sha256'

    def setUp(self) -> None:
        super().setUp()
        self.log = self.useFixture(fixtures.FakeLogger(level=logging.WARNING))

    def send(self, image_id: str, data: bytes) -> api.Image:
        """Send data that can be read once, as a compressed stream."""
        return self.service.upload(
            image_id, base.Pipe(data), None, progress.Progress('server')
        )

    def test_stream(self) -> None:
        data = base.random_bytes(base.MiB)
        for image in self.service.list():
            self.direct().delete(image.id)
        self.assertEqual('active', self.send(self.new_image(), data).status)
        # There was no image that shows the algorithm.
        self.assertIn(ONLY_SIZE, self.log.output)
        self.log.reset_output()

        image = self.send(self.new_image(), data)
        self.assertEqual('sha256', image.hash_algorithm)
        self.assertEqual(hashlib.sha256(data).hexdigest(), image.hash_value)
        self.assertEqual('', self.log.output)

        image_id = self.new_image()
        self.lie(image_id, os_hash_value='0' * 64)
        error = self.assertRaises(
            exception.ImageCorrupt, self.send, image_id, data
        )
        self.assertEqual('sha256 hash', error.what)

    def test_images_cannot_be_listed(self) -> None:
        self.proxy.add('GET', 'sort=', fault_proxy.Answer(403), None)
        image = self.send(self.new_image(), bytes(base.MiB))
        self.assertEqual('active', image.status)
        self.assertIn(ONLY_SIZE, self.log.output)

    def test_hash_that_has_no_length(self) -> None:
        image_id = self.new_image()
        self.lie(image_id, os_hash_algo='shake_128', os_hash_value='00')
        self.upload(image_id, bytes(base.MiB))
        self.assertIn(ONLY_SIZE, self.log.output)
        self.assertIn('shake_128', self.log.output)
