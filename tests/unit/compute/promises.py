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

"""The operations that there are, each with what it may change in view.

A probe sees each call that an operation makes to what is around it, and can
make the call fail.  ``test_promises.py`` runs the same tests over all of them.
"""

import abc
from collections.abc import Callable
from collections.abc import Mapping
import os
import threading
from typing import Any
from typing import ClassVar

from nova_snap import exception
from nova_snap import journal as journal_lib
from nova_snap import locks as locks_lib
from nova_snap import progress as progress_lib
from nova_snap.compute import export_target
from nova_snap.compute import image_set
from nova_snap.compute import image_upload
from nova_snap.compute import manager as manager_lib
from nova_snap.compute import operations
from nova_snap.compute.volume_backed import moment as volume_moment
from nova_snap.compute.volume_backed import plan as volume_backed
from nova_snap.compute.volume_backed import snapshots as volume_snapshots
from nova_snap.image import api as image_api
from nova_snap.image import filesystem
from nova_snap.objects import instance as instance_lib
from nova_snap.virt import driver as driver_lib
from tests.unit import base as unit_base
from tests.unit.compute import base
from tests.unit.compute import volumes as volumes_lib

RECORD = '5b9c7bd5-1b7a-4f4e-9d0e-52f6a7f2f2a9'

Hook = Callable[[str], None]


def pass_by(name: str) -> None:
    """Do nothing about a call."""


class Probe:
    """Sees the calls to some objects by name, such as ``images.create``.

    ``hook`` is called before each; what it raises is the call's error.
    """

    def __init__(self) -> None:
        self.hook: Hook = pass_by
        self.calls: list[str] = []

    def see(self, name: str) -> None:
        """Note that a call is about to be made."""
        self.calls.append(name)
        self.hook(name)

    def watch(self, prefix: str, target: object, *methods: str) -> None:
        """See the calls to these methods of an object."""
        for method in methods:
            self._watch(f'{prefix}.{method}', target, method)

    def _watch(self, name: str, target: object, method: str) -> None:
        original = getattr(target, method)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.see(name)
            return original(*args, **kwargs)

        setattr(target, method, call)


class Events(list[str]):
    """What a double notes, and the probe sees."""

    def __init__(self, probe: Probe) -> None:
        super().__init__()
        self._probe = probe

    def append(self, event: str) -> None:
        """Note an event, unless the probe makes it fail."""
        self._probe.see(f'events.{event}')
        super().append(event)


class Progress(progress_lib.Progress):
    """A progress that tells when the operation waits for something."""

    def __init__(self) -> None:
        super().__init__('web')
        self.waits = threading.Event()

    def wait(self, seconds: float | None = None) -> None:
        """Tell, and wait."""
        self.waits.set()
        super().wait(seconds)


