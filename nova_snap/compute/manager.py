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

"""The operations on instances that a request asks for.

Open this file for the steps of an image snapshot or an export at the highest
level; the lock, the journal and the recovery are in ``operations.py``.
"""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import itertools
from typing import BinaryIO

from oslo_log import log as logging
from oslo_utils import units

from nova_snap import exception
from nova_snap import journal as journal_lib
from nova_snap import locks as locks_lib
from nova_snap import progress as progress_lib
from nova_snap.compute import export_target
from nova_snap.compute import image_definition
from nova_snap.compute import image_location
from nova_snap.compute import image_record
from nova_snap.compute import image_set
from nova_snap.compute import image_upload
from nova_snap.compute import operations
from nova_snap.compute.volume_backed import plan as volume_plan
from nova_snap.image import api as image_api
from nova_snap.objects import instance as instance_lib
from nova_snap.objects import task_state as task_states
from nova_snap.virt import driver as driver_lib

LOG = logging.getLogger(__name__)

#: Bytes that an export writes at a time.
WRITE_SIZE = 1 * units.Mi

#: Callback that gets the records of the images, before there is any data.
Accepted = Callable[[Sequence[image_api.Image]], None]

#: Callback that records a new task state of an instance.
UpdateTaskState = Callable[[task_states.TaskState], None]


