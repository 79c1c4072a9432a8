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

"""Display of a snapshot's progress, as a bar or as lines."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import os
import sys
import time

import tqdm

from nova_snap import progress as progress_lib

Listener = Callable[[progress_lib.Report], None]

#: Seconds between two lines if the output is no terminal.
LINE_INTERVAL = 5

#: Of a terminal that does not report its own.
DEFAULT_SIZE = os.terminal_size((80, 24))


@contextlib.contextmanager
def listener(wanted: bool) -> Iterator[Listener | None]:
    """Yield a function that shows progress on standard error, if wanted."""
    if not wanted or sys.stderr is None:  # None: closed
        yield None
        return
    shown = _Bar() if sys.stderr.isatty() else _Lines()

    def show(report: progress_lib.Report) -> None:
        # Failing to show progress must not fail the snapshot.
        with contextlib.suppress(OSError):
            shown.show(report)

    try:
        yield show
    finally:
        with contextlib.suppress(OSError):
            shown.close()


class _Bar:
    """A bar for each stage, with rate and time left."""

    def __init__(self) -> None:
        self._stage: progress_lib.Stage | None = None
        self._bar: tqdm.tqdm | None = None

    def show(self, report: progress_lib.Report) -> None:
        """Draw the bar."""
        if self._bar is None or report.stage is not self._stage:
            self.close()
            self._stage = report.stage
            size = _fixed_size()
            self._bar = tqdm.tqdm(
                desc=f'{report.stage:<10}',
                total=report.total,
                unit='B',
                unit_scale=True,
                unit_divisor=1024,
                ncols=size and size.columns,
                nrows=size and size.lines,
                dynamic_ncols=size is None,
                leave=True,
            )
        # The total may still change: a disk grows while it is copied.
        self._bar.total = report.total
        self._bar.update(report.done - self._bar.n)

    def close(self) -> None:
        """End the bar that is being drawn."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _fixed_size() -> os.terminal_size | None:
    """Return the size of a terminal that reports the width or height 0.

    Serial consoles and terminals of containers do so, and tqdm (4.67) would
    draw an empty line.  For other terminals return None.
    """
    size = os.get_terminal_size(sys.stderr.fileno())
    return None if size.columns and size.lines else DEFAULT_SIZE


class _Lines:
    """A line at the end of a stage, and every LINE_INTERVAL seconds."""

    def __init__(self) -> None:
        self._last: progress_lib.Report | None = None
        self._printed_at = time.monotonic()

    def show(self, report: progress_lib.Report) -> None:
        """Print a line if it is time for one."""
        if self._last is not None and report.stage is not self._last.stage:
            self._print(self._last)
        self._last = report
        if time.monotonic() - self._printed_at >= LINE_INTERVAL:
            self._print(report)

    def close(self) -> None:
        """Print the last report."""
        if self._last is not None:
            self._print(self._last)

    def _print(self, report: progress_lib.Report) -> None:
        self._printed_at = time.monotonic()
        line = f'{report.stage}: {_size(report.done)}'
        if report.total:
            share = 100 * report.done // report.total
            line += f' of {_size(report.total)} ({share} %)'
        print(line, file=sys.stderr, flush=True)


def _size(count: int) -> str:
    text: str = tqdm.tqdm.format_sizeof(count, 'iB', 1024)
    return text