class Operation(abc.ABC):
    """One operation on an instance, in folders of its own.

    :cvar changes: what it changes, by the name of the call, and the kind of
        the undo step that must be in the journal by then.
    :cvar undoing: the call by which the guest is put right again; ''
        where no step keeps the next operation from running.
    :cvar undone_early: kinds of steps that need not wait for the steps that
        were begun after them.
    """

    changes: ClassVar[Mapping[str, str]]
    undoing: ClassVar[str]
    undone_early: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, case: unit_base.TestCase) -> None:
        self.case = case
        self.probe = Probe()
        self.folder = case.folder()
        self.images = self.make_images()
        self.journal_directory = self.folder / 'journal'
        self.journal = journal_lib.Journal(self.journal_directory)
        self.locks = locks_lib.Locks(self.folder / 'locks', 1, 0)
        self.progress = Progress()
        self.driver = self.make_driver()
        self.manager = manager_lib.SnapshotManager(
            self.driver,
            self.journal,
            self.locks,
            cancel_check_interval=3600,
            volume_backed=self.make_volume_backed(),
        )
        self.prepare()
        methods = ['create', 'get', 'update', 'upload', 'delete']
        self.probe.watch('images', self.images, *methods, 'set_location')

    @property
    def instance(self) -> instance_lib.Instance:
        """The instance that it is about."""
        return base.INSTANCE

    def make_images(self) -> image_api.ImageService:
        """Make the image service."""
        return filesystem.FilesystemImageService(self.folder / 'images')

    @abc.abstractmethod
    def make_driver(self) -> driver_lib.ComputeDriver:
        """Make the driver, and let the probe watch it."""

    def make_volume_backed(self) -> volume_backed.VolumeBacked | None:
        """Make what plans images of volumes, if that is wanted."""
        return None

    def prepare(self) -> None:  # noqa: B027
        """Do what somebody has done before the operation."""

    @abc.abstractmethod
    def run(self) -> None:
        """Run it."""

    @abc.abstractmethod
    def is_done(self) -> bool:
        """Return True if the image is there and whole, and the guest right."""

    @abc.abstractmethod
    def is_undone(self) -> bool:
        """Return True if nothing is there, and the guest is right."""

    def fault(self, name: str) -> Exception:
        """Return the error of a call that fails."""
        return exception.SnapshotFailed(f'{name} fails in this test.')

    def recover(self) -> list[operations.Recovery]:
        """Recover as a later process does."""
        return list(self.manager.recover(self.images))

    def kinds_on_disk(self) -> tuple[str, ...]:
        """Return the kinds of all steps in the journal."""
        return tuple(k for e in self.journal.entries() for k in e.kinds)

    def has_lock(self) -> bool:
        """Return True if somebody holds the lock of the instance."""
        try:
            with self.locks.instance(self.instance.uuid):
                return False
        except exception.SnapshotInProgress:
            return True

    def has_slot(self) -> bool:
        """Return True if somebody has taken the only slot."""
        impatient = progress_lib.Progress()
        impatient.cancel('it is taken')
        try:
            with self.locks.snapshot_slot(impatient):
                return False
        except exception.SnapshotCancelled:
            return True

    def looks(self) -> list[str]:
        """Return the calls by which it looked at the instance, or more."""
        return [c for c in self.probe.calls if not c.startswith('images.')]


class MemoryOperation(Operation):
    """An operation on a guest that is stopped while it is read."""

    undoing = 'guest.start'
    is_stopped = False

    def make_driver(self) -> driver_lib.ComputeDriver:
        """Make a driver whose reading stops the guest."""
        driver = base.MemoryDriver()
        driver.behave, driver.undo = self.stop, self.start
        methods = ['plan', 'block_devices', 'quiescing']
        self.probe.watch('driver', driver, *methods)
        self.memory = driver
        return driver

    def stop(self, _request: base.Request) -> None:
        """Stop the guest."""
        self.probe.see('guest.stop')
        self.is_stopped = True

    def start(self, _data: object) -> None:
        """Start the guest again."""
        self.probe.see('guest.start')
        self.is_stopped = False


class ToRecord(MemoryOperation):
    """An operation whose result is one image."""

    data = base.DATA

    def records(self) -> list[image_api.Image]:
        """Return all records."""
        return list(self.images.list())

    def content(self, image: image_api.Image) -> bytes:
        """Return the data of an image."""
        return (self.folder / 'images' / image.id).read_bytes()

    def is_done(self) -> bool:
        return not self.is_stopped and [
            (image.status, self.content(image)) for image in self.records()
        ] == [('active', self.data)]

    def is_undone(self) -> bool:
        return not self.is_stopped and self.records() == []


class ImageCreate(ToRecord):
    """image-create of the command."""

    changes: ClassVar[Mapping[str, str]] = {
        'images.create': image_upload.RemoveRecord.kind,
        'guest.stop': base.START,
        'images.upload': image_upload.RemoveRecord.kind,
    }

    def run(self) -> None:
        self.manager.snapshot_instance(
            self.instance, 'backup', {}, self.images, self.progress
        )


class AcceptedImage(ImageCreate):
    """image-create of the API, whose record exists before its turn comes."""

    def run(self) -> None:
        self.manager.accept_snapshot(
            self.instance,
            'backup',
            {},
            self.images,
            self.progress,
            lambda records: self.probe.see('states.accept'),
            lambda state: self.probe.see('states.update'),
        )


