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
import os
import pathlib
import socket
import ssl
import stat
import subprocess
import sys
from typing import Any

import bcrypt

from nova_snap.api import server
from tests.functional import api_base
from tests.functional import base
from tests.lab import exhaustive

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

    def test_a_limit_of_headers(self) -> None:
        """A client may not have any amount of memory used."""
        self.start_service()
        headers = {'X-Long': 'x' * (server.MAX_HEADERS + 1)}
        status = None
        with (
            contextlib.suppress(ConnectionError),
            contextlib.closing(self.make_connection()) as connection,
        ):
            connection.request('GET', '/', headers=headers)
            status = connection.getresponse().status
        # The server need not read all that it refuses.
        self.assertIn(status, (None, 400, 413, 431))
        self.assertEqual(200, self.get('/')[0])

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
        for password, status in ((b'another', 401), (b'word', 404)):
            token = base64.b64encode(b'you:' + password).decode()
            self.headers['Authorization'] = f'Basic {token}'
            self.assertEqual(status, self.get(self.PATH)[0])
        version: Any = self.get('/v2.1')[1]['version']
        self.assertEqual(
            f'https://localhost:{self.port}/v2.1/',
            version['links'][0]['href'],
        )


@exhaustive.usually('test_on_a_unix_socket', 'test_passwords_and_tls')
class TestListeningEventlet(TestListening):
    """With eventlet."""

    BACKEND = 'eventlet'


@exhaustive.usually(
    'test_on_a_unix_socket', 'test_without_identity_only_on_this_host'
)
class TestActivation(api_base.ServiceTestCase):
    """A socket from the parent, as systemd gives it, with native threads."""

    def start_with(
        self, listener: socket.socket, **api: str
    ) -> 'subprocess.Popen[str]':
        """Start the service with a listening socket; it may fail."""
        self.configure(api={**api, 'listen': '192.0.2.1'})
        given = os.dup(listener.fileno())
        self.addCleanup(os.close, given)
        # systemd starts a service in the process that the variable names.
        giving = (
            'import os, sys\n'
            f'os.dup2({given}, 3)\n'
            'os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")\n'
            'os.execv(sys.argv[1], sys.argv[1:])\n'
        )
        return self.start_process(
            [
                *(sys.executable, '-c', giving),
                *(sys.executable, '-m', 'nova_snap.cmd.api'),
                *('--config-file', str(self.config)),
            ],
            env=api_base.without_backend(),
            pass_fds=[given],
        )

    def test_on_a_loopback_address(self) -> None:
        with socket.create_server(('127.0.0.1', self.port)) as listener:
            # It is answered when the service has started.
            service = self.start_with(listener)
            self.assertEqual(200, self.get('/')[0])
            # The rules are those of the socket, not of [api] listen.
            self.assertEqual(404, self.get(TestListening.PATH)[0])
            service.terminate()
            self.assertEqual(0, self.finish(service).returncode)
            # Meanwhile others wait for the next process.
            service = self.start_with(listener)
            self.assertEqual(200, self.get('/')[0])

    def test_on_a_unix_socket(self) -> None:
        path = self.state_path / 'api.sock'
        self.make_connection = lambda: UnixConnection(path)
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
            listener.bind(str(path))
            listener.listen()
            path.chmod(0o666)
            refused = self.finish(self.start_with(listener))
            self.assertEqual(1, refused.returncode)
            self.assertIn('SocketMode', refused.stderr)
            path.chmod(0o660)
            service = self.start_with(listener)
            self.assertEqual(404, self.get(TestListening.PATH)[0])
            service.terminate()
            self.assertEqual(0, self.finish(service).returncode)
            # It is systemd's, and stays.
            self.assertTrue(path.is_socket())

    def test_without_identity_only_on_this_host(self) -> None:
        with socket.create_server(('0.0.0.0', self.port)) as listener:
            refused = self.finish(self.start_with(listener))
        self.assertEqual(1, refused.returncode)
        self.assertIn('0.0.0.0 can be reached', refused.stderr)

    def test_what_is_no_listening_socket(self) -> None:
        with contextlib.closing(socket.socket()) as connection:
            refused = self.finish(self.start_with(connection))
        self.assertEqual(1, refused.returncode)
        self.assertIn('Accept=no', refused.stderr)


@exhaustive.usually('test_on_a_unix_socket')
class TestActivationEventlet(TestActivation):
    """With eventlet, whose process begins twice."""

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