class SnapshotManager:
    """Image snapshots, exports and recovery of the instances of one driver.

    :param non_inheritable: see :func:`.image_record.build`.
    :param cancel_check_interval: seconds between two checks that the image
        record of a running operation still exists.
    :param volume_backed: plans images of instances that boot from a volume;
        None where Nova takes these images itself.
    :param parallel_disks: disks of one instance that are read at the same
        time.
    """

    def __init__(
        self,
        driver: driver_lib.ComputeDriver,
        journal: journal_lib.Journal,
        locks: locks_lib.Locks,
        non_inheritable: Collection[str] = (),
        cancel_check_interval: float = 2,
        volume_backed: volume_plan.VolumeBacked | None = None,
        parallel_disks: int = 2,
    ) -> None:
        self._driver = driver
        self._operations = operations.Operations(driver, journal, locks)
        self._non_inheritable = non_inheritable
        self._cancel_check_interval = cancel_check_interval
        self._volume_backed = volume_backed
        self._parallel_disks = parallel_disks

    def snapshot_instance(
        self,
        instance: instance_lib.Instance,
        name: str,
        metadata: Mapping[str, str],
        images: image_api.ImageService,
        progress: progress_lib.Progress,
        with_definition: bool = True,
        own: Mapping[str, str] | None = None,
    ) -> tuple[image_api.Image, ...]:
        """Take an image of each disk that a request is about.

        Return their records, that of the root disk first.

        :param name: of the root disk's image; the others have the name of
            their disk behind it.
        :param metadata: additional properties of the image.
        :param with_definition: the image says which hardware the guest has.
        :param own: properties of the root disk's image that override others.
        :raises SnapshotInProgress: another snapshot of the instance is
            running.
        :raises SnapshotCancelled: through ``progress``, or because somebody
            deleted the image record.
        :raises NovaSnapError: as the driver and the image service do.
        """
        image_record.validate(name, metadata)
        with self.begun(instance, progress, images) as operation:
            plan, records = self._plan(instance, name, metadata, images)
            records[0] = _with_properties(records[0], own or {})
            if with_definition:
                records[0] = image_definition.added(records[0], plan)
            _require_image_service(images, records[0].id)
            _log_task_state(instance, task_states.TaskState.IMAGE_SNAPSHOT)
            with (
                operations.undoing(operation.entry, plan.named_step()),
                image_set.created(operation, images, records) as created,
            ):
                self._send(
                    plan,
                    operation,
                    images,
                    created,
                    lambda state: _log_task_state(instance, state),
                )
        return tuple(images.get(record.id) for record in records)

    def accept_snapshot(
        self,
        instance: instance_lib.Instance,
        name: str,
        metadata: Mapping[str, str],
        images: image_api.ImageService,
        progress: progress_lib.Progress,
        accepted: Accepted,
        update_task_state: UpdateTaskState,
        own: Mapping[str, str] | None = None,
        owner: str | None = None,
    ) -> None:
        """Take images as :meth:`snapshot_instance` does, for who can't wait.

        The records are created at once, before the operation waits for others
        to end.  The instance's lock is held from the beginning.

        :param accepted: called with the records, that of the root disk first.
            What is raised before comes from the request itself.
        :param own: properties of the root disk's image that override others.
        :param owner: the project that the images belong to; None leaves that
            to the image service.
        :raises SnapshotFailed: or what :meth:`snapshot_instance` raises.
        """
        image_record.validate(name, metadata)
        with self.begun(
            instance, progress, images, takes_slot=False
        ) as operation:
            plan, records = self._plan(instance, name, metadata, images)
            progress.measured.method = plan.method
            records[0] = _with_properties(records[0], own or {})
            records[0] = image_definition.added(records[0], plan)
            records = [dataclasses.replace(r, owner=owner) for r in records]
            _require_image_service(images, records[0].id)
            named = plan.named_step()
            with (
                operations.undoing(operation.entry, named),
                image_set.created(operation, images, records) as created,
            ):
                accepted(created)
                with self._turn(operation, images, created):
                    update_task_state(task_states.TaskState.IMAGE_SNAPSHOT)
                    if named is None:
                        # The guest may be another one by now.
                        plan, now = self._plan(
                            instance, name, metadata, images
                        )
                        image_set.require_same_disks(instance, records, now)
                    self._send(
                        plan,
                        operation,
                        images,
                        created,
                        update_task_state,
                    )

    def snapshot_to_record(
        self,
        instance: instance_lib.Instance,
        record: image_api.Image,
        image_properties: Mapping[str, str],
        images: image_api.ImageService,
        progress: progress_lib.Progress,
        update_task_state: UpdateTaskState,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Send an image of an instance to a record that exists already.

        This method takes over the record: in the end it is active, or
        deleted.  If the request is about several disks, the record is that of
        the root disk, and the others are made.  Raises what
        :meth:`snapshot_instance` does.

        :param record: just read; ``image_properties`` are the base image's.
        :param metadata: additional properties of the records that are made.
        """
        step = image_upload.RemoveRecord(record.id)
        with self.begun(instance, progress, images, step) as operation:
            plan = self._driver.plan(instance, image_properties)
            records = image_set.records(record, plan, metadata or {})
            with image_set.added(operation, images, record, records):
                self._send(plan, operation, images, records, update_task_state)
            # It is active: the image service need not be asked.
            operation.entry.drop(step)

    def export_instance(
        self,
        instance: instance_lib.Instance,
        target: export_target.Target,
        images: image_api.ImageService,
        progress: progress_lib.Progress,
    ) -> None:
        """Write an image of an instance to a file, without any record.

        :param target: is opened once the plan is made, and written in order.
        :param images: the image service that may have the base image.
        :raises SnapshotFailed: writing to the target failed.
        """
        with self.begun(instance, progress, images) as operation:
            base = _base_image(instance, images)
            plan = self._driver.plan(instance, base.properties if base else {})
            with (
                target.opened(operation) as stream,
                contextlib.ExitStack() as stack,
            ):
                _write(_entered(plan, operation, stack), stream)

    def unreadable(self) -> tuple[journal_lib.Unreadable, ...]:
        """Return the files of the journal that can't be read."""
        return self._operations.unreadable()

    def recover(
        self, images: image_api.ImageService, only_blocking: bool = False
    ) -> Iterator[operations.Recovery]:
        """Undo interrupted operations; safe to run at any time.

        :param only_blocking: see :meth:`.Operations.recover`.
        """
        return self._operations.recover(
            *self._services(images), only_blocking=only_blocking
        )

    def begun(
        self,
        instance: instance_lib.Instance,
        progress: progress_lib.Progress,
        images: image_api.ImageService,
        first_step: image_upload.RemoveRecord | None = None,
        takes_slot: bool = True,
    ) -> contextlib.AbstractContextManager[driver_lib.Operation]:
        """Begin an operation on an instance; see :meth:`.Operations.begun`.

        What undo steps work on are the services that operations here use.
        """
        return self._operations.begun(
            instance,
            progress,
            *self._services(images),
            first_step=first_step,
            takes_slot=takes_slot,
        )

    def slot(
        self, progress: progress_lib.Progress
    ) -> contextlib.AbstractContextManager[None]:
        """Wait for a slot among the operations that may run at once."""
        return self._operations.slot(progress)

    def _services(self, images: image_api.ImageService) -> tuple[object, ...]:
        services = images, image_location.Records(images)
        if self._volume_backed is None or self._volume_backed.volumes is None:
            return services
        return *services, self._volume_backed.volumes

    def _plan(
        self,
        instance: instance_lib.Instance,
        name: str,
        metadata: Mapping[str, str],
        images: image_api.ImageService,
    ) -> tuple[driver_lib.Plan, list[image_api.Image]]:
        """Plan by snapshots of volumes, or by data of the disks."""
        if self._volume_backed is not None:
            planned = self._volume_backed.plan(instance, name, metadata)
            if planned is not None:
                return planned, image_set.records(
                    planned.record, planned, metadata
                )
        base = _base_image(instance, images)
        base_properties = base.properties if base else {}
        plan = self._driver.plan(instance, base_properties)
        root = image_record.build(
            instance,
            base,
            name,
            metadata,
            plan.images[0].format,
            plan.images[0].virtual_size,
            self._non_inheritable,
            plan.hardware(),
        )
        if self._volume_backed is not None:
            plan = self._volume_backed.with_volumes(
                plan, root, base_properties
            )
        return plan, image_set.records(root, plan, metadata)

    @contextlib.contextmanager
    def _turn(
        self,
        operation: driver_lib.Operation,
        images: image_api.ImageService,
        records: Sequence[image_api.Image],
    ) -> Iterator[None]:
        """Wait for a slot, as long as nobody deletes one of the records."""
        with contextlib.ExitStack() as stack:
            with image_upload.watched(
                images,
                [record.id for record in records],
                operation.instance,
                operation.progress,
                self._cancel_check_interval,
            ):
                stack.enter_context(self._operations.slot(operation.progress))
            yield

    def _send(
        self,
        plan: driver_lib.Plan,
        operation: driver_lib.Operation,
        images: image_api.ImageService,
        records: Sequence[image_api.Image],
        update_task_state: UpdateTaskState,
    ) -> None:
        """Follow a plan, or the first available of its alternatives."""
        root, *further = (
            driver_lib.Record(record.id, record.owner) for record in records
        )
        operation = dataclasses.replace(
            operation, record=root, further_records=tuple(further)
        )
        update_task_state(task_states.TaskState.IMAGE_PENDING_UPLOAD)
        with image_upload.watched(
            images,
            [record.id for record in records],
            operation.instance,
            operation.progress,
            self._cancel_check_interval,
        ) as outcomes:
            for candidate in itertools.chain((plan,), plan.alternatives()):
                operation.progress.measured.method = candidate.method
                if candidate.is_streamed:
                    images.prepare(records[0].id)
                try:
                    with candidate.extracted(operation) as extraction:
                        update_task_state(
                            task_states.TaskState.IMAGE_UPLOADING
                        )
                        image_set.store(
                            images,
                            outcomes,
                            candidate,
                            extraction,
                            operation,
                            self._parallel_disks,
                        )
                    _log_measured(operation, outcomes)
                    return
                except exception.MethodUnavailable as error:
                    failure = error
                    _log_unavailable(operation, error)
            raise failure


def _entered(
    plan: driver_lib.Plan,
    operation: driver_lib.Operation,
    stack: contextlib.ExitStack,
) -> driver_lib.Extraction:
    """Begin to follow a plan, or the first available of its alternatives."""
    for candidate in itertools.chain((plan,), plan.alternatives()):
        try:
            return stack.enter_context(candidate.extracted(operation))
        except exception.MethodUnavailable as error:
            failure = error
            _log_unavailable(operation, error)
    raise failure


def _log_measured(
    operation: driver_lib.Operation, outcomes: Sequence[image_upload.Outcome]
) -> None:
    measured = operation.progress.measured
    measured.enter(None)
    measured.image_bytes = sum(outcome.size for outcome in outcomes)
    LOG.info(
        'Image %(image)s of server %(server)s: %(measured)s.',
        {
            'image': operation.record and operation.record.image_id,
            'server': operation.instance.uuid,
            'measured': measured,
        },
        instance_uuid=operation.instance.uuid,
    )


def _log_unavailable(
    operation: driver_lib.Operation, error: exception.MethodUnavailable
) -> None:
    LOG.info('%s', error, instance_uuid=operation.instance.uuid)


def _with_properties(
    record: image_api.Image, properties: Mapping[str, str]
) -> image_api.Image:
    return dataclasses.replace(
        record, properties={**record.properties, **properties}
    )


def _require_image_service(
    images: image_api.ImageService, image_id: str
) -> None:
    """Raise an error now if the image service does not answer.

    If the request for the record failed, it would not be known whether there
    is a record to remove.
    """
    with contextlib.suppress(exception.ImageNotFound):
        images.get(image_id)


def _base_image(
    instance: instance_lib.Instance, images: image_api.ImageService
) -> image_api.Image | None:
    if instance.image_ref is None:
        return None
    try:
        return images.get(instance.image_ref)
    except exception.ImageNotFound:
        LOG.info(
            'Server %(server)s was booted from image %(image)s, which '
            'does not exist any more; its snapshot inherits nothing.',
            {'server': instance.uuid, 'image': instance.image_ref},
            instance_uuid=instance.uuid,
        )
        return None


def _write(extraction: driver_lib.Extraction, target: BinaryIO) -> None:
    with extraction.disks[0] as data:
        if isinstance(data, driver_lib.Location):
            raise exception.SnapshotFailed(
                f'The image is at {data.url}, and has no data to write here.'
            )
        written = 0
        while chunk := data.stream.read(WRITE_SIZE):
            try:
                target.write(chunk)
            except OSError as error:
                raise exception.SnapshotFailed(
                    f'The image could not be written: {error.strerror}.'
                ) from error
            written += len(chunk)
            data.progress.report(
                progress_lib.Stage.WRITING, written, data.size
            )


def _log_task_state(
    instance: instance_lib.Instance, state: task_states.TaskState
) -> None:
    LOG.info(
        'Server %(server)s: task state %(state)s.',
        {'server': instance.uuid, 'state': state.value},
        instance_uuid=instance.uuid,
    )
