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

"""The poll loop of everything that waits; each wait has a time limit.

Open this file to change how a wait ends.  The limits themselves are constants
or options of the callers.
"""

from collections.abc import Iterator
import itertools
import time

from nova_snap import progress as progress_lib


def polls(
    timeout: float,
    progress: progress_lib.Progress | None = None,
    interval: float | None = None,
    first: float | None = None,
) -> Iterator[None]:
    """Yield once for each poll, until the timeout.

    The caller leaves the loop once the condition is true; code after the loop
    handles the timeout::

        for _poll in waiting.polls(SAVE_TIMEOUT):
            if guest.job() is None:
                return
        raise ...

    The first poll is immediate, so there is at least one.

    :param timeout: in seconds.
    :param progress: of the operation that waits; a cancellation ends the
        wait.  None in undo steps, which nothing may cancel.
    :param interval: seconds between two polls; by default
        :data:`.progress.POLL_INTERVAL`.
    :param first: seconds between the first two polls, for what is often over
        at once; each pause is twice as long as the one before, until it is
        ``interval``.
    :raises SnapshotCancelled: the operation was cancelled.
    """
    progress = progress or progress_lib.Progress()
    longest = progress_lib.POLL_INTERVAL if interval is None else interval
    deadline = time.monotonic() + timeout
    for pause in pauses(longest if first is None else first, longest):
        yield
        if time.monotonic() >= deadline:
            return
        progress.wait(pause)


def pauses(first: float, longest: float) -> Iterator[float]:
    """Yield the seconds between attempts for ever, each pause twice as long.

    :param longest: no pause is longer.
    """
    for doubled in itertools.count():
        # The exponent of what is never used would grow for ever.
        yield min(longest, first * 2 ** min(doubled, 30))
