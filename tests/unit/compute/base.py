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


"""A manager with real images and a real journal.

The hypervisor is a double, since its faults have to come at will.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
import io
import os
from typing import Any

from nova_snap import exception
from nova_snap import journal as journal_lib
from nova_snap import locks as locks_lib
from nova_snap import progress as progress_lib
from nova_snap.compute import manager as manager_lib
from nova_snap.image import api as image_api
from nova_snap.image import filesystem
from nova_snap.objects import instance as instance_lib
from nova_snap.objects import power_state
from nova_snap.virt import decision as decision_lib
from nova_snap.virt import driver as driver_lib
from tests.unit import base

INSTANCE = instance_lib.Instance('6a6bdf3d-8a1c-4a6b-9b9c-0c7e1d1f0c55', 'web')
OTHER = instance_lib.Instance('77777777-8a1c-4a6b-9b9c-0c7e1d1f0c55', 'db')
BASE_ID = '2f0c3bd5-1b7a-4f4e-9d0e-52f6a7f2f2a9'
DATA = b'disk' * 1000

START = 'start the guest again'
THAW = 'thaw the guest'


@dataclasses.dataclass(frozen=True)
class Request:
    """What the manager asked its driver for."""

    image_id: str
    images: image_api.ImageService
    entry: journal_lib.Entry
    progress: progress_lib.Progress

    def upload(self) -> None:
        """Send the data."""
        self.images.upload(
            self.image_id, io.BytesIO(DATA), len(DATA), self.progress
        )


class MemoryDriver(driver_lib.ComputeDriver):
    """Instances that are nothing but their names.

    ``behave`` is what a snapshot does, ``undo`` how its duty is undone.
    """

    def __init__(self) -> None:
        self.behave: Callable[[Request], None] = Request.upload
        self.undo: Callable[[journal_lib.Data], None] = lambda data: None
        self.image_properties: Mapping[str, str] | None = None
        self.plan_error: Exception | None = None
        self.devices: tuple[instance_lib.BlockDevice, ...] = ()
        self.freezes = True
        self.events: list[str] = []

    def instances(
        self,
    ) -> list[tuple[instance_lib.Instance, power_state.PowerState]]:
        return [(INSTANCE, power_state.PowerState.RUNNING)]

    def instance(self, server: str) -> instance_lib.Instance:
        return INSTANCE

    def block_devices(
        self, instance: instance_lib.Instance
    ) -> tuple[instance_lib.BlockDevice, ...]:
        return self.devices

    def quiescing(
        self,
        instance: instance_lib.Instance,
        image_properties: Mapping[str, str],
    ) -> driver_lib.Quiesced:
        self.image_properties = image_properties
        if self.plan_error is not None:
            raise self.plan_error
        return self.frozen

    @contextlib.contextmanager
    def frozen(self, entry: journal_lib.Entry) -> Iterator[bool]:
        """Freezing, as far as the one who asks for it can tell."""
        with entry.owing(THAW, lambda data: self.events.append('thaw')):
            self.events.append('freeze')
            yield self.freezes

    def explain(
        self, instance: instance_lib.Instance
    ) -> decision_lib.Decision:
        return decision_lib.Decision(
            decision_lib.Path.COLD, None, True, (), ()
        )

    def plan(
        self,
        instance: instance_lib.Instance,
        image_properties: Mapping[str, str],
    ) -> driver_lib.Plan:
        self.image_properties = image_properties
        if self.plan_error is not None:
            raise self.plan_error
        return driver_lib.Plan(
            instance, self.explain(instance), 'raw', 1 << 30
        )

    @contextlib.contextmanager
    def extracted(
        self,
        plan: driver_lib.Plan,
        entry: journal_lib.Entry,
        progress: progress_lib.Progress,
    ) -> Iterator[driver_lib.ImageData]:
        with entry.owing(START, lambda data: self.undo(data)):
            stream = io.BytesIO(DATA)
            yield driver_lib.ImageData(stream, 'raw', len(DATA), progress)

    def snapshot(
        self,
        plan: driver_lib.Plan,
        image_id: str,
        images: image_api.ImageService,
        entry: journal_lib.Entry,
        progress: progress_lib.Progress,
        update_task_state: driver_lib.UpdateTaskState,
    ) -> None:
        self.behave(Request(image_id, images, entry, progress))

    def undoers(self, instance_uuid: str) -> Mapping[str, journal_lib.Undo]:
        return {
            START: lambda data: self.undo(data),
            THAW: lambda data: self.events.append('thaw'),
        }


class ManagerTestCase(base.TestCase):
    """A manager whose every file lies in a folder of its own."""

    def setUp(self) -> None:
        super().setUp()
        state = self.folder()
        self.images_directory = state / 'images'
        self.images = filesystem.FilesystemImageService(self.images_directory)
        self.journal = journal_lib.Journal(state / 'journal')
        self.locks = locks_lib.Locks(state / 'locks', 1, 0)
        self.driver = MemoryDriver()
        self.progress = progress_lib.Progress('web')
        self.manager = manager_lib.SnapshotManager(
            self.driver,
            self.images,
            self.journal,
            self.locks,
            cancel_check_interval=0.05,
        )

    def snapshot(
        self,
        instance: instance_lib.Instance = INSTANCE,
        name: str = 'backup',
        **metadata: str,
    ) -> image_api.Image:
        """Take one."""
        return self.manager.snapshot_instance(
            instance, name, metadata, self.progress
        )

    def failure(
        self, category: type[exception.NovaSnapError], **arguments: Any
    ) -> Any:
        """The error of a snapshot that fails."""
        return self.assertRaises(category, self.snapshot, **arguments)

    def assert_nothing_is_left(self) -> None:
        """No image, no file, no entry; and the next one works."""
        self.assertEqual([], list(self.images.list()))
        if self.images_directory.exists():
            self.assertEqual([], os.listdir(self.images_directory))
        self.assertEqual([], list(self.journal.entries()))
        self.driver.behave = Request.upload
        self.driver.plan_error = None
        self.progress = progress_lib.Progress('web')
        self.assertEqual('active', self.snapshot().status)

    def leave_behind(
        self, instance: instance_lib.Instance = INSTANCE
    ) -> image_api.Image:
        """An entry and a record, as of a process that was killed."""
        record = image_api.Image(id=str(BASE_ID), name='half', status='queued')

        def forget(_data: journal_lib.Data) -> None:
            raise RuntimeError('killed')

        with (
            self.journal.begun(instance.uuid, instance.name) as entry,
            entry.owing(manager_lib.REMOVE_RECORD, forget, image_id=record.id),
            entry.owing(START, forget, paused=False),
        ):
            return self.images.create(record)
