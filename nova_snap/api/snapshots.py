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

"""The snapshots that the service takes: running, waiting, and how many.

A request is answered as soon as its image record exists; the snapshot goes on
in a thread of its own.  The core lets so many of them work at once as
``[DEFAULT] max_concurrent_snapshots`` says, and the others wait.  Open this
file for what becomes of a snapshot when the service ends.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import functools
import threading
import time

from oslo_log import log as logging

from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap.api import calls
from nova_snap.api import works
from nova_snap.compute import manager as manager_lib
from nova_snap.image import api as image_api
from nova_snap.objects import instance as instance_lib
from nova_snap.objects import task_state as task_states

LOG = logging.getLogger(__name__)

#: Seconds within which snapshots are undone that the end of the service has
#: cancelled.
UNDO_TIMEOUT = 120


@dataclasses.dataclass(frozen=True)
class Wanted:
    """The image that a request wants.

    :ivar own: properties that override those of the user.
    :ivar owner: the project that the image belongs to; None leaves that to
        the image service.
    :ivar then: called with the image's ID when the image is active; what it
        raises is logged.
    """

    instance: instance_lib.Instance
    name: str
    metadata: Mapping[str, str]
    own: Mapping[str, str] = dataclasses.field(default_factory=dict)
    owner: str | None = None
    then: Callable[[str], None] | None = None


class QueueFull(exception.NovaSnapError):
    """No further snapshot can be accepted now; a later one can."""

    message = (
        'This service takes or keeps waiting as many snapshots as it may '
        '(%(limit)d); try again later.'
    )


@dataclasses.dataclass
class Snapshot:
    """A snapshot from its request until its end.

    :ivar image_id: of the root disk's image; '' until its record exists.
    :ivar report: the last report of its progress.
    :ivar stage_began: the first report of its current stage.
    :ivar accepted_at: seconds of the monotonic clock at which it was made.
    :ivar began_at: the same, at which it got its turn.
    :ivar is_complete: the image is active; what follows, such as the rotation
        of backups, can't be cancelled.
    """

    instance: instance_lib.Instance
    task_state: task_states.TaskState = (
        task_states.TaskState.IMAGE_SNAPSHOT_PENDING
    )
    image_id: str = ''
    report: progress_lib.Report | None = None
    stage_began: progress_lib.Report | None = None
    stage_began_at: float = 0
    accepted_at: float = dataclasses.field(default_factory=time.monotonic)
    began_at: float | None = None
    is_complete: bool = False
    progress: progress_lib.Progress = dataclasses.field(init=False)
    has_ended: threading.Event = dataclasses.field(
        default_factory=threading.Event
    )

    def __post_init__(self) -> None:
        """Make the channel by which the work reports, and is cancelled."""
        self.progress = progress_lib.Progress(self.instance.uuid, self._note)

    @property
    def is_waiting(self) -> bool:
        """Return True if others have to end before this one works."""
        return self.began_at is None

    @property
    def per_cent(self) -> int:
        """How much of the current stage is done."""
        return self.report.per_cent if self.report else 0

    def enter(self, state: task_states.TaskState) -> None:
        """Note a new task state."""
        self.task_state = state
        if self.began_at is None:
            self.began_at = time.monotonic()

    @property
    def rate(self) -> float | None:
        """Bytes per second of the current stage; None if it just began."""
        report, first = self.report, self.stage_began
        if report is None or first is None:
            return None
        seconds = time.monotonic() - self.stage_began_at
        return (report.done - first.done) / seconds if seconds > 1 else None

    def _note(self, report: progress_lib.Report) -> None:
        if self.report is None or report.stage != self.report.stage:
            self.stage_began = report
            self.stage_began_at = time.monotonic()
        self.report = report


class Observer:
    """What is told of every snapshot.  Every method may be overridden."""

    def accepted(self, snapshot: Snapshot) -> None:
        """Note that its record exists, and its request is about to succeed."""

    def began(self, snapshot: Snapshot) -> None:
        """Note that it has got its turn."""

    def ended(self, snapshot: Snapshot, error: Exception | None) -> None:
        """Note its end; None is a success."""


class Snapshots:
    """The snapshots of one service.

    :param limit: how many run and wait at most; 0: any number.
    :param observer: is told of all, besides the watcher of each.
    """

    def __init__(
        self,
        manager: manager_lib.SnapshotManager,
        limit: int,
        observer: Observer | None = None,
    ) -> None:
        self._manager = manager
        self._limit = limit
        self._observer = observer or Observer()
        self._works: works.Works[Snapshot] = works.Works()

    @property
    def is_stopping(self) -> bool:
        """Return True if no snapshot is accepted any more."""
        return self._works.is_closed

    def start(
        self,
        wanted: Wanted,
        images: image_api.ImageService,
        watcher: calls.Watcher,
    ) -> str:
        """Begin a snapshot; return the ID of its image, which is not active.

        :raises SnapshotInProgress: one of the instance runs, or waits.
        :raises QueueFull: there are too many.
        :raises Stopping: the service is about to end.
        :raises NovaSnapError: the guest or the image service does not allow
            it; nothing is left.
        """
        snapshot = Snapshot(wanted.instance)
        self._works.admit(snapshot, functools.partial(self._check, snapshot))
        call = calls.Call('no image record exists')
        work = _Work(wanted, snapshot, images, watcher, self._observer, call)
        calls.start_thread(
            f'snapshot-{wanted.instance.uuid}',
            lambda: self._take(work),
            lambda: self._works.remove(snapshot),
        )
        call.wait()
        return snapshot.image_id

    def of(self, instance_uuid: str) -> Snapshot | None:
        """Return the snapshot of an instance that runs or waits, if any."""
        return self._works.of(instance_uuid)

    def __iter__(self) -> Iterator[Snapshot]:
        """Yield the snapshots that run or wait."""
        return iter(self._works)

    def stop(self, timeout: float) -> None:
        """Accept no more, cancel what waits, and let the others end.

        What still runs after ``timeout`` seconds is cancelled, too.  Return
        when everything has ended, and is undone; or after UNDO_TIMEOUT, and
        leave the rest to the journal.
        """
        reason = 'the service is being stopped.'
        self._works.close()
        for snapshot in self:
            if snapshot.is_waiting:
                snapshot.progress.cancel(reason)
        if self._works.wait(timeout):
            return
        for snapshot in self:
            snapshot.progress.cancel(reason)
        if not self._works.wait(UNDO_TIMEOUT):
            for snapshot in self:
                LOG.warning(
                    'The service ends before the snapshot of server %s is '
                    'undone; its next start does that.',
                    snapshot.instance.uuid,
                    instance_uuid=snapshot.instance.uuid,
                )

    def _check(
        self, snapshot: Snapshot, table: Mapping[str, Snapshot]
    ) -> None:
        """Raise NovaSnapError if a snapshot may not begin or wait now."""
        uuid = snapshot.instance.uuid
        if uuid in table:
            raise exception.SnapshotInProgress(
                server=uuid, holder='this service'
            )
        if self._limit and len(table) >= self._limit:
            raise QueueFull(limit=self._limit)

    def _take(self, work: '_Work') -> None:
        """Do the work of a snapshot, in its thread; note how it ended."""
        error: Exception | None = None
        try:
            work.do(self._manager)
        except Exception as failure:
            error = failure
        self._end(work.snapshot, work.watcher, error)
        work.call.answer(error)

    def _end(
        self,
        snapshot: Snapshot,
        watcher: calls.Watcher,
        error: Exception | None,
    ) -> None:
        """Forget a snapshot, after its end was noted.

        A client that sees no task state any more asks for the outcome.
        """
        uuid = snapshot.instance.uuid
        if error is None:
            LOG.info(
                'The snapshot of server %(server)s is complete: image '
                '%(image)s, by %(method)s, %(bytes)d bytes sent.',
                {
                    'server': uuid,
                    'image': snapshot.image_id,
                    'method': snapshot.progress.measured.method,
                    'bytes': snapshot.progress.measured.image_bytes,
                },
                instance_uuid=uuid,
            )
        elif snapshot.image_id:
            _log_failure(uuid, error)
        with contextlib.ExitStack() as stack:
            stack.callback(self._works.remove, snapshot)
            if snapshot.image_id:
                stack.callback(self._observer.ended, snapshot, error)
                watcher.ended(error)


@dataclasses.dataclass(frozen=True)
class _Work:
    """The work of one snapshot, and who is told of it.

    :ivar watcher: of this snapshot.
    :ivar observer: of all snapshots.
    :ivar call: the request, which waits until the work is accepted.
    """

    wanted: Wanted
    snapshot: Snapshot
    images: image_api.ImageService
    watcher: calls.Watcher
    observer: Observer
    call: calls.Call

    def do(self, manager: manager_lib.SnapshotManager) -> None:
        """Take the snapshot; return when all of it is done.

        :raises Exception: whatever keeps the image from being made.
        """
        manager.accept_snapshot(
            self.wanted.instance,
            self.wanted.name,
            self.wanted.metadata,
            self.images,
            self.snapshot.progress,
            self._accepted,
            self._enter,
            self.wanted.own,
            self.wanted.owner,
        )
        self.snapshot.is_complete = True
        _follow_up(self.wanted, self.snapshot)

    def _accepted(self, records: Sequence[image_api.Image]) -> None:
        """Let the request succeed: the image records exist."""
        self.call.claim()
        self.snapshot.image_id = records[0].id
        self.watcher.accepted(
            self.snapshot.instance.uuid, self.snapshot.image_id
        )
        self.observer.accepted(self.snapshot)
        self.call.answer(None)

    def _enter(self, state: task_states.TaskState) -> None:
        """Note a new task state; the first one ends the waiting."""
        was_waiting = self.snapshot.is_waiting
        self.snapshot.enter(state)
        if was_waiting:
            self.watcher.began()
            self.observer.began(self.snapshot)


def _follow_up(wanted: Wanted, snapshot: Snapshot) -> None:
    """Do what a request wants after its image; the image is a success."""
    if wanted.then is None:
        return
    try:
        wanted.then(snapshot.image_id)
    except Exception:
        LOG.exception(
            'After image %s was made something failed.',
            snapshot.image_id,
            instance_uuid=wanted.instance.uuid,
        )


def _log_failure(uuid: str, error: Exception) -> None:
    is_known = isinstance(error, exception.NovaSnapError)
    LOG.error(
        'The snapshot of server %(server)s failed: %(error)s',
        {'server': uuid, 'error': error},
        instance_uuid=uuid,
        exc_info=None if is_known else error,
    )
