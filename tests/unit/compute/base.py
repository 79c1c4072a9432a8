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
from collections.abc import Sequence
import contextlib
import dataclasses
import io
import os
from typing import Any
from typing import BinaryIO
import uuid

from nova_snap import exception
from nova_snap import journal as journal_lib
from nova_snap import locks as locks_lib
from nova_snap import progress as progress_lib
from nova_snap import undo
from nova_snap.compute import image_set
from nova_snap.compute import image_upload
from nova_snap.compute import manager as manager_lib
from nova_snap.compute import operations
from nova_snap.image import api as image_api
from nova_snap.image import filesystem
from nova_snap.image import store_folder
from nova_snap.objects import host_details
from nova_snap.objects import instance as instance_lib
from nova_snap.objects import instance_details
from nova_snap.objects import power_state
from nova_snap.virt import decision as decision_lib
from nova_snap.virt import domain_snapshot
from nova_snap.virt import driver as driver_lib
from nova_snap.virt import power as power_lib
from tests.unit import base
from tests.unit import journals

INSTANCE = instance_lib.Instance(base.SERVER, 'web')
OTHER = instance_lib.Instance(str(uuid.uuid4()), 'db')
BASE_ID = '2f0c3bd5-1b7a-4f4e-9d0e-52f6a7f2f2a9'
DATA = b'disk' * 1000

#: What the double's further disks hold.
FURTHER = {'vdb': b'data' * 3000, 'vdc': b'logs' * 200, 'vdd': b'more' * 100}

START = 'start the double again'


@dataclasses.dataclass
class Request:
    """What the manager asked its driver for; ``size`` is announced.

    ``image_id`` is that of the record, if there is one; ``image_ids`` are
    those of all records.
    """

    entry: journal_lib.Entry
    progress: progress_lib.Progress
    image_id: str = ''
    size: int = len(DATA)
    image_ids: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Start(undo.Step, kind=START):
    """What the driver begins."""

    paused: bool = False

    def undo(self, resources: undo.Resources) -> None:
        resources.get(MemoryDriver).undo(self.data())


@dataclasses.dataclass(frozen=True)
class Thaw(undo.Step, kind='thaw the double'):
    """What freezing begins."""

    def undo(self, resources: undo.Resources) -> None:
        resources.get(MemoryDriver).events.append('thaw')


@dataclasses.dataclass(frozen=True)
class MemoryPlan(driver_lib.Plan):
    """Reads ``DATA`` and ``FURTHER``, after the driver's ``behave``."""

    driver: 'MemoryDriver'

    @property
    def method(self) -> str:
        return 'pull'

    @contextlib.contextmanager
    def extracted(
        self, operation: driver_lib.Operation
    ) -> Iterator[driver_lib.Extraction]:
        request = Request(operation.entry, operation.progress)
        for step in operation.entry.steps:
            if isinstance(step, image_upload.RemoveRecord):
                request.image_id = step.image_id
            if isinstance(step, image_set.RemoveSet):
                request.image_ids = tuple(step.image_ids)
                request.image_id = request.image_ids[0]
        with operation.entry.undoing(Start()):
            self.driver.behave(request)
            sizes = [image.virtual_size for image in self.images]
            parts = progress_lib.parts(operation.progress, sizes)
            yield driver_lib.Extraction(
                tuple(
                    self.reading(image.device, request, part)
                    for image, part in zip(self.images, parts, strict=True)
                )
            )

    @contextlib.contextmanager
    def reading(
        self,
        device: str,
        request: Request,
        progress: progress_lib.Progress,
    ) -> Iterator[driver_lib.ImageData]:
        """Read one of the disks."""
        self.driver.reading(device)
        data = FURTHER.get(device, DATA)
        size = len(data) if device in FURTHER else request.size
        yield driver_lib.ImageData(
            self.driver.opened(device, data), 'raw', size, progress
        )


class MemoryPower(power_lib.Power):
    """Changes nothing but the state that the double shows.

    ``behave`` is what an action does before; it may raise.
    """

    AFTER = {
        power_lib.Action.PAUSE: (power_state.PowerState.PAUSED, False),
        power_lib.Action.SUSPEND: (power_state.PowerState.SHUTDOWN, True),
        power_lib.Action.STOP: (power_state.PowerState.SHUTDOWN, False),
    }
    RUNNING = (power_state.PowerState.RUNNING, False)

    def __init__(self, driver: 'MemoryDriver') -> None:
        self._driver = driver

    def require(self, action: power_lib.Action) -> None:
        if self._driver.power_error is not None:
            raise self._driver.power_error

    def act(
        self,
        action: power_lib.Action,
        entry: journal_lib.Entry,
        control: power_lib.Control,
    ) -> None:
        self._driver.act(action, control)
        self._driver.state = self.AFTER.get(action, self.RUNNING)


