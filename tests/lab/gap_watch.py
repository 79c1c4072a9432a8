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

"""Times the ticks of a guest: the longest gap between two of them.

The clock is the host's, so a guest that is stopped can't hide it.  The
watching is done by a process of its own, which looks at the guest's console
every millisecond: neither another thread's hold on the interpreter nor
eventlet's hub makes a gap that is not there, and a benchmark that counts the
processor time of its own process doesn't count the watching.

This file is both: the class that starts the process, and, run as a script,
the process.
"""

import dataclasses
import json
import os
import pathlib
import select
import subprocess
import sys
import time
from typing import Self

#: Seconds between two looks.
INTERVAL = 0.001
#: Seconds within which a guest that ticks must be heard.
PATIENCE = 60.0


@dataclasses.dataclass(frozen=True)
class Result:
    """What was seen; times are the host's.

    :ivar ticks: how many.
    :ivar longest_ms: the longest time without a tick, milliseconds.
    :ivar longest_at: when that time began, by ``time.monotonic()``.
    :ivar blind_ms: the longest time between two looks: by so much, on a busy
        host, ``longest_ms`` may be wrong.
    """

    ticks: int
    longest_ms: float
    longest_at: float
    blind_ms: float


class NoTicks(Exception):
    """The guest was not heard when the watch began."""


class GapWatch:
    """Watches the ticks while the block runs; then :attr:`result` is there.

    It begins with the first tick that it hears, and time without a tick at
    the end of the block counts, though no tick ended it.

    :param serial_log: the file that the guest's console goes to.
    :param patience: seconds within which the first tick must be heard.
    :raises NoTicks: on entry, the guest does not tick.
    """

    def __init__(
        self, serial_log: pathlib.Path, patience: float = PATIENCE
    ) -> None:
        self._serial_log = serial_log
        self._patience = patience
        self._result: Result | None = None

    @property
    def result(self) -> Result:
        """What was seen, after the block."""
        if self._result is None:
            raise RuntimeError('the watch has not ended')
        return self._result

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, '-I', '-S', __file__]
            + [self._serial_log, str(self._patience)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            self._process.communicate()
            raise NoTicks(f'no tick within {self._patience} s')
        return self

    def __exit__(self, *exc_info: object) -> None:
        output, _ = self._process.communicate()
        self._result = Result(**json.loads(output))


class _Watch:
    def __init__(self, file: int) -> None:
        self._file = file
        self._rest = b''
        self._offset = os.fstat(file).st_size
        self.ticks = 0
        self.last = 0.0
        self.longest = 0.0
        self.longest_at = 0.0

    def look(self, now: float) -> None:
        """Take what the console got since the last look."""
        text = os.pread(self._file, 1 << 16, self._offset)
        self._offset += len(text)
        # One look may end in the middle of a line; its end comes later.
        lines = (self._rest + text).split(b'\n')
        self._rest = lines.pop()
        ticks = sum(line.startswith(b'tick ') for line in lines)
        if ticks:
            if self.ticks:
                self.close_gap(now)
            self.ticks += ticks
            self.last = now

    def close_gap(self, now: float) -> None:
        if now - self.last > self.longest:
            self.longest = now - self.last
            self.longest_at = self.last


def _first_tick(watch: _Watch, patience: float) -> bool:
    deadline = time.monotonic() + patience
    while not watch.ticks:
        now = time.monotonic()
        if now > deadline:
            return False
        watch.look(now)
        time.sleep(INTERVAL)
    return True


def _watch_until_end_of_input(watch: _Watch) -> Result:
    blind, before = 0.0, time.monotonic()
    ended = False
    while not ended:
        ready, _, _ = select.select([sys.stdin], [], [], INTERVAL)
        ended = bool(ready)
        now = time.monotonic()
        blind, before = max(blind, now - before), now
        watch.look(now)
    watch.close_gap(before)
    return Result(
        watch.ticks, watch.longest * 1e3, watch.longest_at, blind * 1e3
    )


def _main(serial_log: str, patience: str) -> int:
    watch = _Watch(os.open(serial_log, os.O_RDONLY))
    if not _first_tick(watch, float(patience)):
        return 1
    print('ticking', flush=True)
    print(json.dumps(dataclasses.asdict(_watch_until_end_of_input(watch))))
    return 0


if __name__ == '__main__':
    sys.exit(_main(*sys.argv[1:]))
