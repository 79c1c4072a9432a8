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

from collections.abc import Mapping
import contextlib
import io
import pathlib
import types
from typing import Any

from nova import exception as nova_exception

from nova_snap import exception
from nova_snap import journal as journal_lib
from nova_snap import locks
from nova_snap import progress as progress_lib
from nova_snap import undo
from nova_snap.compute import manager
from nova_snap.image import api as image_api
from nova_snap.image import filesystem
from nova_snap.nova import direct
from nova_snap.nova import images
from nova_snap.objects import instance as instance_lib
from nova_snap.objects import task_state
from nova_snap.virt import driver as driver_lib
from tests.nova import base
from tests.unit import journals
from tests.unit.compute import base as unit_compute

RECORD = '2f0c3bd5-1b7a-4f4e-9d0e-52f6a7f2f2a9'
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
    """An image service with one record, and Glance's answer to locations."""

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


class Record(filesystem.FilesystemImageService):
    """A real record whose location goes to Nova's image API."""

    def __init__(self, directory: pathlib.Path, nova_api: Images) -> None:
        super().__init__(directory)
        self.nova_api = nova_api
        self.looks = 0

    def set_location(self, image_id: str, url: str) -> None:
        images.UserImages.set_location(
            types.SimpleNamespace(  # type: ignore[arg-type]
                _nova_api=self.nova_api,
                _context=None,
                _metadata=METADATA,
                get=self.get_later,
            ),
            image_id,
            url,
        )

    def get_later(self, image_id: str) -> image_api.Image:
        """Show it active at the third look, as Glance's task does."""
        self.looks += 1
        if self.looks == 3:
            self.upload(image_id, io.BytesIO(b''), 0, progress_lib.Progress())
        return self.get(image_id)


class Driver(unit_compute.MemoryDriver):
    """A driver whose disk is on RBD, and can be read otherwise."""

    def __init__(self, root_disk: RootDisk) -> None:
        super().__init__()
        self.source = direct.Source(root_disk, None, RECORD, 'raw', None)

    def plan(
        self,
        instance: instance_lib.Instance,
        image_properties: Mapping[str, str],
    ) -> driver_lib.Plan:
        read = super().plan
        return direct.DirectPlan(
            instance,
            (driver_lib.DiskImage('', 'raw', 0),),
            self.source,
            driver_lib.requires_quiesce(image_properties),
            lambda: read(instance, image_properties),
        )


class DirectTest(base.NovaTestCase):
    """Made inside Ceph, read otherwise, or failed; in the frame."""

    def setUp(self) -> None:
        super().setUp()
        self.states: list[task_state.TaskState] = []
        self.patch(progress_lib, 'POLL_INTERVAL', 0.01)
        self.directory = self.folder()
        self.journal = journal_lib.Journal(self.directory / 'journal')

    def take(
        self, disk: RootDisk, nova_api: Images, quiesce: bool = False
    ) -> image_api.Image:
        """Take an image, and return its record."""
        service = Record(self.directory / 'images', nova_api)
        with contextlib.suppress(exception.ImageNotFound):
            service.delete(RECORD)
        service.create(
            image_api.Image(id=RECORD, name='theirs', status='queued')
        )
        manager.SnapshotManager(
            Driver(disk),
            self.journal,
            locks.Locks(self.directory / 'locks', 0, 0),
        ).snapshot_to_record(
            unit_compute.INSTANCE,
            RECORD,
            {'os_require_quiesce': str(quiesce)},
            service,
            progress_lib.Progress(),
            self.states.append,
        )
        self.assertEqual([], list(self.journal.entries()))
        return service.get(RECORD)

    def test_taken(self) -> None:
        disk, nova_api = RootDisk(), Images()
        self.assertEqual(0, self.take(disk, nova_api).size)
        self.assertEqual(
            [{**METADATA, 'location': LOCATION}], nova_api.updates
        )
        self.assertEqual([], disk.removed)
        self.assertEqual(
            ['image_pending_upload', 'image_uploading'], self.states
        )

    def test_read_where_it_is_not_possible(self) -> None:
        for error in (
            NotImplementedError(),
            nova_exception.Forbidden(),
            nova_exception.ImageUnacceptable(image_id='i', reason='r'),
        ):
            disk, nova_api = RootDisk(error), Images()
            image = self.take(disk, nova_api)
            self.assertEqual(len(unit_compute.DATA), image.size)
            self.assertEqual([], nova_api.updates)
            self.assertEqual([], disk.removed)

    def test_read_where_the_guest_has_to_be_frozen(self) -> None:
        disk = RootDisk()
        image = self.take(disk, Images(), quiesce=True)
        self.assertEqual(len(unit_compute.DATA), image.size)
        self.assertEqual([], disk.removed)

    def test_read_where_glance_takes_no_locations(self) -> None:
        disk = RootDisk()
        nova_api = Images(nova_exception.ImageNotAuthorized(image_id='i'))
        image = self.take(disk, nova_api)
        self.assertEqual(len(unit_compute.DATA), image.size)
        self.assertEqual([{'url': LOCATION}], disk.removed)

    def test_image_was_deleted(self) -> None:
        disk = RootDisk()
        nova_api = Images(nova_exception.ImageNotFound(image_id=RECORD))
        self.assertRaises(
            nova_exception.ImageNotFound, self.take, disk, nova_api
        )
        self.assertEqual([{'url': LOCATION}], disk.removed)

    def test_killed_one_is_named_and_stays(self) -> None:
        journals.leave(
            self.directory / 'journal',
            unit_compute.INSTANCE.uuid,
            'web',
            direct.RemoveClone(RECORD, 'the-snapshot'),
        )
        service = Record(self.directory / 'images', Images())
        (entry,) = self.journal.entries()
        entry.undo_all(undo.Resources(service))
        self.assertFalse(entry.close())
        for text in (RECORD, 'the-snapshot'):
            self.assertIn(text, self.log.output)
