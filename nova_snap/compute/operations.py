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

"""The frame around every operation on an instance, and the recovery.

The frame is the same for each operation: the instance's lock, a journal
entry, recovery of interrupted operations, a slot among the operations that
may run at once.  A plan then works on the :class:`~.driver.Operation` that
the frame yields.
"""

from collections.abc import Iterator
import contextlib
import dataclasses

from oslo_log import log as logging

from nova_snap import exception
from nova_snap import journal as journal_lib
from nova_snap import locks as locks_lib
from nova_snap import progress as progress_lib
from nova_snap import undo
from nova_snap.objects import instance as instance_lib
from nova_snap.virt import driver as driver_lib

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Recovery:
    """Result of recovering one entry of the journal.

    ``left`` names the steps that are still to be undone; ``running`` is True
    if the entry belongs to an operation that is under way, ``elsewhere`` if
    it belongs to another host, which has to recover it.
    """

    entry: journal_lib.Entry
    left: tuple[str, ...] = ()
    running: bool = False
    elsewhere: bool = False


class Operations:
    """Begins and recovers operations on the instances of one driver."""

    def __init__(
        self,
        driver: driver_lib.ComputeDriver,
        journal: journal_lib.Journal,
        locks: locks_lib.Locks,
    ) -> None:
        self._driver = driver
        self._journal = journal
        self._locks = locks

    @contextlib.contextmanager
    def begun(
        self,
        instance: instance_lib.Instance,
        progress: progress_lib.Progress,
        *services: object,
        first_step: undo.Step | None = None,
        takes_slot: bool = True,
    ) -> Iterator[driver_lib.Operation]:
        """Begin an operation; after the block everything is undone.

        :param services: objects that undo steps work on besides the guest,
            such as the image service.
        :param first_step: undoes a change that the caller has made for this
            operation, also if the operation itself does not begin.
        :param takes_slot: False leaves it to the block to wait for a slot.
        :raises SnapshotInProgress: another operation on the instance is
            running.
        :raises RecoveryNeeded: an earlier operation can't be undone.
        :raises SnapshotCancelled: cancelled while waiting for a slot.
        :raises NotUndone: the block was successful, but a step that matters
            to the instance, such as starting it, could not be undone.
        """
        resources = self._resources(instance.uuid, services)
        with (
            self._locked(instance, resources, first_step),
            self._journal.begun(
                instance.uuid, instance.name, resources
            ) as entry,
            undoing(entry, first_step),
        ):
            self._recover_instance(entry, services)
            with self._slot(progress, takes_slot):
                yield driver_lib.Operation(instance, entry, progress)
        _require_undone(entry)

    def slot(
        self, progress: progress_lib.Progress
    ) -> contextlib.AbstractContextManager[None]:
        """Wait for a slot among the operations that may run at once."""
        return self._locks.snapshot_slot(progress)

    def unreadable(self) -> tuple[journal_lib.Unreadable, ...]:
        """Return the files of the journal that can't be read."""
        return self._journal.contents().unreadable

    def recover(
        self, *services: object, only_blocking: bool = False
    ) -> Iterator[Recovery]:
        """Undo interrupted operations; safe to run at any time.

        The steps that block the next operation on a guest come first, for all
        entries, so that no guest waits for the image service.

        Files of the journal that can't be read are skipped; :meth:`unreadable`
        returns them.

        :param only_blocking: leave the other steps for another time.
        """
        self._journal.tidy()
        entries = list(self._journal.entries())
        begun = set()
        for entry in entries:
            with (
                contextlib.suppress(exception.SnapshotInProgress),
                self._locks.instance(entry.instance_uuid),
            ):
                self._recover(entry, services, blocking=True)
                begun.add(entry.id)
        if only_blocking:
            for entry in self._journal.entries():
                yield Recovery(entry, left=entry.kinds)
            return
        for entry in entries:
            blocking = False if entry.id in begun else None
            try:
                with self._locks.instance(entry.instance_uuid):
                    yield self._recover(entry, services, blocking)
            except exception.SnapshotInProgress as error:
                LOG.info('%s', error, instance_uuid=entry.instance_uuid)
                yield Recovery(entry, running=True)
        for entry in self._journal.contents().elsewhere:
            yield Recovery(entry, elsewhere=True)

    @contextlib.contextmanager
    def _locked(
        self,
        instance: instance_lib.Instance,
        resources: undo.Resources,
        first_step: undo.Step | None,
    ) -> Iterator[None]:
        """Hold the lock of an instance, or undo the first step and raise."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self._locks.instance(instance.uuid))
            except exception.SnapshotInProgress:
                with (
                    self._journal.begun(
                        instance.uuid, instance.name, resources
                    ) as entry,
                    undoing(entry, first_step),
                ):
                    raise
            yield

    def _slot(
        self, progress: progress_lib.Progress, is_wanted: bool
    ) -> contextlib.AbstractContextManager[None]:
        return self.slot(progress) if is_wanted else contextlib.nullcontext()

    def _resources(
        self, instance_uuid: str, services: tuple[object, ...]
    ) -> undo.Resources:
        return undo.Resources(
            *self._driver.resources(instance_uuid), *services
        )

    def _recover_instance(
        self, begun: journal_lib.Entry, services: tuple[object, ...]
    ) -> None:
        """Undo interrupted operations on an instance.

        :param begun: the entry of the operation that is about to begin.
        :raises RecoveryNeeded: a step that blocks can't be undone.
        """
        uuid = begun.instance_uuid
        for entry in self._journal.entries():
            if entry.instance_uuid != uuid or entry.id == begun.id:
                continue
            recovery = self._recover(entry, services)
            blocking = [
                step.kind
                for step in recovery.entry.steps
                if step.is_blocking and step.kind in recovery.left
            ]
            if blocking:
                raise exception.RecoveryNeeded(
                    server=uuid,
                    entry=entry.path,
                    reason=f'not undone: {", ".join(blocking)}.',
                )

    def _recover(
        self,
        entry: journal_lib.Entry,
        services: tuple[object, ...],
        blocking: bool | None = None,
    ) -> Recovery:
        """Undo the steps of an entry; the instance's lock is held.

        :param blocking: as in :meth:`.journal.Entry.undo_all`; False goes on
            with a recovery that was begun.
        """
        try:
            # Read again: the operation that held the lock until now may have
            # changed the entry.
            entry = journal_lib.Entry.read(entry.path)
        except FileNotFoundError:
            return Recovery(entry)  # ended meanwhile
        if blocking is not False:
            LOG.warning(
                'Undoing what was begun with server %(server)s at %(time)s '
                'and interrupted.',
                {'server': entry.instance_uuid, 'time': entry.begun_at},
                instance_uuid=entry.instance_uuid,
            )
        # The origin tells a step that this is a recovery, and lets it find out
        # whether the guest has moved to another host.
        services = (*services, entry.origin)
        entry.undo_all(
            self._resources(entry.instance_uuid, services), blocking
        )
        if not blocking:
            entry.close()
        return Recovery(entry, left=entry.kinds)


def undoing(
    entry: journal_lib.Entry, step: undo.Step | None
) -> contextlib.AbstractContextManager[None]:
    """Undo a step after a block, if there is one."""
    return contextlib.nullcontext() if step is None else entry.undoing(step)


def _require_undone(entry: journal_lib.Entry) -> None:
    blocking = [step.kind for step in entry.steps if step.is_blocking]
    if blocking:
        raise exception.NotUndone(
            server=entry.instance_uuid,
            kinds=', '.join(blocking),
            entry=entry.path,
        )
