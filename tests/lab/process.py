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

"""A server of the lab: started, waited for, and ended with its children."""

import atexit
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import os
import pathlib
import signal
import subprocess
import time
import urllib.error
import urllib.request

from tests.lab import command

#: Seconds; servers import for long while others do, too.
START_TIMEOUT = 180.0
STOP_TIMEOUT = 15.0


class ServerFailed(Exception):
    """A server ended or did not answer; the message has the end of its log."""


class Server:
    """A process in a session of its own; it ends with this one.

    :param log: gets what it prints.
    """

    def __init__(self, log: pathlib.Path) -> None:
        self.log = log
        self._pid_file = log.with_suffix('.pid')
        self._process: subprocess.Popen[bytes] | None = None

    def start(
        self,
        argv: Sequence[str | os.PathLike[str]],
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """Start it and return at once.

        :param env: variables besides this process's own.
        """
        with open(self.log, 'ab') as log:
            self._process = subprocess.Popen(
                argv,
                cwd='/',
                env={**command.environment(), **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=pass_fds,
                start_new_session=True,
            )
        self._pid_file.write_text(f'{self._process.pid}')
        atexit.register(self.stop, signal.SIGKILL)

    def wait_until(
        self, condition: Callable[[], bool], timeout: float = START_TIMEOUT
    ) -> None:
        """Wait for something that it does while it runs.

        :param timeout: seconds.
        :raises ServerFailed: it ended, or did not do it in time.
        """
        deadline = time.monotonic() + timeout
        while not condition():
            ended = self._process is None or self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                text = self.log.read_text(errors='replace')[-4000:]
                raise ServerFailed(f'{self.log}:\n{text}')
            time.sleep(0.1)

    def wait_for_answer(self, url: str) -> None:
        """Wait until it answers HTTP, whatever it says."""
        self.wait_until(lambda: _answers(url))

    def send_signal(self, number: int) -> None:
        """Send a signal to it and to its children."""
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it, at last by force."""
        process, self._process = self._process, None
        atexit.unregister(self.stop)
        if process is None:
            return
        self._pid_file.unlink(missing_ok=True)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def end_abandoned(directory: pathlib.Path) -> None:
    """Kill what servers below a directory left running.

    A number that another process has by now is known by its session: a
    server leads its own.
    """
    for file in directory.rglob('*.pid'):
        with contextlib.suppress(ValueError, OSError):
            pid = int(file.read_text())
            words = pathlib.Path(f'/proc/{pid}/cmdline').read_bytes()
            if os.fsencode(directory) in words and os.getsid(pid) == pid:
                os.killpg(pid, signal.SIGKILL)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=30):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
