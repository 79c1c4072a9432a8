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

"""What is sent to Cinder, to a server that is there: a real socket's end."""

from http import server
import json
import threading
import time
from typing import Any

from oslo_config import cfg

from nova_snap import concurrency
from nova_snap import conf as nova_snap_conf
from nova_snap.conf import cinder as cinder_conf
from nova_snap.volume import cinder
from tests.unit import base

VOLUME = {'id': 'v', 'status': 'in-use', 'size': 1, 'snapshot_id': 's'}

#: Seconds that an answer takes.
SLOW = 0.5


class _Handler(server.BaseHTTPRequestHandler):
    """Notes each request; snapshots are slow to come."""

    def do_GET(self) -> None:
        self.server.paths.append(self.path)  # type: ignore[attr-defined]
        self._answer({'volumes': [VOLUME, {**VOLUME, 'snapshot_id': None}]})

    def do_POST(self) -> None:
        size = int(self.headers['Content-Length'])
        asked = json.loads(self.rfile.read(size))['snapshot']
        time.sleep(SLOW)
        snapshot = {'id': f'of {asked["volume_id"]}', 'status': 'creating'}
        self._answer({'snapshot': {**asked, **snapshot}})

    def _answer(self, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


class CinderTest(base.TestCase):
    """A Cinder that answers what it is told to."""

    def setUp(self) -> None:
        super().setUp()
        self.server: Any = server.ThreadingHTTPServer(
            ('127.0.0.1', 0), _Handler
        )
        self.server.paths = []
        self.addCleanup(self.server.server_close)
        concurrency.start_thread('cinder', self.server.serve_forever)
        self.addCleanup(self.server.shutdown)
        conf = cfg.ConfigOpts()
        nova_snap_conf.register_opts(conf)
        cinder_conf.register_opts(conf)
        conf([])
        url = f'http://127.0.0.1:{self.server.server_port}/v3'
        conf.set_override('auth_type', 'none', 'cinder')
        conf.set_override('endpoint_template', url, 'cinder')
        self.cinder = cinder.CinderVolumeService.from_conf(conf)

    def test_volumes_of_every_project(self) -> None:
        """Cinder passes over all_tenants where the login is no admin's."""
        (found,) = self.cinder.volumes_of_snapshot('s')
        self.assertEqual('v', found.id)
        self.assertIn('all_tenants=True', self.server.paths[0])

    def test_threads_share_a_client(self) -> None:
        """Each gets the answer to its own request, and none waits."""
        made: dict[str, str] = {}

        def create(number: int) -> None:
            snapshot = self.cinder.create_snapshot(str(number), 'x', None, {})
            made[str(number)] = snapshot.id

        began = time.monotonic()
        threads = [
            threading.Thread(target=create, args=(number,))
            for number in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual({str(n): f'of {n}' for n in range(8)}, made)
        self.assertLess(time.monotonic() - began, 8 * SLOW)
