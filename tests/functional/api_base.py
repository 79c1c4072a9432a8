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

"""What tests of ``nova-snap-api`` share: the service, and requests to it."""

from collections.abc import Callable
import contextlib
import http.client
import json
import socket
import sys
import time
from typing import Any
from typing import ClassVar

from tests.functional import base
from tests.functional import content
from tests.functional import fork_server
from tests.lab import exhaustive


class ServiceTestCase(content.ContentTestCase):
    """The service, in a process of its own."""

    BACKEND: ClassVar[str] = 'threading'

    #: How the service is started: by its command line, or by a process that
    #: has imported it.  For a release always by the command line.
    BY_FORK: bool = exhaustive.choose((False, True), (True,))[0]

    def setUp(self) -> None:
        super().setUp()
        with contextlib.closing(socket.socket()) as free:
            free.bind(('127.0.0.1', 0))
            self.port: int = free.getsockname()[1]
        self.headers = {
            'Content-Type': 'application/json',
            'OpenStack-API-Version': 'compute 2.84',
        }
        self.make_connection: Callable[[], http.client.HTTPConnection] = (
            lambda: http.client.HTTPConnection(
                '127.0.0.1', self.port, timeout=base.TIMEOUT
            )
        )

    def configure(self, **sections: dict[str, str]) -> None:
        api = {'concurrency_backend': self.BACKEND}
        if hasattr(self, 'port'):
            api['port'] = str(self.port)
        sections['api'] = {**api, **sections.get('api', {})}
        self._backend = sections['api']['concurrency_backend']
        super().configure(**sections)

    def start_service(self, **sections: dict[str, str]) -> Any:
        """Start the service; return its process when it answers."""
        self.configure(**sections)
        process = self.start_service_process()
        self.wait_until(
            process, 'the service answers', lambda: self.get('/')[0] == 200
        )
        return process

    def start_service_process(self) -> Any:
        """Start the service; it may fail."""
        if not self.BY_FORK:
            return self.start_command_line()
        arguments = ['--config-file', str(self.config)]
        server = fork_server.of(self._backend)
        process = server.start(arguments, self.directory())
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def start_command_line(self) -> Any:
        """Start the service as a user does; it may fail."""
        return self.start_process(
            [
                *(sys.executable, '-m', 'nova_snap.cmd.api'),
                *('--config-file', str(self.config)),
            ],
            env=without_backend(),
        )

    def wait_until(self, process: Any, what: str, is_so: Any) -> None:
        """Wait until something is so, while the service runs."""
        deadline = time.monotonic() + base.TIMEOUT
        while True:
            with contextlib.suppress(ConnectionError, FileNotFoundError):
                if is_so():
                    return
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                self.finish(process)
                self.fail(f'It did not come true that {what}.')
            time.sleep(0.05)

    def call(
        self, method: str, path: str, body: Any = None
    ) -> tuple[int, Any]:
        """Send a request; return the status and the document."""
        with contextlib.closing(self.make_connection()) as connection:
            connection.request(
                method,
                path,
                None if body is None else json.dumps(body),
                self.headers,
            )
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None

    def get(self, path: str) -> tuple[int, Any]:
        """Send a GET."""
        return self.call('GET', path)


def without_backend() -> dict[str, str]:
    """Return the environment without a choice of the backend."""
    found = base.environment()
    found.pop('NOVA_SNAP_CONCURRENCY_BACKEND', None)
    return found
