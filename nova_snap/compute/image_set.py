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

"""Image sets: the images of several disks of one instance, as of one moment.

Open this file for the properties that link the images of a set, and for the
order in which they become active.  The first image of a set is that of the
root disk.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import threading
import uuid

from nova_snap import concurrency
from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap import undo
from nova_snap import waiting
from nova_snap.compute import image_record
from nova_snap.compute import image_upload
from nova_snap.image import api as image_api
from nova_snap.objects import instance as instance_lib
from nova_snap.virt import driver as driver_lib

#: Properties of each image of a set: the ID of the root disk's image, the
#: target name of the image's own disk, and those of all disks.
SET = 'nova_snap:set'
DEVICE = 'nova_snap:device'
DISKS = 'nova_snap:disks'

#: The value of DISKS by which a request asks for an image of each disk.
ALL = 'all'

#: Seconds for which the upload of the root disk waits for the others at most,
#: between two chunks.  Servers and proxies close connections that are idle for
#: about a minute.
LONGEST_PAUSE = 5.0


def member_id(root_id: str, device: str) -> str:
    """Return the ID of the image of a disk other than the root disk.

    It follows from that of the root disk's image.  So what has the properties
    of such an image, as a copy has, need not be one.
    """
    return str(uuid.uuid5(uuid.UUID(root_id), device))


def properties(
    root_id: str, plan: driver_lib.Plan, image: driver_lib.DiskImage
) -> dict[str, str]:
    """Return the properties that link an image with the others of its set.

    Empty if the plan has one disk only.
    """
    if len(plan.images) == 1:
        return {}
    return {
        SET: root_id,
        DEVICE: image.device,
        DISKS: ','.join(image.device for image in plan.images),
    }


def records(
    root: image_api.Image,
    plan: driver_lib.Plan,
    metadata: Mapping[str, str],
) -> list[image_api.Image]:
    """Return the records to create, one for each disk of a plan.

    :param root: the record of the root disk.
    :param metadata: additional properties that the user wants.
    :raises InvalidName: the name of one of the images would be too long.
    """
    _require_room_for_devices(root.name, plan)
    own = properties(root.id, plan, plan.images[0])
    first = dataclasses.replace(root, properties={**root.properties, **own})
    further = [
        image_record.of_further_disk(
            plan.instance,
            member_id(root.id, image.device),
            f'{root.name}-{image.device}',
            {**metadata, **properties(root.id, plan, image)},
            image.format,
            image.virtual_size,
        )
        for image in plan.images[1:]
    ]
    return [first, *further]


def _require_room_for_devices(name: str, plan: driver_lib.Plan) -> None:
    """Raise InvalidName if a name gets too long with that of a disk."""
    further = (image.device for image in plan.images[1:])
    device = max(further, key=len, default='')
    most = image_record.MAX_NAME - len(f'-{device}')
    if device and len(name) > most:
        raise exception.InvalidName(
            reason=f'it has {len(name)} characters; here {most} are allowed, '
            f'since the image of disk {device} gets "-{device}" behind it.'
        )


@dataclasses.dataclass(frozen=True)
class RemoveSet(undo.Step, kind='remove the images of an incomplete set'):
    """Remove all images of a set that has not become whole.

    :ivar image_ids: that of the root disk's image first.
    """

    image_ids: Sequence[str]

    # Records that are left do not keep the next operation from running.
    is_blocking = False

    def undo(self, resources: undo.Resources) -> None:
        """Delete every image of the set, unless the root disk's is active.

        It becomes active when all the others are whole, so a set without one
        of them then is as a user wants it.

        :raises NovaSnapError: the last error of the image service.
        """
        images = resources.get(image_api.ImageService)
        root_id, *further = self.image_ids
        with contextlib.suppress(exception.ImageNotFound):
            if images.get(root_id).status == image_api.ImageStatus.ACTIVE:
                return
        failure: exception.NovaSnapError | None = None
        for image_id in (*further, root_id):
            try:
                images.delete(image_id)
            except exception.NovaSnapError as error:
                failure = error
        if failure is not None:
            raise failure


@contextlib.contextmanager
def created(
    operation: driver_lib.Operation,
    images: image_api.ImageService,
    records: Sequence[image_api.Image],
) -> Iterator[list[image_api.Image]]:
    """Create records for a block that makes all of them active.

    Yield the records as they were created.  If the block fails, none of them
    stays.
    """
    step: undo.Step
    if len(records) == 1:
        step = image_upload.RemoveRecord(records[0].id)
    else:
        step = RemoveSet([record.id for record in records])
    with operation.entry.undoing(step):
        yield [images.create(record) for record in records]


@contextlib.contextmanager
def added(
    operation: driver_lib.Operation,
    images: image_api.ImageService,
    root: image_api.Image,
    records: Sequence[image_api.Image],
) -> Iterator[None]:
    """Add a set's further records to that of the root disk, which exists.

    The block makes all of them active.  If it fails, none of them stays.

    :param root: the root disk's record as it is.  Its links to an older set,
        from the image that the instance was booted from, are removed.
    :param records: all of the set, from :func:`records`.
    """
    if len(records) == 1:
        relink(images, root, {})
        yield
        return
    step = RemoveSet([record.id for record in records])
    with operation.entry.undoing(step):
        relink(images, root, records[0].properties)
        for record in records[1:]:
            images.create(record)
        yield


def relink(
    images: image_api.ImageService,
    record: image_api.Image,
    properties: Mapping[str, str],
) -> None:
    """Replace the properties that link a record with others of a set.

    :param properties: the new ones; those with other names are ignored.
    """
    old, new = links(record.properties), links(properties)
    if old != new:
        images.update(record.id, properties={**dict.fromkeys(old), **new})


def links(properties: Mapping[str, str]) -> dict[str, str]:
    """Return those of the properties that link an image with a set."""
    return {
        key: value
        for key, value in properties.items()
        if key.startswith(image_record.OWN_PREFIX)
    }


def require_same_disks(
    instance: instance_lib.Instance,
    records: Sequence[image_api.Image],
    now: Sequence[image_api.Image],
) -> None:
    """Raise an error if records would not describe the images any more."""
    if list(map(_disk_of, records)) != list(map(_disk_of, now)):
        raise exception.SnapshotFailed(
            f'The disks of server {instance.uuid} have changed while its '
            'snapshot was waiting for others; try again.'
        )


def _disk_of(record: image_api.Image) -> tuple[object, ...]:
    device = record.properties.get(DEVICE)
    return device, record.disk_format, record.min_disk


def store(
    images: image_api.ImageService,
    outcomes: Sequence[image_upload.Outcome],
    plan: driver_lib.Plan,
    extraction: driver_lib.Extraction,
    operation: driver_lib.Operation,
    parallel: int,
) -> None:
    """Put the data of each disk into its record, that of the root disk last.

    So who waits for the root disk's image gets a whole set.  After an error
    the other uploads end, too.

    :param outcomes: those of the records, in the order of the plan's images.
    :param parallel: disks that are read at the same time.
    :raises NovaSnapError: the first error of the image service, or of reading
        a disk.
    """
    if extraction.properties:
        images.update(
            outcomes[0].image_id, properties=dict(extraction.properties)
        )
    if len(outcomes) == 1:
        with extraction.disks[0] as data:
            image_upload.store(images, outcomes[0], data, operation.entry)
        return
    uploads = _Uploads(images, outcomes, plan, operation, parallel)
    uploads.run(extraction.disks)


class _Uploads:
    """The uploads of a set, side by side.

    :param parallel: how many run at the same time.
    """

    def __init__(
        self,
        images: image_api.ImageService,
        outcomes: Sequence[image_upload.Outcome],
        plan: driver_lib.Plan,
        operation: driver_lib.Operation,
        parallel: int,
    ) -> None:
        self._images = images
        self._outcomes = outcomes
        self._operation = operation
        self._turns = threading.BoundedSemaphore(parallel)
        self._threads: list[threading.Thread] = []
        #: Bytes of each disk that are still to be read.
        self.left = [image.virtual_size for image in plan.images]
        #: The first error of an upload.
        self._failure: BaseException | None = None
        #: Those of which the image service may have something.
        self._sent: set[int] = set()

    def run(self, disks: Sequence[driver_lib.DiskData]) -> None:
        """Run all uploads, and return when every one has ended."""
        try:
            with disks[0] as data:
                data = self._prepared(0, data)
                for place, disk in enumerate(disks[1:], 1):
                    self._begin(place, disk)
                self._wait_for_turn_of_root()
                self._store(0, data, self._require_others)
        except BaseException as error:
            self._fail(error)
        self._join()
        if self._sent and isinstance(
            self._failure, exception.MethodUnavailable
        ):
            # Not another way then: a record that has data gets no other.
            raise exception.SnapshotFailed(
                f'{self._failure} Another image of the set is there already.'
            ) from self._failure
        if self._failure is not None:
            raise self._failure

    def check(self) -> None:
        """Raise SnapshotCancelled if another upload has failed, too.

        The error of that upload is raised at the end.  Here an image service
        would take it for one of this upload, and may send the data again.
        """
        self._operation.progress.check()
        if self._failure is not None:
            raise exception.SnapshotCancelled(
                server=self._operation.instance.uuid,
                reason='another of its disks failed.',
            )

    def is_root_ahead(self) -> bool:
        """Return True if less is left of the root disk than of the others."""
        return sum(self.left[1:]) > self.left[0]

    def _begin(self, place: int, disk: driver_lib.DiskData) -> None:
        def run() -> None:
            try:
                with disk as data:
                    self._store(place, self._prepared(place, data), self.check)
            except BaseException as error:
                self._fail(error)
            finally:
                self.left[place] = 0
                self._turns.release()

        self._turns.acquire()
        self.check()
        self._threads.append(concurrency.start_thread(f'upload-{place}', run))

    def _prepared(
        self, place: int, data: driver_lib.ImageData | driver_lib.Location
    ) -> driver_lib.ImageData | driver_lib.Location:
        """Return the data of a disk with a progress of this class's own."""
        if isinstance(data, driver_lib.Location):
            self.left[place] = 0
            return data
        progress = _UploadProgress(data.progress, self, place)
        progress.note(progress_lib.Stage.UPLOADING, 0, data.size)
        return dataclasses.replace(data, progress=progress)

    def _wait_for_turn_of_root(self) -> None:
        """Wait until the root disk is not ahead of the others.

        Once all of it is sent, its connection waits for them, and the image
        service would close one that waits for long.
        """
        self._turns.acquire()
        while self.is_root_ahead():
            self._operation.progress.wait()
            self.check()

    def _require_others(self) -> None:
        """Wait until all other images are whole.

        :raises SnapshotCancelled: one of them failed.
        :raises ImageNotFound: somebody has deleted one since.
        """
        self._join()
        self.check()
        for outcome in self._outcomes[1:]:
            image_upload.require_there(
                self._images, outcome.image_id, self._operation.instance
            )

    def _store(
        self,
        place: int,
        data: driver_lib.ImageData | driver_lib.Location,
        before_active: Callable[[], None],
    ) -> None:
        others = [outcome.image_id for outcome in self._outcomes[1:]]

        def begin() -> None:
            before_active()
            self._sent.add(place)

        try:
            image_upload.store(
                self._images,
                self._outcomes[place],
                data,
                self._operation.entry,
                begin,
                others=() if place else others,
            )
        except exception.MethodUnavailable:
            self._sent.discard(place)  # the record is as it was
            raise

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error

    def _join(self) -> None:
        for thread in self._threads:
            thread.join()


class _UploadProgress(progress_lib.Progress):
    """The progress of one upload of a set; ends it if another has failed."""

    def __init__(
        self, progress: progress_lib.Progress, uploads: _Uploads, place: int
    ) -> None:
        super().__init__()
        self._progress = progress
        self._uploads = uploads
        self._place = place

    def check(self) -> None:
        """Raise if the operation is cancelled, or another upload failed."""
        self._uploads.check()

    def report(
        self, stage: progress_lib.Stage, done: int, total: int | None
    ) -> None:
        """Report, and keep the root disk from getting ahead of the others."""
        self.check()
        self.note(stage, done, total)
        if self._place == 0:
            for _poll in waiting.polls(LONGEST_PAUSE, self):
                if not self._uploads.is_root_ahead():
                    return

    def note(
        self, stage: progress_lib.Stage, done: int, total: int | None
    ) -> None:
        """Report, and note how much is left.

        Where that is not known, the root disk is sent after the others.
        """
        self._progress.report(stage, done, total)
        left = self._progress.left()
        if left is not None or self._place == 0:
            self._uploads.left[self._place] = left or 0
