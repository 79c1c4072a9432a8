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

"""A server process that tests start: waited for, stopped, killed.

Each runs in a session of its own with a pid file, so that a later process
can end what a killed test process left behind, children included.
"""

import atexit
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time
from typing import Protocol
from typing import TypeVar
import urllib.error
import urllib.request

from tests.lab import command
from tests.lab import paths

#: Seconds; servers import for long while others do, too.
START_TIMEOUT = 240.0
STOP_TIMEOUT = 20.0

_PROC = pathlib.Path('/proc')


class DaemonFailed(Exception):
    """A server ended or did not answer; the message has the end of its log."""


class Daemon:
    """A server.

    :param output: gets what it prints; its name is the server's.
    :param pid_file: by default beside it.
    """

    def __init__(
        self, output: pathlib.Path, pid_file: pathlib.Path | None = None
    ) -> None:
        self.name = output.stem
        self.output = output
        self._pid_file = pid_file or output.with_suffix('.pid')
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process, or None where it does not run."""
        try:
            pid, birth = map(int, self._pid_file.read_text().split())
        except (FileNotFoundError, ValueError):
            return None
        if self._process is not None and self._process.pid == pid:
            self._process.poll()  # else it stays a zombie
        return pid if _birth(pid) == birth else None

    def start(
        self,
        argv: Sequence[str | os.PathLike[str]],
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """Start it and return at once; one that runs is left alone.

        :param env: variables besides this process's own.
        """
        if self.pid is not None:
            return
        with open(self.output, 'ab') as output:
            self._process = subprocess.Popen(
                argv,
                cwd='/',
                env={**command.environment(), **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=pass_fds,
                start_new_session=True,
            )
        pid = self._process.pid
        self._pid_file.write_text(f'{pid} {_birth(pid)}')

    def wait_until(
        self, condition: Callable[[], bool], timeout: float = START_TIMEOUT
    ) -> None:
        """Wait for something that it does while it runs.

        :param timeout: seconds.
        :raises DaemonFailed: it ended, or did not do it in time.
        """
        deadline = time.monotonic() + timeout
        while not condition():
            if self.pid is None or time.monotonic() > deadline:
                raise DaemonFailed(f'{self.name}:\n{self.said()}')
            time.sleep(0.1)

    def wait_for_port(self, port: int) -> None:
        """Wait until it accepts connections."""
        self.wait_until(lambda: _accepts(port))

    def wait_for_answer(self, url: str) -> None:
        """Wait until it answers HTTP, whatever it says."""
        self.wait_until(lambda: _answers(url))

    def said(self) -> str:
        """Return the end of the daemon's output and log."""
        parts = []
        for path in (self.output, self.output.with_suffix('.log')):
            if path.exists():
                parts.append(path.read_text(errors='replace')[-4000:])
        return '\n'.join(parts)

    def kill(self) -> None:
        """Kill the daemon (SIGKILL), not its children; wait for its end."""
        self._signal(signal.SIGKILL)
        self._wait_for_end(STOP_TIMEOUT)

    def terminate(self) -> None:
        """Tell it to end in order."""
        self._signal(signal.SIGTERM)

    def _signal(self, number: int) -> None:
        pid = self.pid
        if pid is not None:
            os.kill(pid, number)

    def stop(self) -> None:
        """End it in order, at last by force, with all of its session."""
        self.terminate()
        self._wait_for_end(STOP_TIMEOUT)
        self.end_session()

    def end_session(self) -> None:
        """Kill what it started and left running."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            leader = int(self._pid_file.read_text().split()[0])
            for pid in _session(leader):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._pid_file.unlink(missing_ok=True)

    def _wait_for_end(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while self.pid is not None and time.monotonic() < deadline:
            time.sleep(0.05)


def end_abandoned(directory: pathlib.Path) -> None:
    """End those below a directory that a killed process left running."""
    for pid_file in directory.rglob('*.pid'):
        left = Daemon(pid_file.with_suffix('.out'), pid_file)
        if left.pid is not None:
            left.end_session()


def _birth(pid: int) -> int | None:
    """When a process began, in ticks since boot; see proc(5)."""
    with contextlib.suppress(OSError):
        words = (_PROC / f'{pid}/stat').read_text().rpartition(')')[2].split()
        if words[0] != 'Z':
            return int(words[19])
    return None


def _session(leader: int) -> list[int]:
    """Return the processes of a session, whose leader may be gone."""
    found = []
    for folder in _PROC.glob('[0-9]*'):
        with contextlib.suppress(OSError):
            words = (folder / 'stat').read_text().rpartition(')')[2].split()
            if int(words[3]) == leader:
                found.append(int(folder.name))
    return found


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(('127.0.0.1', port), 5).close()
        return True
    return False


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=30):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


class Lab(Protocol):
    """Servers that one process of tests shares."""

    def start(self) -> None:
        """Return once all answer."""

    def stop(self) -> None:
        """End all, and delete what they had."""


L = TypeVar('L', bound=Lab)


def started_for_process(letter: str, make: Callable[[pathlib.Path], L]) -> L:
    """Start servers that end with this process.

    What a killed process has left of the same kind is ended first.

    :param letter: of the kind, for the names of directories.
    :param make: gets the directory of the servers.
    """
    for left in paths.root().glob(f'{letter}[0-9]*'):
        if not (_PROC / left.name[1:]).exists():
            end_abandoned(left)
            shutil.rmtree(left, ignore_errors=True)
    owner = os.getpid()
    lab = make(paths.root() / f'{letter}{owner}')

    def stop() -> None:
        # A forked child that ends must not end its parent's servers.
        if os.getpid() == owner:
            lab.stop()

    atexit.register(stop)
    try:
        lab.start()
    except BaseException:
        stop()
        raise
    return lab
