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

"""Requests for volume snapshots, sent at once, while a guest may be frozen.

Open this file when a guest is frozen for too long.  Each volume has a thread
that requests its snapshot and then polls the snapshot's status.  So the times
of the volumes do not add up, and the waiting thread can stop waiting at any
time.  The purpose of the snapshots, and their deletion, are in
``snapshots.py``.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import functools
import threading
import time

from oslo_log import log as logging

from nova_snap import concurrency
from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap.volume import api as volume_api

LOG = logging.getLogger(__name__)

#: Requests that are sent to Cinder at the same time, at most.
AT_ONCE = 8

#: Seconds between two checks of a snapshot's status, and of a cancellation.
QUICK_INTERVAL = 0.1

#: Seconds after which no answer can come any more: a login and a request, and
#: both again where the token has expired, take at most 15 seconds each.
ANSWER_TIMEOUT = 60

#: Errors that mean that Cinder has made no snapshot.
_REJECTIONS = (
    exception.VolumeNotFound,
    exception.VolumeConflict,
    exception.VolumeNotPermitted,
    exception.VolumeQuotaExceeded,
    exception.VolumeRejected,
)


@dataclasses.dataclass
class _Request:
    """State of the request for one snapshot.

    :ivar snapshot: as last read from Cinder; None before the answer.
    :ivar error: the error of the request, if it failed.
    :ivar is_out_of_sight: True if reading the snapshot's status has failed.
    """

    volume: volume_api.Volume
    is_sent: bool = False
    snapshot: volume_api.Snapshot | None = None
    error: Exception | None = None
    is_out_of_sight: bool = False

    @property
    def is_answered(self) -> bool:
        return self.snapshot is not None or self.error is not None

    @property
    def is_taken(self) -> bool:
        return self.snapshot is not None and not is_creating(self.snapshot)


class Requests:
    """The requests for the snapshots of some volumes.

    :param ask: requests a snapshot; raises as the volume service does.
    :param look: reads a snapshot again, with a short timeout.
    :param instance_uuid: for the log.
    """

    def __init__(
        self,
        volumes: Sequence[volume_api.Volume],
        ask: Callable[[volume_api.Volume], volume_api.Snapshot],
        look: Callable[[volume_api.Snapshot], volume_api.Snapshot],
        instance_uuid: str,
    ) -> None:
        self._instance_uuid = instance_uuid
        self._ask = ask
        self._look = look
        self._requests = [_Request(volume) for volume in volumes]
        self._turns = threading.BoundedSemaphore(AT_ONCE)
        #: Guards the requests and the flags below; notified of each change.
        self._changed = threading.Condition()
        self._is_given_up = False
        self._is_watched = False
        self._began = time.monotonic()

    @property
    def snapshots(self) -> list[volume_api.Snapshot]:
        """The snapshots that Cinder has made, in the order of the volumes."""
        return [r.snapshot for r in self._requests if r.snapshot is not None]

    def send(self, watch: bool) -> None:
        """Send all requests, and return at once.

        :param watch: also poll each snapshot until it is taken.
        """
        self._is_watched = watch
        self._began = time.monotonic()
        for request in self._requests:
            concurrency.start_thread(
                f'snapshot of volume {request.volume.id}',
                functools.partial(self._run, request),
            )

    def wait_until_answered(self, progress: progress_lib.Progress) -> None:
        """Wait for all answers; the first error ends the wait.

        :raises NovaSnapError: as the volume service does.
        """
        self._wait(
            lambda: all(r.is_answered for r in self._requests), progress
        )

    def wait_until_taken(
        self, deadline: float, progress: progress_lib.Progress
    ) -> bool:
        """Wait until all snapshots are taken, then stop polling them.

        Return True if all were taken before the deadline.

        :param deadline: a time of the monotonic clock.
        :raises NovaSnapError: as the volume service does, to a request.
        """
        try:
            self._wait(self._is_watched_out, progress, deadline)
        finally:
            with self._changed:
                self._is_watched = False
        return all(request.is_taken for request in self._requests)

    def settle(self) -> set[str]:
        """Send nothing more, and wait for the answers to sent requests.

        :return: the ids of volumes that may have a snapshot though no answer
            came.
        """
        deadline = time.monotonic() + ANSWER_TIMEOUT
        with self._changed:
            self._is_given_up = True
            while not self._is_quiet() and time.monotonic() < deadline:
                self._changed.wait(QUICK_INTERVAL)
            return {
                request.volume.id
                for request in self._requests
                if request.is_sent
                and request.snapshot is None
                and not isinstance(request.error, _REJECTIONS)
            }

    # In the thread that waits -----------------------------------------------

    def _wait(
        self,
        is_over: Callable[[], bool],
        progress: progress_lib.Progress,
        deadline: float | None = None,
    ) -> None:
        with self._changed:
            while not is_over():
                self._raise_error()
                progress.check()
                pause = QUICK_INTERVAL
                if deadline is not None:
                    pause = min(pause, deadline - time.monotonic())
                if pause <= 0:
                    return
                self._changed.wait(pause)
            self._raise_error()

    def _raise_error(self) -> None:
        for request in self._requests:
            if request.error is not None:
                raise request.error

    def _is_watched_out(self) -> bool:
        return all(r.is_taken for r in self._requests) or any(
            r.is_out_of_sight for r in self._requests
        )

    def _is_quiet(self) -> bool:
        return all(r.is_answered or not r.is_sent for r in self._requests)

    # In the thread of a volume ----------------------------------------------

    def _run(self, request: _Request) -> None:
        with self._turns:
            self._send_one(request)
        while (snapshot := self._to_look_at(request)) is not None:
            with self._turns:
                self._look_at(request, snapshot)
            time.sleep(QUICK_INTERVAL)

    def _send_one(self, request: _Request) -> None:
        with self._changed:
            if self._is_given_up:
                return
            request.is_sent = True
        try:
            made = self._ask(request.volume)
        except Exception as error:  # raised in the thread that waits
            self._note_answer(request, None, error)
        else:
            self._note_answer(request, made, None)

    def _note_answer(
        self,
        request: _Request,
        snapshot: volume_api.Snapshot | None,
        error: Exception | None,
    ) -> None:
        with self._changed:
            request.snapshot = snapshot
            request.error = error
            self._is_given_up |= error is not None
            is_last = len(self.snapshots) == len(self._requests)
            self._changed.notify_all()
        if is_last:
            LOG.info(
                'Snapshots of %(count)d volumes were asked for in %(ms)d ms.',
                {
                    'count': len(self._requests),
                    'ms': (time.monotonic() - self._began) * 1000,
                },
                instance_uuid=self._instance_uuid,
            )

    def _to_look_at(self, request: _Request) -> volume_api.Snapshot | None:
        with self._changed:
            if (
                not self._is_watched
                or request.is_taken
                or request.is_out_of_sight
            ):
                return None
            return request.snapshot

    def _look_at(
        self, request: _Request, snapshot: volume_api.Snapshot
    ) -> None:
        """Read the status of a snapshot; an error only ends the polling."""
        is_out_of_sight = False
        try:
            snapshot = self._look(snapshot)
        except Exception as error:
            LOG.debug('%s', error, instance_uuid=self._instance_uuid)
            is_out_of_sight = True
        with self._changed:
            # The waiting thread reads the snapshots itself once it has
            # stopped the polling; this status would be an older one.
            if self._is_watched:
                request.snapshot = snapshot
                request.is_out_of_sight = is_out_of_sight
                self._changed.notify_all()


def is_creating(snapshot: volume_api.Snapshot) -> bool:
    """Return True if Cinder has not taken the snapshot yet."""
    return snapshot.status == volume_api.SnapshotStatus.CREATING
