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

"""Whose program is connected, as the kernel tells it."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import errno
import http.client
import os
import socket
import subprocess
from typing import Any

from nova_snap.api import peer
from nova_snap.api import server
from nova_snap.api import sock_diag
from tests.unit import base

#: Functions that return the sockets with two ports; or all.
Ask = Callable[[int, int], list[sock_diag.Socket]]


def _listed(_port: int, _remote_port: int) -> list[sock_diag.Socket]:
    return peer.listed_sockets()


def _end(name: Any) -> sock_diag.End:
    return sock_diag.end(name[0], name[1])


#: Runs as another user: connects, says from which port, and waits.
CONNECT = """
import socket, sys
address, port, source, source_port, ending = sys.argv[1:]
client = socket.socket()
client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
client.bind((source, int(source_port)))
client.connect((address, int(port)))
client.setblocking(False)
if ending == 'half-closed':
    # More than the other end takes, so that the end is not acknowledged.
    try:
        client.send(bytes(8 << 20))
    except BlockingIOError:
        pass
    client.shutdown(socket.SHUT_WR)
print(client.getsockname()[1], flush=True)
sys.stdin.read()
"""

OTHER_USER = 65534


class PeerTestCase(base.TestCase):
    """A server within this process, and programs of others."""

    def listening(self, host: str = '127.0.0.1') -> socket.socket:
        """Return a socket that listens."""
        family = socket.AF_INET6 if ':' in host else socket.AF_INET
        found = socket.socket(family)
        self.addCleanup(found.close)
        if family == socket.AF_INET6:
            # Also where the host has no address of IPv6.
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        found.bind((host, 0))
        found.listen()
        return found

    @contextlib.contextmanager
    def connected(
        self,
        port: int,
        source: str = '127.0.0.1',
        source_port: int = 0,
        ending: str = 'open',
    ) -> Iterator[int]:
        """Have another user connect, if this one is root; yield the port."""
        arguments = ('127.0.0.1', port, source, source_port, ending)
        with subprocess.Popen(
            ['/usr/bin/python3', '-c', CONNECT, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            user=OTHER_USER if os.geteuid() == 0 else os.geteuid(),
        ) as program:
            assert program.stdout is not None
            yield int(program.stdout.readline())
            assert program.stdin is not None
            program.stdin.close()


class TestSockets(PeerTestCase):
    """Both ways to ask tell the same."""

    def check(self, ask: Ask, host: str) -> None:
        """Check the answers on a connection of this process to itself."""
        self.patch(sock_diag, 'sockets', ask)
        with self.listening(host) as listener:
            with socket.create_connection(
                listener.getsockname()[:2]
            ) as client:
                here, there = (
                    _end(client.getsockname()),
                    _end(client.getpeername()),
                )
                [found] = peer.sockets(here, there)
                self.assertTrue(found.is_connected)
                self.assertEqual(os.geteuid(), found.uid)
                self.assertEqual([], peer.sockets(there, there))
            for closed in peer.sockets(here, there):
                # Shown as root's, whoever has closed it.
                self.assertFalse(closed.is_connected)

    def test_connected(self) -> None:
        for ask in (sock_diag.sockets, _listed):
            for host in ('127.0.0.1', '::ffff:127.0.0.1'):
                with self.subTest(ask=ask.__name__, host=host):
                    self.check(ask, host)

    def test_without_sock_diag(self) -> None:
        """The kernel, or a sandbox, may not have it."""

        def refuse(*_ports: int) -> list[sock_diag.Socket]:
            raise OSError(errno.EAFNOSUPPORT, 'no netlink')

        self.check(refuse, '127.0.0.1')

    def test_of_another_user(self) -> None:
        listener = self.listening()
        there = _end(listener.getsockname())
        with self.connected(there.port) as port:
            here = sock_diag.end('127.0.0.1', port)
            for ask in (sock_diag.sockets, _listed):
                self.patch(sock_diag, 'sockets', ask)
                [found] = peer.sockets(here, there)
                expected = OTHER_USER if os.geteuid() == 0 else os.geteuid()
                self.assertEqual(expected, found.uid)


class TestTrust(PeerTestCase):
    """Another user, who looks for a socket of root's to be taken for his."""

    def is_trusted(self, address: str, port: int, own_port: int) -> bool:
        """Return what is thought of a request from an address and port."""
        return peer.is_trusted(
            {
                'REMOTE_ADDR': address,
                'REMOTE_PORT': str(port),
                'SERVER_PORT': str(own_port),
                peer.LOCAL_ADDRESS: '127.0.0.1',
            }
        )

    def setUp(self) -> None:
        super().setUp()
        self.listener = self.listening()
        self.port = self.listener.getsockname()[1]

    def test_this_user(self) -> None:
        with socket.create_connection(('127.0.0.1', self.port)) as client:
            port = client.getsockname()[1]
            self.assertTrue(self.is_trusted('127.0.0.1', port, self.port))
            self.assertFalse(self.is_trusted('127.0.0.2', port, self.port))
            client.shutdown(socket.SHUT_WR)
            self.assertFalse(self.is_trusted('127.0.0.1', port, self.port))

    def test_with_the_port_of_the_service(self) -> None:
        """Where the service's own end has the same ports."""
        with self.connected(
            self.port, '127.0.0.2', self.port, 'half-closed'
        ) as port:
            accepted, _address = self.listener.accept()
            self.addCleanup(accepted.close)
            self.assertFalse(self.is_trusted('127.0.0.2', port, self.port))

    def test_with_the_port_of_a_connection_of_root(self) -> None:
        with (
            socket.create_connection(('127.0.0.1', self.port)) as client,
            self.connected(
                self.port,
                '127.0.0.2',
                client.getsockname()[1],
                'half-closed',
            ) as port,
        ):
            self.assertTrue(self.is_trusted('127.0.0.1', port, self.port))
            self.assertFalse(self.is_trusted('127.0.0.2', port, self.port))

    def test_what_is_not_known(self) -> None:
        self.assertFalse(peer.is_trusted({}))
        self.assertFalse(self.is_trusted('', 1, self.port))
        self.assertFalse(self.is_trusted('127.0.0.1', 1, self.port))


class TestServer(PeerTestCase):
    """The server of either backend says where a request came to."""

    def application(self, environ: Any, start_response: Any) -> list[bytes]:
        """Answer whether the request is trusted."""
        start_response('200 OK', [('Content-Type', 'text/plain')])
        return [str(peer.is_trusted(environ)).encode()]

    def test_request(self) -> None:
        listener = server.listening('127.0.0.1', 0)
        self.addCleanup(listener.close)
        self.addCleanup(server.start(listener, self.application))
        connection = http.client.HTTPConnection(
            '127.0.0.1', listener.getsockname()[1], timeout=60
        )
        with contextlib.closing(connection):
            connection.request('GET', '/')
            self.assertEqual(b'True', connection.getresponse().read())
