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

"""Images that are made inside Ceph; here Ceph and Glance are doubles."""

from typing import Any

from nova import exception as nova_exception

from nova_snap.nova import direct
from nova_snap.objects import task_state
from tests.nova import base

LOCATION = 'rbd://fsid/images/the-image/snap'
METADATA = {'disk_format': 'raw', 'name': 'backup', 'properties': {}}


class RootDisk:
    """Nova's image backend; ``error`` is what stands in the way."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.removed: list[Any] = []

    def direct_snapshot(self, *_arguments: Any) -> str:
        if self.error is not None:
            raise self.error
        return LOCATION

    def cleanup_direct_snapshot(self, location: Any, **_options: Any) -> None:
        self.removed.append(location)


class Images:
    """Nova's image API."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.updates: list[dict[str, Any]] = []

    def update(
        self,
        _context: Any,
        _image_id: str,
        metadata: dict[str, Any],
        purge_props: bool,
    ) -> None:
        if self.error is not None:
            raise self.error
        self.updates.append(metadata)


class DirectTest(base.NovaTestCase):
    """Taken, not possible, or failed."""

    def setUp(self) -> None:
        super().setUp()
        self.states: list[task_state.TaskState] = []

    def take(self, disk: RootDisk, images: Images) -> bool:
        """Try it."""
        return direct.DirectSnapshot(disk, images).take(
            None, self.instance(), 'the-image', METADATA, self.states.append
        )

    def test_taken(self) -> None:
        disk, images = RootDisk(), Images()
        self.assertTrue(self.take(disk, images))
        self.assertEqual([{**METADATA, 'location': LOCATION}], images.updates)
        self.assertEqual([], disk.removed)
        self.assertEqual(
            ['image_pending_upload', 'image_uploading'], self.states
        )

    def test_not_possible(self) -> None:
        for error in (
            NotImplementedError(),
            nova_exception.Forbidden(),
            nova_exception.ImageUnacceptable(image_id='i', reason='r'),
        ):
            disk, images = RootDisk(error), Images()
            self.assertFalse(self.take(disk, images))
            self.assertEqual([], images.updates)
            self.assertEqual([None], disk.removed)

    def test_glance_takes_no_locations(self) -> None:
        disk = RootDisk()
        images = Images(nova_exception.ImageNotAuthorized(image_id='i'))
        self.assertFalse(self.take(disk, images))
        self.assertEqual([{'url': LOCATION}], disk.removed)

    def test_image_was_deleted(self) -> None:
        disk = RootDisk()
        images = Images(nova_exception.ImageNotFound(image_id='the-image'))
        self.assertRaises(
            nova_exception.ImageNotFound, self.take, disk, images
        )
        self.assertEqual([{'url': LOCATION}], disk.removed)
