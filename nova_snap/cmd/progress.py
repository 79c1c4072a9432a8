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
import os
import sys
import time

import tqdm

from nova_snap import monitor

Listener = Callable[[monitor.Progress], None]

#: Seconds between two lines where there is no terminal.
LINE_INTERVAL = 5

#: Width of a bar where the terminal does not know its own.
DEFAULT_COLUMNS = 80


@contextlib.contextmanager
def listener(wanted: bool) -> Iterator[Listener | None]:
    """Something that shows progress on standard error, if wanted."""
    if not wanted or sys.stderr is None:  # None: closed
        yield None
        return
    shown = _Bar() if sys.stderr.isatty() else _Lines()

    def show(progress: monitor.Progress) -> None:
        # That nobody takes what is shown is no reason to give up.
        with contextlib.suppress(OSError):
            shown.show(progress)

    try:
        yield show
    finally:
        with contextlib.suppress(OSError):
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
            columns = _fixed_columns()
            self._bar = tqdm.tqdm(
                desc=f'{progress.stage:<10}',
                total=progress.total,
                unit='B',
                unit_scale=True,
                unit_divisor=1024,
                ncols=columns,
                dynamic_ncols=columns is None,
                leave=True,
            )
        # Both may still change: a disk grows while it is copied.
        self._bar.total = progress.total
        self._bar.update(progress.done - self._bar.n)

    def close(self) -> None:
        """End the bar that is being drawn."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _fixed_columns() -> int | None:
    """The width of a bar on a terminal that says that it has none.

    Serial consoles and terminals of containers do; tqdm (4.67) draws an
    empty line then.
    """
    size = os.get_terminal_size(sys.stderr.fileno())
    return None if size.columns else DEFAULT_COLUMNS


class _Lines:
    """A line at the end of a stage, and every LINE_INTERVAL seconds."""

    def __init__(self) -> None:
        self._last: monitor.Progress | None = None
        self._printed_at = time.monotonic()

    def show(self, progress: monitor.Progress) -> None:
        """Print a line if it is time for one."""
        if self._last is not None and progress.stage is not self._last.stage:
            self._print(self._last)
        self._last = progress
        if time.monotonic() - self._printed_at >= LINE_INTERVAL:
            self._print(progress)

    def close(self) -> None:
        """Print where it ended."""
        if self._last is not None:
            self._print(self._last)

    def _print(self, progress: monitor.Progress) -> None:
        self._printed_at = time.monotonic()
        line = f'{progress.stage}: {_size(progress.done)}'
        if progress.total:
            share = 100 * progress.done // progress.total
            line += f' of {_size(progress.total)} ({share} %)'
        print(line, file=sys.stderr, flush=True)


def _size(count: int) -> str:
    text: str = tqdm.tqdm.format_sizeof(count, 'iB', 1024)
    return text
