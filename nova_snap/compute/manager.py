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

"""From a request to an image: record, driver, finished or undone."""

from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
import threading
from typing import BinaryIO

from oslo_log import log as logging

from nova_snap import concurrency
from nova_snap import exception
from nova_snap import journal as journal_lib
from nova_snap import locks as locks_lib
from nova_snap import progress as progress_lib
from nova_snap.compute import image_record
from nova_snap.compute import prepared as prepared_lib
from nova_snap.compute.volume_backed import plan as volume_backed_lib
from nova_snap.compute.volume_backed import snapshots as volume_snapshots
from nova_snap.image import api as image_api
from nova_snap.objects import instance as instance_lib
from nova_snap.objects import task_state
from nova_snap.virt import driver as driver_lib

LOG = logging.getLogger(__name__)

#: Bytes that an export writes at a time.
WRITE_SIZE = 1 << 20

#: The kind of duty that an image record is.
REMOVE_RECORD = 'remove the image record'

#: What an earlier snapshot may still owe when the next begins.
_HARMLESS = {REMOVE_RECORD, volume_snapshots.DELETE_SNAPSHOTS}


@dataclasses.dataclass(frozen=True)
class Recovery:
    """What became of one entry of the journal.

    ``left`` names what is still owed; ``running`` means that the entry
    belongs to a snapshot that is under way.
    """

    entry: journal_lib.Entry
    left: tuple[str, ...] = ()
    running: bool = False


