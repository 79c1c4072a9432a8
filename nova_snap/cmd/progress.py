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

"""Showing the progress of a snapshot to a person, or to a log."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import sys
import time

import tqdm

from nova_snap import monitor

Listener = Callable[[monitor.Progress], None]

#: Seconds between two lines where there is no terminal.
LINE_INTERVAL = 5


@contextlib.contextmanager
def listener(wanted: bool) -> Iterator[Listener | None]:
    """Something that shows progress on standard error, if wanted."""
    if not wanted:
        yield None
        return
    shown = _Bar() if sys.stderr.isatty() else _Lines()
    try:
        yield shown.show
    finally:
        shown.close()


class _Bar:
    """A bar for each stage, with rate and time left."""

    def __init__(self) -> None:
        self._stage: monitor.Stage | None = None
        self._bar: tqdm.tqdm | None = None

    def show(self, progress: monitor.Progress) -> None:
        """Draw how far it is."""
        if self._bar is None or progress.stage is not self._stage:
            self.close()
            self._stage = progress.stage
            self._bar = tqdm.tqdm(
                desc=f'{progress.stage:<10}',
                total=progress.total,
                unit='B',
                unit_scale=True,
                unit_divisor=1024,
                dynamic_ncols=True,
                leave=True,
            )
        # Both may still change: a disk grows while it is copied.
        self._bar.total = progress.total
        self._bar.update(progress.done - self._bar.n)

    def close(self) -> None:
        """End the bar that is being drawn."""
        if self._bar is not None:
            if self._bar.total is not None:
                self._bar.update(self._bar.total - self._bar.n)
            self._bar.close()
            self._bar = None


class _Lines:
    """A line at each new stage, and every LINE_INTERVAL seconds."""

    def __init__(self) -> None:
        self._stage: monitor.Stage | None = None
        self._next = 0.0

    def show(self, progress: monitor.Progress) -> None:
        """Print a line if it is time for one."""
        now = time.monotonic()
        if progress.stage is self._stage and now < self._next:
            return
        self._stage = progress.stage
        self._next = now + LINE_INTERVAL
        done = tqdm.tqdm.format_sizeof(progress.done, 'B', 1024)
        line = f'{progress.stage}: {done}'
        if progress.total:
            total = tqdm.tqdm.format_sizeof(progress.total, 'B', 1024)
            share = 100 * progress.done // progress.total
            line += f' of {total} ({share} %)'
        print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing is left to be drawn."""
