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

"""What a snapshot inside Ceph promises, like every other operation.

Ceph and Glance are doubles, as in ``test_direct.py``.
"""

from collections.abc import Mapping
from typing import Any
from typing import ClassVar

from nova_snap.image import api as image_api
from nova_snap.nova import direct
from nova_snap.virt import driver as driver_lib
from tests.nova import base
from tests.nova import test_direct
from tests.unit.compute import promise_tests
from tests.unit.compute import promises


class Backend(test_direct.RootDisk):
    """An image backend that knows which images are in Ceph."""

    def __init__(self) -> None:
        super().__init__()
        self.made: set[str] = set()

    def direct_snapshot(self, *arguments: Any) -> str:
        location = super().direct_snapshot(*arguments)
        self.made.add(location)
        return location

    def cleanup_direct_snapshot(self, location: Any, **options: Any) -> None:
        super().cleanup_direct_snapshot(location, **options)
        if location:
            self.made.discard(location['url'])


class Direct(promises.SnapshotOfNova):
    """A snapshot of a root disk on RBD."""

    undoing = ''
    record_id = test_direct.RECORD
    data = b''
    changes: ClassVar[Mapping[str, str]] = {
        'backend.direct_snapshot': direct.RemoveClone.kind,
        'images.set_location': direct.RemoveClone.kind,
    }

    def make_images(self) -> image_api.ImageService:
        return test_direct.Record(self.folder / 'images', test_direct.Images())

    def make_driver(self) -> driver_lib.ComputeDriver:
        self.backend = Backend()
        driver = test_direct.Driver(self.backend)
        self.probe.watch('driver', driver, 'plan')
        methods = ['direct_snapshot', 'cleanup_direct_snapshot']
        self.probe.watch('backend', self.backend, *methods)
        return driver

    def is_done(self) -> bool:
        return super().is_done() and len(self.backend.made) == 1

    def is_undone(self) -> bool:
        return super().is_undone() and not self.backend.made


class DirectTest(promise_tests.PromiseTests, base.NovaTestCase):
    """A snapshot inside Ceph."""

    operation_class = Direct
