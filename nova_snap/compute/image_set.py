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

from nova_snap import concurrency
from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap import undo
from nova_snap.compute import image_record
from nova_snap.compute import image_upload
from nova_snap.image import api as image_api
from nova_snap.virt import driver as driver_lib

#: Properties of each image of a set: the ID of the root disk's image, the
#: target name of the image's own disk, and those of all disks.
SET = 'nova_snap:set'
DEVICE = 'nova_snap:device'
DISKS = 'nova_snap:disks'


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
    own = properties(root.id, plan, plan.images[0])
    first = dataclasses.replace(root, properties={**root.properties, **own})
    further = [
        image_record.of_further_disk(
            plan.instance,
            f'{root.name}-{image.device}',
            {**metadata, **properties(root.id, plan, image)},
            image.format,
            image.virtual_size,
        )
        for image in plan.images[1:]
    ]
    for record in further:
        image_record.validate(record.name, {})
    return [first, *further]


@dataclasses.dataclass
class Whole:
    """Whether all images of a set are active, as the running process knows."""

    is_whole: bool = False


@dataclasses.dataclass(frozen=True)
class RemoveSet(undo.Step, kind='remove the images of an incomplete set'):
    """Remove all images of a set of which one is missing.

    :ivar whole: only the process that sends the data has it.
    """

    image_ids: Sequence[str]
    whole: Whole | None = dataclasses.field(
        default=None, compare=False, repr=False, metadata=undo.VOLATILE
    )

    # Records that are left do not keep the next operation from running.
    is_blocking = False

    def undo(self, resources: undo.Resources) -> None:
        """Delete every image of the set, unless the set is whole.

        A recovery leaves active images alone where none is incomplete: the
        operation may have been killed at its very end, and a user may have
        deleted one of them since.

        :raises NovaSnapError: the last error of the image service.
        """
        images = resources.get(image_api.ImageService)
        if self.whole is not None and self.whole.is_whole:
            return
        found = list(_existing(images, self.image_ids))
        if self.whole is None and all(map(_is_active, found)):
            return
        failure: exception.NovaSnapError | None = None
        for image in found:
            try:
                images.delete(image.id)
            except exception.NovaSnapError as error:
                failure = error
        if failure is not None:
            raise failure


@contextlib.contextmanager
def created(
    operation: driver_lib.Operation,
    images: image_api.ImageService,
    records: Sequence[image_api.Image],
) -> Iterator[None]:
    """Create records for a block that makes all of them active.

    If it fails, none of them stays.
    """
    if len(records) == 1:
        step = image_upload.RemoveRecord(records[0].id)
        with operation.entry.undoing(step):
            images.create(records[0])
            yield
        return
    with _all_or_none(operation, records):
        for record in records:
            images.create(record)
        yield


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
    with _all_or_none(operation, records):
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


@contextlib.contextmanager
def _all_or_none(
    operation: driver_lib.Operation, records: Sequence[image_api.Image]
) -> Iterator[None]:
    """Remove the images of a set if the block fails."""
    whole = Whole()
    step = RemoveSet([record.id for record in records], whole)
    with operation.entry.undoing(step):
        yield
        whole.is_whole = True


def _existing(
    images: image_api.ImageService, image_ids: Sequence[str]
) -> Iterator[image_api.Image]:
    for image_id in image_ids:
        with contextlib.suppress(exception.ImageNotFound):
            yield images.get(image_id)


def _is_active(image: image_api.Image) -> bool:
    return image.status == image_api.ImageStatus.ACTIVE


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
        self.failure: BaseException | None = None

    def run(self, disks: Sequence[driver_lib.DiskData]) -> None:
        """Run all uploads, and return when every one has ended."""
        try:
            for place, disk in enumerate(disks[1:], 1):
                self._begin(place, disk)
            self._wait_for_turn_of_root()
            self._upload(0, disks[0], self._wait_for_others)
        except BaseException as error:
            self._fail(error)
        self._join()
        if self.failure is not None:
            raise self.failure

    def check(self) -> None:
        """Raise if the operation is cancelled, or another upload failed."""
        self._operation.progress.check()
        if self.failure is not None:
            raise self.failure

    def _begin(self, place: int, disk: driver_lib.DiskData) -> None:
        def run() -> None:
            try:
                self._upload(place, disk, self.check)
            except BaseException as error:
                self._fail(error)
            finally:
                self.left[place] = 0
                self._turns.release()

        self._turns.acquire()
        self.check()
        self._threads.append(concurrency.start_thread(f'upload-{place}', run))

    def _wait_for_turn_of_root(self) -> None:
        """Wait until little enough is left of the other disks.

        Once all of the root disk is sent, its connection waits for them, and
        the image service would close one that waits for long.
        """
        self._turns.acquire()
        while sum(self.left[1:]) > self.left[0]:
            self._operation.progress.wait()
            self.check()

    def _wait_for_others(self) -> None:
        self._join()
        self.check()

    def _upload(
        self,
        place: int,
        disk: driver_lib.DiskData,
        before_active: Callable[[], None],
    ) -> None:
        with disk as data:
            if isinstance(data, driver_lib.ImageData):
                progress = _UploadProgress(data.progress, self, place)
                data = dataclasses.replace(data, progress=progress)
            image_upload.store(
                self._images,
                self._outcomes[place],
                data,
                self._operation.entry,
                before_active,
            )

    def _fail(self, error: BaseException) -> None:
        if self.failure is None:
            self.failure = error

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
        """Report, and note how much is left."""
        self.check()
        if total is not None:
            self._uploads.left[self._place] = total - done
        self._progress.report(stage, done, total)
