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

"""Where ``nova-snap-api`` listens, and to whom; no guest is needed."""

import base64
import contextlib
import http.client
import pathlib
import socket
import ssl
import stat
import subprocess
from typing import Any

import bcrypt

from tests.functional import api_base
from tests.functional import base

#: Seconds in which a request is answered; less than a connection may say
#: nothing.
PATIENCE = 40


class UnixConnection(http.client.HTTPConnection):
    """A connection to a unix socket."""

    def __init__(self, path: pathlib.Path) -> None:
        super().__init__('localhost', timeout=base.TIMEOUT)
        self._path = path

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


class TestListening(api_base.ServiceTestCase):
    """With native threads."""

    #: A server that does not exist; who may ask is told so.
    PATH = '/v2.1/servers/5b9c7bd5-1b7a-4f4e-9d0e-52f6a7f2f2a9/'
    PATH += 'os-instance-actions'

    def test_on_a_unix_socket(self) -> None:
        path = self.state_path / 'api.sock'
        # One that a killed process has left is no obstacle.
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as old:
            old.bind(str(path))
        self.make_connection = lambda: UnixConnection(path)
        service = self.start_service(api={'listen': str(path)})
        mode = path.stat().st_mode
        self.assertEqual(0, stat.S_IMODE(mode) & 0o007)
        self.assertEqual(404, self.get(self.PATH)[0])
        service.terminate()
        self.assertEqual(0, self.finish(service).returncode)

    def test_other_users_of_this_host(self) -> None:
        """A guest can connect to loopback as the user of its QEMU."""
        self.start_service()
        asking = (
            'import http.client as client\n'
            f'connection = client.HTTPConnection("127.0.0.1", {self.port})\n'
            f'connection.request("GET", "{self.PATH}")\n'
            'print(connection.getresponse().status)'
        )
        # Not the one of the tests: others may not read its directory.
        python = ('/usr/bin/python3', '-c', asking)
        nobody = ('setpriv', '--reuid=65534', '--clear-groups')
        for user, status in (((), '404'), (nobody, '403')):
            found = subprocess.check_output((*user, *python), text=True)
            self.assertEqual(status, found.strip(), user)

    def test_without_identity_only_on_this_host(self) -> None:
        self.configure(api={'listen': '0.0.0.0'})
        done = self.finish(self.start_service_process())
        self.assertEqual(1, done.returncode)
        self.assertIn('[api] listen', done.stderr)

    def test_passwords_and_tls(self) -> None:
        hashed = bcrypt.hashpw(b'word', bcrypt.gensalt(4)).decode()
        users = self.state_path / 'htpasswd'
        users.write_text(f'you:{hashed}\n')
        certificate, key = certificate_in(self.state_path)
        context = ssl.create_default_context(cafile=str(certificate))
        self.make_connection = lambda: http.client.HTTPSConnection(
            'localhost', self.port, timeout=PATIENCE, context=context
        )
        self.start_service(
            api={
                'auth_strategy': 'http_basic',
                'http_basic_auth_user_file': str(users),
                'listen': '0.0.0.0',
                'cert_file': str(certificate),
                'key_file': str(key),
            }
        )
        with socket.create_connection(('127.0.0.1', self.port)):
            # A client that says nothing keeps nobody waiting.
            self.assertEqual(401, self.get(self.PATH)[0])
        token = base64.b64encode(b'you:word').decode()
        self.headers['Authorization'] = f'Basic {token}'
        self.assertEqual(404, self.get(self.PATH)[0])
        version: Any = self.get('/v2.1')[1]['version']
        self.assertEqual(
            f'https://localhost:{self.port}/v2.1/',
            version['links'][0]['href'],
        )


class TestListeningEventlet(TestListening):
    """With eventlet."""

    BACKEND = 'eventlet'


def certificate_in(
    directory: pathlib.Path,
) -> tuple[pathlib.Path, pathlib.Path]:
    """Make a certificate for localhost; return its file and the key's."""
    certificate, key = directory / 'cert.pem', directory / 'key.pem'
    subprocess.run(
        [
            *('openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes'),
            *('-subj', '/CN=localhost', '-days', '1'),
            *('-addext', 'subjectAltName=DNS:localhost'),
            *('-keyout', str(key), '-out', str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key
