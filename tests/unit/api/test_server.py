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
"""The WSGI server of this process's backend."""

from collections.abc import Iterable
import contextlib
import http.client
import threading
from typing import Any

from nova_snap import concurrency
from nova_snap.api import server
from tests.unit import base

#: Snapshots that run and wait by default.
SNAPSHOTS = 25

#: Seconds for an answer; only a hang takes longer.
PATIENCE = 60


class TestServer(base.TestCase):
    """Requests that take long, and others meanwhile."""

    def setUp(self) -> None:
        super().setUp()
        self.go_on = threading.Event()
        self.held = threading.Semaphore(0)
        listener = server.listening('127.0.0.1', 0)
        self.addCleanup(listener.close)
        self.port = listener.getsockname()[1]
        stop = server.start(listener, self.application)
        self.addCleanup(stop)
        self.addCleanup(self.go_on.set)

    def application(
        self, environ: dict[str, Any], start_response: Any
    ) -> Iterable[bytes]:
        """Answer; to one path when the test says so."""
        if environ['PATH_INFO'] == '/hold':
            self.held.release()
            self.go_on.wait()
        start_response('204 No Content', [('Content-Length', '0')])
        return []

    def status(self, path: str) -> int:
        """Send a request; return the status of its answer."""
        connection = http.client.HTTPConnection(
            '127.0.0.1', self.port, timeout=PATIENCE
        )
        with contextlib.closing(connection):
            connection.request('GET', path)
            return connection.getresponse().status

    def test_as_many_as_snapshots_do_not_keep_others_waiting(self) -> None:
        """Each waits for an image service that does not answer."""
        for number in range(SNAPSHOTS):
            concurrency.start_thread(
                f'hold-{number}', lambda: self.assert_answered('/hold')
            )
        for _ in range(SNAPSHOTS):
            self.assertTrue(self.held.acquire(timeout=PATIENCE))
        self.assert_answered('/')

    def assert_answered(self, path: str) -> None:
        """Check that a request gets its answer."""
        self.assertEqual(204, self.status(path))