class SnapshotManager:
    """Takes snapshots and puts right what earlier ones left behind.

    :param non_inheritable: see :func:`.image_record.build`.
    :param cancel_check_interval: seconds between two looks at whether the
        image record of a running snapshot still exists.
    :param volume_backed: what takes images of instances that boot from a
        volume; None where Nova sees to them itself.
    """

    def __init__(
        self,
        driver: driver_lib.ComputeDriver,
        images: image_api.ImageService,
        journal: journal_lib.Journal,
        locks: locks_lib.Locks,
        non_inheritable: Collection[str] = (),
        cancel_check_interval: float = 2,
        volume_backed: volume_backed_lib.VolumeBacked | None = None,
    ) -> None:
        self._driver = driver
        self._images = images
        self._journal = journal
        self._locks = locks
        self._non_inheritable = non_inheritable
        self._cancel_check_interval = cancel_check_interval
        self._volume_backed = volume_backed

    def snapshot_instance(
        self,
        instance: instance_lib.Instance,
        name: str,
        metadata: Mapping[str, str],
        progress: progress_lib.Progress,
    ) -> image_api.Image:
        """Take an image of an instance and return its record.

        :param name: of the image.
        :param metadata: additional properties of the image.
        :raises SnapshotInProgress: one is already running.
        :raises SnapshotCancelled: through ``progress``, or because somebody
            deleted the image record.
        :raises NovaSnapError: as the driver and the image service do.
        """
        image_record.validate(name, metadata)
        with self._locks.instance(instance.uuid):
            self._recover_instance(instance.uuid)
            prepared = self._prepare(instance, name, metadata)
            self._require_image_service(prepared.record.id)
            with self._locks.snapshot_slot(progress):
                return self._take(prepared, progress)

    def snapshot_to_record(
        self,
        instance: instance_lib.Instance,
        image_id: str,
        image_properties: Mapping[str, str],
        progress: progress_lib.Progress,
        update_task_state: driver_lib.UpdateTaskState,
    ) -> None:
        """Send an image of an instance to a record that somebody made.

        The record is owed from here on: it is active in the end, or gone.

        :param image_properties: those of the base image.

        Raises what :meth:`snapshot_instance` does.
        """
        with (
            self._locks.instance(instance.uuid),
            self._owing_record(instance, image_id) as entry,
        ):
            self._recover_instance(instance.uuid, but=entry)
            plan = self._driver.plan(instance, image_properties)
            with self._watched(image_id, instance, progress):
                self._driver.snapshot(
                    plan,
                    image_id,
                    self._images,
                    entry,
                    progress,
                    update_task_state,
                )

    def export_instance(
        self,
        instance: instance_lib.Instance,
        target: BinaryIO,
        progress: progress_lib.Progress,
    ) -> None:
        """Write an image of an instance to a file, without any record.

        :param target: is written in order; never sought in.
        :raises SnapshotFailed: the target takes no more, besides what
            :meth:`snapshot_instance` raises.
        """
        with self._locks.instance(instance.uuid):
            self._recover_instance(instance.uuid)
            base = self._base_image(instance)
            plan = self._driver.plan(instance, base.properties if base else {})
            with (
                self._locks.snapshot_slot(progress),
                self._journal.begun(instance.uuid, instance.name) as entry,
                self._driver.extracted(plan, entry, progress) as data,
            ):
                _write(data, target)

    def unreadable(self) -> tuple[journal_lib.Unreadable, ...]:
        """Files of the journal that recovery can make nothing of."""
        return self._journal.contents().unreadable

    def recover(self) -> Iterator[Recovery]:
        """End what interrupted snapshots began; safe to run at any time.

        See :meth:`unreadable` for what it can't begin with.
        """
        for entry in self._journal.entries():
            try:
                with self._locks.instance(entry.instance_uuid):
                    yield self._recover(entry)
            except exception.SnapshotInProgress:
                yield Recovery(entry, running=True)

    def _prepare(
        self,
        instance: instance_lib.Instance,
        name: str,
        metadata: Mapping[str, str],
    ) -> prepared_lib.Prepared:
        """By snapshots of its volumes if it boots from one, else by data."""
        if self._volume_backed is not None:
            prepared = self._volume_backed.prepare(instance, name, metadata)
            if prepared is not None:
                return prepared
        return self._prepare_data(instance, name, metadata)

    def _prepare_data(
        self,
        instance: instance_lib.Instance,
        name: str,
        metadata: Mapping[str, str],
    ) -> prepared_lib.Prepared:
        base = self._base_image(instance)
        plan = self._driver.plan(instance, base.properties if base else {})
        record = image_record.build(
            instance,
            base,
            name,
            metadata,
            plan.disk_format,
            plan.virtual_size,
            self._non_inheritable,
        )

        def take(
            entry: journal_lib.Entry,
            progress: progress_lib.Progress,
            update_task_state: driver_lib.UpdateTaskState,
        ) -> None:
            self._driver.snapshot(
                plan,
                record.id,
                self._images,
                entry,
                progress,
                update_task_state,
            )

        return prepared_lib.Prepared(instance, record, take)

    def _take(
        self, prepared: prepared_lib.Prepared, progress: progress_lib.Progress
    ) -> image_api.Image:
        instance, record = prepared.instance, prepared.record
        _log_task_state(instance, task_state.TaskState.IMAGE_SNAPSHOT)
        with self._owing_record(instance, record.id) as entry:
            self._images.create(record)
            with self._watched(record.id, instance, progress):
                prepared.take(
                    entry,
                    progress,
                    lambda state: _log_task_state(instance, state),
                )
        return self._images.get(record.id)

    @contextlib.contextmanager
    def _owing_record(
        self, instance: instance_lib.Instance, image_id: str
    ) -> Iterator[journal_lib.Entry]:
        """An entry that owes the image record, until it is active."""
        with (
            self._journal.begun(instance.uuid, instance.name) as entry,
            entry.owing(REMOVE_RECORD, self._remove_record, image_id=image_id),
        ):
            yield entry

    @contextlib.contextmanager
    def _watched(
        self,
        image_id: str,
        instance: instance_lib.Instance,
        progress: progress_lib.Progress,
    ) -> Iterator[None]:
        """Cancel the snapshot when somebody deletes its record."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(self._cancel_check_interval):
                if self._is_deleted(image_id):
                    progress.cancel('its image was deleted.')
                    return

        concurrency.start_thread(f'watch-{image_id}', watch)
        try:
            yield
        except exception.ImageCorrupt:
            # It may be active, and must not stay so.
            self._images.delete(image_id)
            raise
        except (exception.ImageNotFound, exception.ImageConflict):
            if not self._is_deleted(image_id):
                raise
            raise exception.SnapshotCancelled(
                server=instance.uuid, reason='its image was deleted.'
            ) from None
        finally:
            ended.set()

    def _is_deleted(self, image_id: str) -> bool:
        try:
            image = self._images.get(image_id)
        except exception.ImageNotFound:
            return True
        except exception.NovaSnapError as error:
            LOG.debug('Image %s could not be looked at: %s', image_id, error)
            return False
        return image_api.ImageStatus.is_gone(image.status)

    def _remove_record(self, data: journal_lib.Data) -> None:
        """Delete a record, unless its data arrived whole."""
        image_id = data['image_id']
        try:
            image = self._images.get(image_id)
        except exception.ImageNotFound:
            return
        if image.status != image_api.ImageStatus.ACTIVE:
            self._images.delete(image_id)

    def _require_image_service(self, image_id: str) -> None:
        """Find out that the service does not answer before anything begins.

        Later there would be a record to remove, which may or may not exist.
        """
        with contextlib.suppress(exception.ImageNotFound):
            self._images.get(image_id)

    def _base_image(
        self, instance: instance_lib.Instance
    ) -> image_api.Image | None:
        if instance.image_ref is None:
            return None
        try:
            return self._images.get(instance.image_ref)
        except exception.ImageNotFound:
            LOG.info(
                'Server %(server)s was booted from image %(image)s, which '
                'does not exist any more; its snapshot inherits nothing.',
                {'server': instance.uuid, 'image': instance.image_ref},
            )
            return None

    def _recover_instance(
        self, uuid: str, but: journal_lib.Entry | None = None
    ) -> None:
        """End what earlier snapshots of an instance left behind.

        A record or a volume snapshot that can't be removed is in nobody's
        way.

        :param but: the entry of the snapshot that is about to begin.
        """
        for entry in self._journal.entries():
            if entry.instance_uuid == uuid and entry.id != (but and but.id):
                recovery = self._recover(entry)
                if set(recovery.left) - _HARMLESS:
                    raise exception.RecoveryNeeded(
                        server=uuid,
                        entry=entry.path,
                        reason=f'still owed: {", ".join(recovery.left)}.',
                    )

    def _recover(self, entry: journal_lib.Entry) -> Recovery:
        """Undo what an entry owes; the instance's lock is held."""
        try:
            # Now that the lock is ours; before, its owner may have changed it.
            entry = journal_lib.Entry.read(entry.path)
        except FileNotFoundError:
            return Recovery(entry)  # ended meanwhile
        LOG.warning(
            'Ending the snapshot of server %(server)s that was begun at '
            '%(time)s and interrupted.',
            {'server': entry.instance_uuid, 'time': entry.begun_at},
        )
        entry.undo_all(
            {
                REMOVE_RECORD: self._remove_record,
                **self._driver.undoers(entry.instance_uuid),
                **(
                    self._volume_backed.undoers()
                    if self._volume_backed
                    else {}
                ),
            }
        )
        entry.close()
        return Recovery(entry, left=tuple(d.kind for d in entry.duties))


def _write(data: driver_lib.ImageData, target: BinaryIO) -> None:
    written = 0
    while chunk := data.stream.read(WRITE_SIZE):
        try:
            target.write(chunk)
        except OSError as error:
            raise exception.SnapshotFailed(
                f'The image could not be written: {error.strerror}.'
            ) from error
        written += len(chunk)
        data.progress.report(progress_lib.Stage.WRITING, written, data.size)


def _log_task_state(
    instance: instance_lib.Instance, state: task_state.TaskState
) -> None:
    LOG.info(
        'Server %(server)s: task state %(state)s.',
        {'server': instance.uuid, 'state': state.value},
    )
