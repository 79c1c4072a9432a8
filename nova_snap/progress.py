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

"""Progress reports and cancellation of a running snapshot.

A :class:`Progress` is handed down to every stage that takes time.  Each stage
calls :meth:`Progress.report` several times a second; that call raises
:class:`~nova_snap.exception.SnapshotCancelled` once somebody has called
:meth:`Progress.cancel`.  So a snapshot stops only at places that were made for
stopping, never between two bytecodes as with the exception of a signal.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import enum
import threading
import time

from nova_snap import exception

#: Seconds between two checks of a condition that is waited for.
POLL_INTERVAL = 0.5


class Stage(enum.StrEnum):
    """The stages of a snapshot that take time."""

    SUSPENDING = 'suspending'
    COPYING = 'copying'
    CONVERTING = 'converting'
    UPLOADING = 'uploading'
    WRITING = 'writing'
    DOWNLOADING = 'downloading'
    MERGING = 'merging'


@dataclasses.dataclass(frozen=True)
class Report:
    """Progress of a stage; ``done`` and ``total`` are bytes.

    ``total`` is None where the total is not known.
    """

    stage: Stage
    done: int
    total: int | None

    @property
    def per_cent(self) -> int:
        """How much of the stage is done; 0 where that is not known."""
        if not self.total:
            return 0
        return min(100, 100 * self.done // self.total)


@dataclasses.dataclass
class Measured:
    """Measurements of one operation, for its log line and for metrics.

    :ivar method: how the disks are read: a live method, ``cold``, or
        ``volumes`` if none is; '' until a plan was made.
    :ivar image_bytes: of the images that were sent, without those whose
        location was given; 0 until they are complete.
    :ivar frozen_seconds: how long this operation has kept the guest's file
        systems frozen; None if it has not frozen them.
    :ivar stages: the seconds of each stage, in the order in which they began.
    """

    method: str = ''
    image_bytes: int = 0
    frozen_seconds: float | None = None
    stages: dict[Stage, float] = dataclasses.field(default_factory=dict)
    _stage: Stage | None = None
    _stage_since: float = 0

    def enter(self, stage: Stage | None) -> None:
        """Note the current stage; None: the last one has ended."""
        if stage is self._stage:
            return
        now = time.monotonic()
        if self._stage is not None:
            before = self.stages.get(self._stage, 0)
            self.stages[self._stage] = before + now - self._stage_since
        self._stage, self._stage_since = stage, now

    def add_frozen(self, seconds: float) -> None:
        """Note that the guest was frozen; another method may do it again."""
        self.frozen_seconds = (self.frozen_seconds or 0) + seconds

    def __str__(self) -> str:
        words = [self.method]
        words += (f'{name} {took:.1f} s' for name, took in self.stages.items())
        if self.image_bytes:
            words.append(f'{self.image_bytes / 2**20:.1f} MiB sent')
        took = self.stages.get(Stage.UPLOADING)
        if self.image_bytes and took:
            words.append(f'{self.image_bytes / 2**20 / took:.1f} MiB/s')
        if self.frozen_seconds is not None:
            words.append(f'frozen for {self.frozen_seconds * 1000:.0f} ms')
        return ', '.join(words)


class Progress:
    """Channel between an operation and its caller: progress, cancellation.

    :ivar measured: what is known of the operation so far.

    :param server: the name or id of the server, for messages.
    :param listener: called with each :class:`Report`, in the thread that
        does the work; must be quick and must not raise.
    """

    def __init__(
        self,
        server: str = '',
        listener: Callable[[Report], None] | None = None,
    ) -> None:
        self._server = server
        self._listener = listener
        self._reason: str | None = None
        self._left: int | None = None
        self.measured = Measured()

    def cancel(self, reason: str) -> None:
        """Ask the snapshot to stop; the first reason given is kept.

        A signal handler may call this at any time: the method takes no lock
        that the interrupted thread could hold.
        """
        if self._reason is None:
            self._reason = reason

    def check(self) -> None:
        """Raise SnapshotCancelled if the snapshot has been cancelled."""
        if self._reason is not None:
            raise exception.SnapshotCancelled(
                server=self._server, reason=self._reason
            )

    def wait(self, seconds: float | None = None) -> None:
        """Sleep, by default for POLL_INTERVAL; check for a cancellation.

        :raises SnapshotCancelled: within POLL_INTERVAL of the cancellation.
        """
        seconds = POLL_INTERVAL if seconds is None else seconds
        ends_at = time.monotonic() + seconds
        while (left := ends_at - time.monotonic()) > 0:
            time.sleep(min(left, POLL_INTERVAL))
            self.check()
        self.check()

    def report(self, stage: Stage, done: int, total: int | None) -> None:
        """Tell the listener how far a stage is; check for a cancellation."""
        self.check()
        self.measured.enter(stage)
        self._left = None if total is None else total - done
        if self._listener is not None:
            self._listener(Report(stage, done, total))

    def left(self) -> int | None:
        """Return the bytes that the last report left, None if unknown."""
        return self._left


def parts(progress: Progress, totals: Sequence[int]) -> list[Progress]:
    """Divide the progress of an operation among what it does side by side.

    Each part reports as if it were alone, in any thread; the listener gets
    the sums, one report at a time.  A cancellation of the operation is one of
    every part.

    :param totals: the bytes of each part, until it reports them itself.
    """
    if len(totals) == 1:
        return [progress]
    sums = _Sums(progress, totals)
    return [_Part(progress, sums, place) for place in range(len(totals))]


class _Sums:
    """The last reports of all parts."""

    def __init__(self, whole: Progress, totals: Sequence[int]) -> None:
        self._whole = whole
        self._lock = threading.Lock()
        self.latest = [Report(Stage.UPLOADING, 0, total) for total in totals]

    def report(self, place: int, latest: Report) -> None:
        """Report the sums of all parts.

        A part that is in another stage has done nothing of this one.
        """
        with self._lock:
            self.latest[place] = latest
            totals = [report.total for report in self.latest]
            known = [total for total in totals if total is not None]
            self._whole.report(
                latest.stage,
                sum(
                    report.done
                    for report in self.latest
                    if report.stage is latest.stage
                ),
                sum(known) if len(known) == len(totals) else None,
            )


class _Part(Progress):
    """The progress of one of several things that are done side by side."""

    def __init__(self, whole: Progress, sums: _Sums, place: int) -> None:
        super().__init__()
        self._whole = whole
        self._sums = sums
        self._place = place

    def check(self) -> None:
        """Raise SnapshotCancelled if the operation is cancelled."""
        self._whole.check()

    def report(self, stage: Stage, done: int, total: int | None) -> None:
        """Report the sums of all parts."""
        self._sums.report(self._place, Report(stage, done, total))
        super().report(stage, done, total)
