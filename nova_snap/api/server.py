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

"""WSGI servers: eventlet's, and cheroot with native threads.

Open this file for how ``nova-snap-api`` listens and stops listening.  The
application knows nothing of the server that runs it.
"""

from collections.abc import Callable
import dataclasses
import errno
import os
import pathlib
import socket
import stat
from typing import Any

from oslo_log import log as logging
from oslo_utils import units

from nova_snap import concurrency
from nova_snap.api import peer

LOG = logging.getLogger(__name__)

#: Seconds that a connection may say nothing.
SOCKET_TIMEOUT = 60

#: Connections that are served at once; others wait to be accepted.
MAX_CONNECTIONS = 1000

#: Native threads, each of which serves one request at a time.  More than
#: snapshots run and wait by default: an image service that does not answer
#: holds the request of each until its record exists.
THREADS = 48

BACKLOG = 512

#: Bytes of the line and the headers of a request.
MAX_HEADERS = 64 * units.Ki

#: A WSGI application.
Wsgi = Callable[..., Any]

#: What stops a server.
Stop = Callable[[], None]


def listening(address: str, port: int) -> socket.socket:
    """Return a socket that listens.

    :param address: an IP address, or the absolute path of a unix socket, to
        which its owner and group may connect.
    :raises OSError: that is not possible.
    """
    if address.startswith('/'):
        return _listening_on_path(pathlib.Path(address))
    family = socket.AF_INET6 if ':' in address else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind((address, port))
    found.listen(BACKLOG)
    return found


def _listening_on_path(path: pathlib.Path) -> socket.socket:
    if path.exists() and stat.S_ISSOCK(path.lstat().st_mode):
        _require_unused(path)
        path.unlink()  # of a process that was killed
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o117)
    try:
        found.bind(str(path))
    finally:
        os.umask(mask)
    found.listen(BACKLOG)
    return found


def _require_unused(path: pathlib.Path) -> None:
    with socket.socket(socket.AF_UNIX) as asking:
        try:
            asking.connect(str(path))
        except ConnectionRefusedError:
            return
    raise OSError(errno.EADDRINUSE, 'another program listens', str(path))


@dataclasses.dataclass(frozen=True)
class Tls:
    """The files of a certificate and of its key (PEM)."""

    cert_file: str
    key_file: str


def start(
    listener: socket.socket, application: Wsgi, tls: Tls | None = None
) -> Stop:
    """Serve an application in a thread, with the backend of this process.

    Return a function that stops it.
    """
    application = _with_local_address(listener, application)
    if concurrency.is_eventlet():
        return _start_eventlet(listener, application, tls)
    return _start_cheroot(listener, application, tls)


def _with_local_address(listener: socket.socket, application: Wsgi) -> Wsgi:
    """Return the application, which learns where its requests come to."""
    if listener.family == socket.AF_UNIX:
        return application
    address = listener.getsockname()[0]

    def told(environ: dict[str, Any], start_response: Any) -> Any:
        environ[peer.LOCAL_ADDRESS] = address
        return application(environ, start_response)

    return told


def _start_eventlet(
    listener: socket.socket, application: Wsgi, tls: Tls | None
) -> Stop:
    import eventlet
    from eventlet import wsgi

    if tls is not None:
        listener = eventlet.wrap_ssl(
            listener,
            certfile=tls.cert_file,
            keyfile=tls.key_file,
            server_side=True,
        )
    thread = eventlet.spawn(
        wsgi.server,
        listener,
        application,
        log=LOG,
        max_size=MAX_CONNECTIONS,
        socket_timeout=SOCKET_TIMEOUT,
        debug=False,
    )

    def stop() -> None:
        thread.kill()

    return stop


def _start_cheroot(
    listener: socket.socket, application: Wsgi, tls: Tls | None
) -> Stop:
    from cheroot import wsgi
    from cheroot.ssl import builtin

    class Server(wsgi.Server):
        """A server with a socket that listens already."""

        def bind(self, family: int, type: int, proto: int = 0) -> Any:
            """Take the socket."""
            self.socket = listener
            return listener

        def bind_unix_socket(self, bind_addr: Any) -> Any:
            """Take the socket; cheroot's own would be open to everybody."""
            self.socket = listener
            return listener

        def error_log(
            self, msg: str = '', level: int = 20, traceback: bool = False
        ) -> None:
            """Log what cheroot would print."""
            LOG.logger.log(level, msg, exc_info=traceback)

    class Adapter(builtin.BuiltinSSLAdapter):
        """TLS that is negotiated by the thread of the connection.

        Not by the one that accepts connections: it would wait for a client
        that says nothing, and all others with it.
        """

        def wrap(self, sock: Any) -> Any:
            """Return the connection, and variables of its requests."""
            made = self.context.wrap_socket(
                sock, do_handshake_on_connect=False, server_side=True
            )
            return made, {'wsgi.url_scheme': 'https', 'HTTPS': 'on'}

    server = Server(
        listener.getsockname(),
        application,
        numthreads=THREADS,
        request_queue_size=BACKLOG,
        timeout=SOCKET_TIMEOUT,
    )
    # Of a request; eventlet has limits of its own.
    server.max_request_header_size = MAX_HEADERS
    if tls is not None:
        server.ssl_adapter = Adapter(tls.cert_file, tls.key_file)
    server.prepare()
    concurrency.start_thread('api-server', server.serve)
    return server.stop
