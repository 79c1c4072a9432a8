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

"""What a running snapshot reports, and how it learns that it shall stop.

A :class:`Progress` is handed down to every stage that takes time.  Each calls
:meth:`Progress.report` several times a second; that call raises
:class:`~nova_snap.exception.SnapshotCancelled` once somebody has called
:meth:`Progress.cancel`.  So a snapshot stops only at places that were made for
it, never between two bytecodes as with a signal's exception.
"""

from collections.abc import Callable
import dataclasses
import enum
import time

from nova_snap import exception

#: Seconds between two looks at anything that is waited for.
POLL_INTERVAL = 0.5


class Stage(enum.StrEnum):
    """The stages of a snapshot that take time."""

    SUSPENDING = 'suspending'
    COPYING = 'copying'
    CONVERTING = 'converting'
    UPLOADING = 'uploading'
    WRITING = 'writing'


@dataclasses.dataclass(frozen=True)
class Report:
    """How far a stage is; ``done`` and ``total`` are bytes.

    ``total`` is None where it is not known.
    """

    stage: Stage
    done: int
    total: int | None


class Progress:
    """Carries progress up and cancellation down.

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

    def cancel(self, reason: str) -> None:
        """Ask the snapshot to stop; the first reason given is kept.

        A plain assignment and no lock, so that a signal handler may call it
        whatever the thread that it interrupts is doing.
        """
        if self._reason is None:
            self._reason = reason

    def check(self) -> None:
        """Raise SnapshotCancelled if the snapshot is wanted no longer."""
        if self._reason is not None:
            raise exception.SnapshotCancelled(
                server=self._server, reason=self._reason
            )

    def wait(self, seconds: float = POLL_INTERVAL) -> None:
        """Sleep, then raise SnapshotCancelled if it is wanted no longer."""
        time.sleep(seconds)
        self.check()

    def report(self, stage: Stage, done: int, total: int | None) -> None:
        """Tell how far a stage is, and check for a cancellation."""
        self.check()
        if self._listener is not None:
            self._listener(Report(stage, done, total))
