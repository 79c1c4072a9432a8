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

"""Requests for snapshots, all sent at once, while a guest may be frozen.

Open this file when a guest is frozen for too long.  A pool of threads sends
the requests and looks at the snapshots; the thread that waits for them owns
everything else here.  So neither a slow answer nor many volumes add up, and
whoever waits can stop waiting at any time.  What the snapshots are for, and
how they are undone, is in ``snapshots.py``.
"""

from collections.abc import Callable
from collections.abc import Sequence
from concurrent import futures
import dataclasses
import itertools
import time

from oslo_log import log as logging

from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap.volume import api as volume_api

LOG = logging.getLogger(__name__)

#: Requests that Cinder has to answer at the same time, at most.
AT_ONCE = 8

#: Seconds between two looks at a snapshot, and at the progress.
QUICK_INTERVAL = 0.1

#: Seconds after which no answer comes any more: a login and a request, and
#: both again where the token has expired, of 15 seconds each.
ANSWER_TIMEOUT = 60

#: Errors after which there is no snapshot.
_NOT_MADE = (
    exception.VolumeNotFound,
    exception.VolumeConflict,
    exception.VolumeNotPermitted,
    exception.VolumeQuotaExceeded,
    exception.VolumeRejected,
)


@dataclasses.dataclass
class _Request:
    """The request for one snapshot.

    :ivar answer: the snapshot; None if the request was not sent.
    :ivar look: the newest look at the snapshot.
    """

    volume: volume_api.Volume
    answer: futures.Future[volume_api.Snapshot | None]
    look: futures.Future[volume_api.Snapshot | None] | None = None

    @property
    def newest(self) -> futures.Future[volume_api.Snapshot | None]:
        return self.look or self.answer

    @property
    def snapshot(self) -> volume_api.Snapshot | None:
        """The snapshot as it was last seen."""
        for future in (self.newest, self.answer):
            is_over = future.done() and not future.cancelled()
            if is_over and future.exception() is None:
                return future.result()
        return None

    @property
    def is_taken(self) -> bool:
        return self.snapshot is not None and not is_creating(self.snapshot)

    @property
    def is_out_of_sight(self) -> bool:
        """Return True if the newest look at the snapshot has failed."""
        return self.newest.done() and self.newest.exception() is not None

    @property
    def may_have_made_one(self) -> bool:
        """Return True if there may be a snapshot whose id is not known."""
        if not self.answer.done():
            return True
        error = self.answer.exception()
        return error is not None and not isinstance(error, _NOT_MADE)


class Requests:
    """The requests for the snapshots of some volumes.

    :param ask: makes one; raises as the volume service does.
    :param look: how a snapshot is now; in a hurry.
    """

    def __init__(
        self,
        volumes: Sequence[volume_api.Volume],
        ask: Callable[[volume_api.Volume], volume_api.Snapshot],
        look: Callable[[volume_api.Snapshot], volume_api.Snapshot],
    ) -> None:
        self._volumes = volumes
        self._ask = ask
        self._look = look
        self._requests: list[_Request] = []
        self._pool = futures.ThreadPoolExecutor(AT_ONCE, 'volume-snapshots')
        #: Counts the answers down; each next() is one step, without a lock.
        self._missing = itertools.count(len(volumes) - 1, -1)
        self._is_given_up = False
        self._began = time.monotonic()

    @property
    def snapshots(self) -> list[volume_api.Snapshot]:
        """Those that there are, in the order of the volumes."""
        found = [request.snapshot for request in self._requests]
        return [snapshot for snapshot in found if snapshot is not None]

    def send(self, watch: bool) -> None:
        """Send all, and return at once.

        :param watch: :meth:`wait_until_taken` will look at each snapshot.
        """
        self._began = time.monotonic()
        for volume in self._volumes:
            answer = self._pool.submit(self._send_one, volume)
            self._requests.append(_Request(volume, answer))
        if not watch:
            self._pool.shutdown(wait=False)

    def wait_until_answered(self, progress: progress_lib.Progress) -> None:
        """Wait for all answers; the first error ends it.

        :raises NovaSnapError: as the volume service does.
        """
        answers = [request.answer for request in self._requests]
        while futures.wait(
            answers, QUICK_INTERVAL, futures.FIRST_EXCEPTION
        ).not_done:
            self._raise_error()
            progress.check()
        self._raise_error()

    def wait_until_taken(
        self, deadline: float, progress: progress_lib.Progress
    ) -> bool:
        """Return True if all were seen to be taken; look no more then.

        :param deadline: of the monotonic clock; not a moment longer.
        :raises NovaSnapError: as the volume service does, to a request.
        """
        try:
            while not self._are_all_taken():
                self._raise_error()
                progress.check()
                left = deadline - time.monotonic()
                if left <= 0 or any(
                    request.is_out_of_sight for request in self._requests
                ):
                    return False
                self._look_again()
                self._pause(min(left, QUICK_INTERVAL))
        finally:
            for request in self._requests:
                if request.look is not None:
                    request.look.cancel()
            self._pool.shutdown(wait=False)
        return True

    def settle(self) -> set[str]:
        """Send nothing more, and wait for the answers to what was sent.

        :return: the ids of volumes of which there may be a snapshot that
            nobody told us of.
        """
        self._is_given_up = True
        futures.wait([r.answer for r in self._requests], ANSWER_TIMEOUT)
        return {r.volume.id for r in self._requests if r.may_have_made_one}

    # In a thread of the pool ------------------------------------------------

    def _send_one(
        self, volume: volume_api.Volume
    ) -> volume_api.Snapshot | None:
        if self._is_given_up:
            return None
        try:
            snapshot = self._ask(volume)
        except BaseException:
            # Set here: when the thread that waits sees the error, this one
            # may have sent the next request.
            self._is_given_up = True
            raise
        if next(self._missing) == 0:
            LOG.info(
                'Snapshots of %(count)d volumes were asked for in %(ms)d ms.',
                {
                    'count': len(self._volumes),
                    'ms': (time.monotonic() - self._began) * 1000,
                },
            )
        return snapshot

    # In the thread that waits -----------------------------------------------

    def _are_all_taken(self) -> bool:
        return all(request.is_taken for request in self._requests)

    def _raise_error(self) -> None:
        for request in self._requests:
            if request.answer.done():
                request.answer.result()

    def _look_again(self) -> None:
        """Look at those that were still being made when last seen."""
        for request in self._requests:
            snapshot = request.snapshot
            if request.newest.done() and snapshot and is_creating(snapshot):
                request.look = self._pool.submit(self._look, snapshot)

    def _pause(self, seconds: float) -> None:
        """Sleep, but not on when all are taken."""
        until = time.monotonic() + seconds
        futures.wait([r.newest for r in self._requests], seconds)
        if not self._are_all_taken():
            time.sleep(max(0, until - time.monotonic()))


def is_creating(snapshot: volume_api.Snapshot) -> bool:
    """Return True if Cinder has not taken the snapshot yet."""
    return snapshot.status == volume_api.SnapshotStatus.CREATING