class ImageSet(ImageCreate):
    """image-create of all disks of an instance."""

    changes: ClassVar[Mapping[str, str]] = {
        'images.create': image_set.RemoveSet.kind,
        'guest.stop': base.START,
        'images.upload': image_set.RemoveSet.kind,
    }
    # Uploads that go on side by side end in any order.
    undone_early = frozenset({image_upload.VerifyImage.kind})

    def make_driver(self) -> driver_lib.ComputeDriver:
        driver = super().make_driver()
        self.memory.further = tuple(base.FURTHER)
        return driver

    def is_done(self) -> bool:
        found = {
            image.properties[image_set.DEVICE]: self.content(image)
            for image in self.records()
            if image.status == 'active'
        }
        return not self.is_stopped and found == {
            'vda': base.DATA,
            **base.FURTHER,
        }


class SnapshotOfNova(ToRecord):
    """A snapshot of nova-compute, to a record that its API has made."""

    record_id = RECORD
    changes: ClassVar[Mapping[str, str]] = {
        'guest.stop': base.START,
        'images.upload': image_upload.RemoveRecord.kind,
    }

    def prepare(self) -> None:
        self.record = image_api.Image(
            id=self.record_id, name='x', status='queued'
        )
        self.images.create(self.record)

    def run(self) -> None:
        self.manager.snapshot_to_record(
            self.instance,
            self.record,
            {},
            self.images,
            self.progress,
            lambda state: self.probe.see('states.update'),
        )


class Export(MemoryOperation):
    """An export to a file."""

    changes: ClassVar[Mapping[str, str]] = {'guest.stop': base.START}

    @property
    def place(self) -> str:
        """The folder that the file is in."""
        path = self.folder / 'exports'
        path.mkdir(exist_ok=True)
        return str(path)

    def run(self) -> None:
        target = export_target.at(f'{self.place}/image')
        self.manager.export_instance(
            self.instance, target, self.images, self.progress
        )

    def is_done(self) -> bool:
        path = self.folder / 'exports' / 'image'
        return (
            not self.is_stopped
            and os.listdir(self.place) == ['image']
            and path.read_bytes() == base.DATA
        )

    def is_undone(self) -> bool:
        return not self.is_stopped and os.listdir(self.place) == []


class VolumeBacked(ImageCreate):
    """image-create of an instance that boots from a volume."""

    undoing = 'events.thaw'
    data = b''
    changes: ClassVar[Mapping[str, str]] = {
        'images.create': image_upload.RemoveRecord.kind,
        'volumes.create_snapshot': volume_snapshots.DeleteSnapshots.kind,
        'events.freeze': base.Thaw.kind,
        'images.update': volume_snapshots.DeleteSnapshots.kind,
        'images.upload': image_upload.RemoveRecord.kind,
    }

    def make_volume_backed(self) -> volume_backed.VolumeBacked:
        self.memory.events = Events(self.probe)
        self.memory.devices = (
            volumes_lib.device(),
            volumes_lib.device('vdb', volumes_lib.DATA),
        )
        self.volumes = volumes_lib.MemoryVolumes()
        methods = ['volume', 'create_snapshot', 'snapshots', 'project_id']
        self.probe.watch('volumes', self.volumes, *methods, 'snapshot_quota')
        return volume_backed.VolumeBacked(
            self.memory,
            self.volumes,
            volume_moment.Options(snapshot_timeout=5, frozen_timeout=5),
        )

    def is_thawed(self) -> bool:
        """Return True if the guest was thawed after each freeze."""
        events = self.memory.events
        return not events or events[-1] == 'thaw'

    def is_done(self) -> bool:
        return super().is_done() and self.is_thawed() and len(self.made()) == 2

    def is_undone(self) -> bool:
        return super().is_undone() and self.is_thawed() and not self.made()

    def made(self) -> list[str]:
        """Return the ids of the snapshots in Cinder."""
        return list(self.volumes.made)
