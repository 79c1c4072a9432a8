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

"""A set whose first record exists already, as nova-api makes it."""

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import io
import threading
from typing import Any

from nova_snap import exception
from nova_snap.compute import image_set
from nova_snap.image import api as image_api
from nova_snap.objects import instance as instance_lib
from nova_snap.virt import driver as driver_lib
from tests.unit import journals
from tests.unit.compute import base

RECORD = '5b9c7bd5-1b7a-4f4e-9d0e-52f6a7f2f2a9'
STALE = {
    'nova_snap:set': '2f0c3bd5-1b7a-4f4e-9d0e-52f6a7f2f2a9',
    'nova_snap:device': 'vda',
    'nova_snap:disks': 'all',
}


class Plan(base.MemoryPlan):
    """Reads the same data of every disk."""

    @contextlib.contextmanager
    def extracted(
        self, operation: driver_lib.Operation
    ) -> Iterator[driver_lib.Extraction]:
        self.driver.behave(base.Request(operation.entry, operation.progress))
        yield driver_lib.Extraction(
            tuple(
                contextlib.nullcontext(
                    driver_lib.ImageData(
                        io.BytesIO(base.DATA), 'raw', None, operation.progress
                    )
                )
                for _image in self.images
            )
        )


class Driver(base.MemoryDriver):
    """An instance with these disks."""

    disks = ('vda', 'vdb', 'vdc')

    def plan(
        self,
        instance: instance_lib.Instance,
        image_properties: Mapping[str, str],
    ) -> driver_lib.Plan:
        images = tuple(
            driver_lib.DiskImage(device, 'raw', 1 << 30)
            for device in self.disks
        )
        return Plan(instance, images, self)


class AddedTest(base.ManagerTestCase):
    """Further records for a record that was made before."""

    def setUp(self) -> None:
        super().setUp()
        self.driver = self.manager._driver = Driver()
        self.manager._operations._driver = self.driver
        self.images.create(
            image_api.Image(
                id=RECORD,
                name='theirs',
                status='queued',
                properties={'team': 'web', **STALE},
            )
        )

    def take(self) -> None:
        """Take images of all disks."""
        self.manager.snapshot_to_record(
            *(base.INSTANCE, self.images.get(RECORD), {}),
            *(self.images, self.progress),
            lambda state: None,
            {'team': 'web'},
        )

    def found(self) -> dict[str, image_api.Image]:
        """Return the images by their names."""
        return {image.name: image for image in self.images.list()}

    def assert_nothing_stays(self) -> None:
        self.assertEqual({}, self.found())
        self.assertEqual([], list(self.journal.entries()))

    def test_records_of_a_set(self) -> None:
        self.take()
        found = self.found()
        self.assertEqual({'theirs', 'theirs-vdb', 'theirs-vdc'}, set(found))
        for device, name in (('vda', 'theirs'), ('vdb', 'theirs-vdb')):
            image = found[name]
            self.assertEqual('active', image.status)
            self.assertEqual('web', image.properties['team'])
            self.assertEqual(
                {
                    'nova_snap:set': RECORD,
                    'nova_snap:device': device,
                    'nova_snap:disks': 'vda,vdb,vdc',
                },
                image_set.links(image.properties),
            )
        self.assertEqual([], list(self.journal.entries()))

    def test_image_of_one_disk_is_no_part_of_a_set(self) -> None:
        self.driver.disks = ('vda',)  # type: ignore[misc]
        self.take()
        (image,) = self.images.list()
        self.assertEqual({'team': 'web'}, image.properties)

    def test_refused_record(self) -> None:
        create, made = self.images.create, []

        def refuse_second(record: image_api.Image) -> image_api.Image:
            if made:
                raise exception.ImageTooLarge(image_id='i', reason='quota')
            made.append(record)
            return create(record)

        self.images.create = refuse_second  # type: ignore[method-assign]
        self.assertRaises(exception.ImageTooLarge, self.take)
        self.assertEqual(1, len(made))
        self.assert_nothing_stays()

    def test_refused_data(self) -> None:
        upload, count = self.images.upload, threading.Semaphore(1)

        def refuse_second(*arguments: Any) -> image_api.Image:
            if not count.acquire(blocking=False):
                raise exception.ImageTooLarge(image_id='i', reason='quota')
            return upload(*arguments)

        self.images.upload = refuse_second  # type: ignore[method-assign]
        self.assertRaises(exception.ImageTooLarge, self.take)
        self.assert_nothing_stays()

    def test_killed_before_it_is_whole(self) -> None:
        journals.leave(
            self.journal_directory,
            base.INSTANCE.uuid,
            'web',
            image_set.RemoveSet([RECORD, base.BASE_ID]),
        )
        self.images.create(
            image_api.Image(id=base.BASE_ID, name='x', status='queued')
        )
        self.recover()
        self.assert_nothing_stays()
