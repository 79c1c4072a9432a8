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

"""Waiting for something that takes time: one loop, which always has a limit.

Open this file when something is waited for too long, or not long enough.
"""

from collections.abc import Iterator
import time

from nova_snap import progress as progress_lib


def polls(
    timeout: float,
    progress: progress_lib.Progress | None = None,
    interval: float | None = None,
) -> Iterator[None]:
    """Yield for each look at what is waited for, until the time is over.

    The caller leaves the loop when it has seen what it waits for, and says
    behind the loop that the time was over::

        for _poll in waiting.polls(SAVE_TIMEOUT):
            if guest.job() is None:
                return
        raise ...

    The first look is at once, so there is one even if there is no time.

    :param timeout: in seconds.
    :param progress: of the operation that waits, where a cancellation of it
        ends the wait; without one, as in an undo step, nothing does.
    :param interval: seconds between two looks; by default
        :data:`.progress.POLL_INTERVAL`.
    :raises SnapshotCancelled: the operation was cancelled.
    """
    progress = progress or progress_lib.Progress()
    deadline = time.monotonic() + timeout
    while True:
        yield
        if time.monotonic() >= deadline:
            return
        progress.wait(interval)
