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

"""Processes of ``nova-snap-api`` that need not import anything.

To import the service takes longer than most of what a test wants of it.  One
process does that, and forks for each start; from there on it is the service as
it is, in a process of its own, with its own ``main``.

Run as a program, this module is the process that forks.
"""

import atexit
import functools
import importlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from typing import Any

#: What the service imports, some of it on demand only.
IMPORTED = (
    'nova_snap.cmd.api',
    'nova_snap.api.activation',
    'nova_snap.api.deploy',
    'nova_snap.api.keystone_auth',
    'nova_snap.api.server',
    'nova_snap.image.glance',
)

#: What each backend imports besides.
SERVERS = {'eventlet': 'eventlet.wsgi', 'threading': 'cheroot.ssl.builtin'}

#: Names the backend to a process of the service.
BACKEND_VARIABLE = 'NOVA_SNAP_CONCURRENCY_BACKEND'


class ForkServer:
    """The process that forks, as the tests see it.

    :param backend: of the service.
    """

    def __init__(self, backend: str) -> None:
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, '-m', 'tests.functional.fork_server'],
            env={**os.environ, BACKEND_VARIABLE: backend},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self._end)

    def start(self, arguments: list[str], output: pathlib.Path) -> 'Fork':
        """Start the service.

        :param output: a directory for what it prints.
        """
        pid = self.ask('fork', arguments, str(output))
        return Fork(self, pid, ['nova-snap-api', *arguments], output)

    def ask(self, *request: Any) -> Any:
        """Return the answer to a request."""
        assert self._process.stdin and self._process.stdout
        with self._lock:
            print(json.dumps(request), file=self._process.stdin, flush=True)
            return json.loads(self._process.stdout.readline())

    def _end(self) -> None:
        # A forked child that ends must not end what its parent uses.
        if os.getpid() == self._owner:
            self._process.kill()
            self._process.communicate()


class Fork:
    """A process of the service; it has what tests use of a Popen.

    :ivar returncode: None until it is seen to have ended.
    """

    def __init__(
        self,
        server: ForkServer,
        pid: int,
        args: list[str],
        output: pathlib.Path,
    ) -> None:
        self.pid = pid
        self.args = args
        self.returncode: int | None = None
        self._server = server
        self._output = output

    def poll(self) -> int | None:
        """Return the exit status, None while it runs."""
        if self.returncode is None:
            self.returncode = self._server.ask('status', self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status when it has ended.

        :raises subprocess.TimeoutExpired: it has not ended in seconds.
        """
        limit = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if limit is not None and time.monotonic() > limit:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            time.sleep(0.01)
        return status

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Return all that it printed, when it has ended."""
        self.wait(timeout)
        out, err = (self._output / name for name in ('stdout', 'stderr'))
        return out.read_text(), err.read_text()

    def send_signal(self, number: int) -> None:
        """Send a signal, if it runs; nobody has its number until then."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)


@functools.cache
def of(backend: str) -> ForkServer:
    """Return the one of this process for a backend."""
    return ForkServer(backend)


def main() -> int:
    """Fork until nobody asks any more; in a fork, run the service."""
    # The first one patches the process, if that is to be.
    for name in (*IMPORTED, SERVERS[os.environ[BACKEND_VARIABLE]]):
        importlib.import_module(name)
    statuses: dict[int, int | None] = {}
    for line in sys.stdin:
        what, *rest = json.loads(line)
        if what == 'status':
            answer = _status(statuses, *rest)
        elif answer := os.fork():
            statuses[answer] = None
        else:
            return _serve(*rest)
        print(json.dumps(answer), flush=True)
    return 0


def _status(statuses: dict[int, int | None], pid: int) -> int | None:
    if statuses[pid] is None:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            statuses[pid] = os.waitstatus_to_exitcode(status)
    return statuses[pid]


def _serve(arguments: list[str], output: str) -> int:
    for number, name, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, f'{output}/stdout', os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (2, f'{output}/stderr', os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        opened = os.open(name, flags, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    from nova_snap.cmd import api

    return api.main(arguments)


if __name__ == '__main__':
    sys.exit(main())