class MemoryDriver(driver_lib.ComputeDriver):
    """Instances that are nothing but their names.

    ``behave`` is what reading does, ``undo`` how its step is undone;
    ``further`` are the names of the disks besides the root disk, ``reading``
    is called when one is about to be read, and ``opened`` makes its file.
    """

    def __init__(self) -> None:
        self.further: tuple[str, ...] = ()
        self.reading: Callable[[str], None] = lambda device: None
        self.opened: Callable[[str, bytes], BinaryIO] = lambda device, data: (
            io.BytesIO(data)
        )
        self.behave: Callable[[Request], None] = lambda request: None
        self.undo: Callable[[undo.Data], None] = lambda data: None
        self.image_properties: Mapping[str, str] | None = None
        self.plan_error: Exception | None = None
        self.devices: tuple[instance_lib.BlockDevice, ...] = ()
        self.freezes = True
        self.known: Sequence[instance_details.InstanceDetails] = ()
        self.events: list[str] = []
        self.power_error: Exception | None = None
        self.act: Callable[[power_lib.Action, power_lib.Control], None] = (
            lambda action, control: None
        )
        self.state = MemoryPower.RUNNING
        self.is_of_nova = False

    def instances(
        self,
    ) -> list[tuple[instance_lib.Instance, power_state.PowerState]]:
        return [(INSTANCE, power_state.PowerState.RUNNING)]

    def instance(self, server: str) -> instance_lib.Instance:
        return self.details(server).instance if self.known else INSTANCE

    def all_details(self) -> list[instance_details.InstanceDetails]:
        return list(self.known)

    def details(self, instance_uuid: str) -> instance_details.InstanceDetails:
        for known in self.known:
            if known.instance.uuid == instance_uuid:
                return known
        if not self.known:
            found = self.instance(instance_uuid)
            if found.uuid == instance_uuid:
                return self._plain(found)
        raise exception.InstanceNotFound(server=instance_uuid)

    def _plain(
        self, instance: instance_lib.Instance
    ) -> instance_details.InstanceDetails:
        """Return what is known of an instance without details."""
        state, is_saved = self.state
        return instance_details.InstanceDetails(
            instance=instance,
            domain_name='web',
            flavor=instance_lib.Flavor('tiny', 256, 0, vcpus=1),
            power_state=state,
            is_saved=is_saved,
            is_of_nova=self.is_of_nova,
        )

    def power(self, instance: instance_lib.Instance) -> power_lib.Power:
        return MemoryPower(self)

    def domain_snapshots(
        self, instance: instance_lib.Instance
    ) -> domain_snapshot.DomainSnapshots:
        raise NotImplementedError

    def host_details(self) -> host_details.HostDetails:
        return host_details.HostDetails('host', 'QEMU', 7002022, 2, 4096)

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
    def frozen(
        self, entry: journal_lib.Entry, progress: progress_lib.Progress
    ) -> Iterator[bool]:
        """Freezing, as far as the one who asks for it can tell."""
        with entry.undoing(Thaw()):
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
        images = tuple(
            driver_lib.DiskImage(device, 'raw', 1 << 30)
            for device in ('vda', *self.further)
        )
        return MemoryPlan(instance, images, self)

    def resources(self, instance_uuid: str) -> Sequence[object]:
        return (self,)


class ManagerTestCase(base.TestCase):
    """A manager whose every file lies in a folder of its own."""

    def setUp(self) -> None:
        super().setUp()
        state = self.folder()
        self.images_directory = state / 'images'
        self.images = filesystem.FilesystemImageService(self.images_directory)
        self.journal_directory = state / 'journal'
        self.journal = journal_lib.Journal(self.journal_directory)
        self.locks = locks_lib.Locks(state / 'locks', 1, 0)
        self.driver = MemoryDriver()
        self.progress = progress_lib.Progress('web')
        self.manager = manager_lib.SnapshotManager(
            self.driver,
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
        (image,) = self.snapshots(instance, name, **metadata)
        return image

    def snapshots(
        self,
        instance: instance_lib.Instance = INSTANCE,
        name: str = 'backup',
        **metadata: str,
    ) -> tuple[image_api.Image, ...]:
        """Take an image of each disk."""
        return self.manager.snapshot_instance(
            instance, name, metadata, self.images, self.progress
        )

    def recover(self) -> list[operations.Recovery]:
        """Recover from the whole journal."""
        return list(self.manager.recover(self.images))

    def failure(
        self, category: type[exception.NovaSnapError], **arguments: Any
    ) -> Any:
        """Return the error of a snapshot that has to fail."""
        return self.assertRaises(category, self.snapshot, **arguments)

    def assert_nothing_is_left(self) -> None:
        """No image, no file, no entry; and the next one works."""
        self.assertEqual([], list(self.images.list()))
        if self.images_directory.exists():
            left = set(os.listdir(self.images_directory))
            self.assertEqual(set(), left - {store_folder.MARK})
        self.assertEqual([], list(self.journal.entries()))
        self.driver.behave = lambda request: None
        self.driver.plan_error = None
        self.driver.further = ()
        self.driver.reading = lambda device: None
        self.driver.opened = lambda device, data: io.BytesIO(data)
        self.progress = progress_lib.Progress('web')
        self.assertEqual('active', self.snapshot().status)

    def leave_behind(
        self, instance: instance_lib.Instance = INSTANCE
    ) -> image_api.Image:
        """Leave an entry and a record, as a killed process does."""
        record = image_api.Image(id=BASE_ID, name='half', status='queued')
        journals.leave(
            self.journal_directory,
            instance.uuid,
            instance.name,
            image_upload.RemoveRecord(record.id),
            Start(),
        )
        return self.images.create(record)
