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


"""Whether data in Ceph may be removed, by what the image service says."""

import dataclasses
from typing import Any

from nova_snap import exception
from nova_snap.compute import image_location
from nova_snap.image import api
from nova_snap.virt import driver
from tests.unit import base

RECORD = driver.Record('an-image', 'a-project')


class Images:
    """An image service with one image, or none, and a login."""

    def __init__(self, status: str | None, hides: bool = False) -> None:
        self._status = status
        self._hides = hides
        self.deleted: list[str] = []

    def get(self, image_id: str) -> api.Image:
        if self._status is None:
            raise exception.ImageNotFound(image_id=image_id)
        return api.Image(image_id, 'name', self._status)

    def may_hide(self, owner: str | None) -> bool:
        assert owner == RECORD.owner
        return self._hides

    def delete(self, image_id: str) -> None:
        self.deleted.append(image_id)


class SettleTest(base.TestCase):
    """The image service is a double: its statuses have to come at will."""

    def settle(self, *arguments: Any) -> tuple[bool, list[str]]:
        images: Any = Images(*arguments)
        return image_location.Records(images).settle(RECORD), images.deleted

    def test_with_data(self) -> None:
        for status in ('active', 'deactivated'):
            self.assertEqual((True, []), self.settle(status))

    def test_may_still_get_its_data(self) -> None:
        for status in ('queued', 'importing', 'saving'):
            self.assertEqual((False, ['an-image']), self.settle(status))

    def test_gone(self) -> None:
        self.assertEqual((False, []), self.settle('deleted'))
        self.assertEqual((False, []), self.settle(None))

    def test_seen_before(self) -> None:
        images: Any = Images(None, hides=True)
        record = dataclasses.replace(RECORD, is_seen=True)
        self.assertFalse(image_location.Records(images).settle(record))

    def test_hidden(self) -> None:
        error = self.assertRaises(
            exception.SnapshotFailed, self.settle, None, True
        )
        self.assertIn('hidden', str(error))
