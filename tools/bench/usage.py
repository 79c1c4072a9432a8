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

"""What a process and those that it starts use, as the kernel counts it."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import os
import pathlib
import threading
import time
from typing import Self

#: Seconds between two looks.
INTERVAL = 0.05

_TICKS = os.sysconf('SC_CLK_TCK')
_PAGE = os.sysconf('SC_PAGE_SIZE')
_PROC = pathlib.Path('/proc')


def cpu_seconds(pid: int) -> float:
    """Processor time of a process and of its children that have ended."""
    return sum(map(int, _stat(pid)[11:15])) / _TICKS


def host_cpu_seconds() -> float:
    """Processor time that was not idle, of all processors of the host."""
    line = (_PROC / 'stat').read_text().splitlines()[0]
    user, nice, system, _idle, _iowait, *rest = map(int, line.split()[1:9])
    return (user + nice + system + sum(rest)) / _TICKS


def processes_in(directory: pathlib.Path) -> list[int]:
    """Return the processes whose working directory this is."""
    found = []
    for path in _PROC.glob('[0-9]*'):
        with contextlib.suppress(OSError):
            if (path / 'cwd').readlink() == directory:
                found.append(int(path.name))
    return found


def session(leader: int) -> list[int]:
    """Return the processes of the session that a process leads.

    A daemon that it started is one of them, though no more its child.
    """
    found = []
    for path in _PROC.glob('[0-9]*'):
        with contextlib.suppress(OSError):
            if int(_stat(int(path.name))[3]) == leader:
                found.append(int(path.name))
    return found


def session_cpu_seconds(leader: int) -> float:
    """Processor time of a session, with what has ended in it."""
    total = 0.0
    for pid in session(leader):
        with contextlib.suppress(OSError):
            total += cpu_seconds(pid)
    return total


def resident_bytes(pids: Iterable[int]) -> int:
    """Memory of these processes and of those that they started."""
    return sum(map(_rss, {each for pid in pids for each in _tree(pid)}))


@dataclasses.dataclass
class Watch:
    """Looks at processes and at a directory while its block runs.

    :ivar peak_rss: bytes of memory of all of the processes at once.
    :ivar peak_disk: bytes that the files below the directory take.

    :param pids: with the processes that they start.
    :param directory: need not exist yet.
    """

    pids: Sequence[int]
    directory: pathlib.Path
    peak_rss: int = 0
    peak_disk: int = 0

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(INTERVAL):
            self.peak_rss = max(self.peak_rss, resident_bytes(self.pids))
            self.peak_disk = max(
                self.peak_disk, allocated_bytes(self.directory)
            )


@contextlib.contextmanager
def stopwatch() -> Iterator[list[float]]:
    """Yield a list that gets the seconds of the block."""
    seconds: list[float] = []
    begin = time.monotonic()
    yield seconds
    seconds.append(time.monotonic() - begin)


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third on: proc(5)."""
    text = (_PROC / str(pid) / 'stat').read_text()
    return text.rpartition(')')[2].split()


def _rss(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int((_PROC / f'{pid}/statm').read_text().split()[1]) * _PAGE
    return 0


def _tree(pid: int) -> Iterator[int]:
    """Yield a process, and those below it that run their own program.

    A child that has its parent's command line has not yet begun its own
    program: until then its memory is its parent's.
    """
    yield pid
    with contextlib.suppress(OSError):
        command = _command(pid)
        for task in (_PROC / str(pid) / 'task').iterdir():
            for child in map(int, (task / 'children').read_text().split()):
                if _command(child) != command:
                    yield from _tree(child)


def _command(pid: int) -> bytes:
    return (_PROC / f'{pid}/cmdline').read_bytes()


def allocated_bytes(directory: pathlib.Path) -> int:
    """Blocks, not lengths: a hole takes no space."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            # Some go while we look.
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(f'{folder}/{name}').st_blocks * 512
    return total
