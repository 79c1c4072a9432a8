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


"""An HTTP reverse proxy that fails as it is told, in front of a real server.

Open this file to make a server unreachable, slow or broken for a test.  It
works on bytes: the head of a request is read, one rule at most is applied,
and then bytes are passed both ways until the server has closed.  Each
connection carries one request.
"""

from collections.abc import Callable
from collections.abc import Mapping
import contextlib
import dataclasses
import re
import select
import socket
import struct
import threading
from types import TracebackType
from typing import Self
import urllib.parse

CHUNK = 256 * 1024
TIMEOUT = 60
_EVERYTHING = 2**63


@dataclasses.dataclass(frozen=True)
class Request:
    """The head of a request; the names of headers are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    head: bytes = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class Answer:
    """Answer in place of the server, after ``after`` bytes of the body."""

    status: int
    body: bytes = b''
    content_type: str = 'text/plain'
    headers: tuple[tuple[str, str], ...] = ()
    after: int = 0


@dataclasses.dataclass(frozen=True)
class CutRequest:
    """Pass on ``after`` bytes of the body, then break both connections."""

    after: int = 0


@dataclasses.dataclass(frozen=True)
class Corrupt:
    """Pass on the request with one bit changed, behind ``after`` bytes.

    The body may be in chunks; their sizes should not stand there.
    """

    after: int


@dataclasses.dataclass(frozen=True)
class CutResponse:
    """Pass on the request, and ``after`` bytes of the answer; then break."""

    after: int = 0


@dataclasses.dataclass(frozen=True)
class Stall:
    """Pass on ``after`` bytes of the body, do nothing, then break."""

    after: int = 0
    seconds: float = TIMEOUT


@dataclasses.dataclass(frozen=True)
class Call:
    """Call after ``after`` bytes of the body; an Answer replaces the rest."""

    function: Callable[[Request], Answer | None]
    after: int = 0


Action = Answer | Corrupt | CutRequest | CutResponse | Stall | Call


@dataclasses.dataclass
class Rule:
    """Do this to requests that match, ``times`` times (None: always)."""

    method: str
    pattern: str
    action: Action
    times: int | None = 1

    def matches(self, request: Request) -> bool:
        return (
            self.times != 0
            and self.method in (request.method, '*')
            and re.search(self.pattern, request.path) is not None
        )


class FaultProxy:
    """The proxy; a context manager.

    :param target: URL of the real server.
    :param headers: added to each request.
    :ivar requests: all that came, in order.
    """

    def __init__(
        self, target: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self.headers = dict(headers or {})
        url = urllib.parse.urlsplit(target)
        assert url.hostname and url.port
        self._target = (url.hostname, url.port)
        self._rules: list[Rule] = []
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._listener = socket.create_server(('127.0.0.1', 0))
        self.requests: list[Request] = []

    @property
    def url(self) -> str:
        return f'http://127.0.0.1:{self._listener.getsockname()[1]}'

    def add(
        self,
        method: str,
        pattern: str,
        action: Action,
        times: int | None = 1,
    ) -> None:
        """Add a rule; of those that match, the oldest is taken.

        :param method: or '*' for any.
        :param pattern: a regular expression, searched for in the path.
        """
        with self._lock:
            self._rules.append(Rule(method, pattern, action, times))

    def clear(self) -> None:
        """Forget all rules and requests."""
        with self._lock:
            self._rules.clear()
            self.requests.clear()

    def count(self, method: str, pattern: str = '') -> int:
        """How many such requests came."""
        return sum(
            request.method == method and bool(re.search(pattern, request.path))
            for request in self.requests
        )

    def start(self) -> None:
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                client.settimeout(TIMEOUT)
                threading.Thread(
                    target=self._serve, args=(client,), daemon=True
                ).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            request, rest = _read_head(client, self.headers)
            if request is None:
                return
            _Exchange(client, request, rest, self._target, self._stopped).run(
                self._take_action(request)
            )

    def _take_action(self, request: Request) -> Action | None:
        with self._lock:
            self.requests.append(request)
            for rule in self._rules:
                if rule.matches(request):
                    if rule.times is not None:
                        rule.times -= 1
                    return rule.action
        return None


class _Exchange:
    """One request and its answer."""

    def __init__(
        self,
        client: socket.socket,
        request: Request,
        rest: bytes,
        target: tuple[str, int],
        stopped: threading.Event,
    ) -> None:
        self._client = client
        self._request = request
        self._rest = rest
        self._target = target
        self._stopped = stopped

    def run(self, action: Action | None) -> None:
        if isinstance(action, Answer) and action.after == 0:
            self._answer(action)
            return
        with socket.create_connection(self._target, TIMEOUT) as server:
            server.sendall(self._request.head)
            self._act(action, server)

    def _act(self, action: Action | None, server: socket.socket) -> None:
        match action:
            case None:
                self._pass(server)
                self._hang_up()
            case Corrupt(after):
                self._pass(server, up=after)
                changed = (self._rest or self._client.recv(1))[0] ^ 1
                self._rest = bytes([changed]) + self._rest[1:]
                self._pass(server)
                self._hang_up()
            case CutResponse(after):
                self._pass(server, down=after)
                _break(self._client)
            case CutRequest(after):
                self._pass(server, up=after)
                _break(server)
                _break(self._client)
            case Stall(after, seconds):
                self._pass(server, up=after)
                self._stopped.wait(seconds)
                _break(server)
                _break(self._client)
            case Answer(after=after):
                self._pass(server, up=after)
                _break(server)
                self._answer(action)
            case Call(function, after):
                self._pass(server, up=after)
                answer = function(self._request)
                if answer is None:
                    self._pass(server)
                else:
                    self._answer(answer)

    def _pass(
        self,
        server: socket.socket,
        up: int = _EVERYTHING,
        down: int = _EVERYTHING,
    ) -> None:
        """Pass bytes until the server closes or either number is reached."""
        first, self._rest = self._rest[:up], self._rest[up:]
        server.sendall(first)
        up -= len(first)
        while up > 0:
            ready, _, _ = select.select([self._client, server], [], [])
            if self._client in ready:
                data = self._client.recv(min(CHUNK, up))
                if not data:
                    _break(server)
                    return
                # A server that has answered early may have hung up already.
                with contextlib.suppress(ConnectionError):
                    server.sendall(data)
                up -= len(data)
            if server in ready:
                data = server.recv(CHUNK)
                self._client.sendall(data[:down])
                down -= len(data)
                if not data or down <= 0:
                    return

    def _hang_up(self) -> None:
        """Read what still comes, lest a reset overtakes the answer."""
        self._client.shutdown(socket.SHUT_WR)
        while self._client.recv(CHUNK):
            pass

    def _answer(self, answer: Answer) -> None:
        """Say it, as a server would."""
        lines = [
            f'HTTP/1.1 {answer.status} As Told',
            f'Content-Type: {answer.content_type}',
            f'Content-Length: {len(answer.body)}',
            'Connection: close',
            *(f'{name}: {value}' for name, value in answer.headers),
        ]
        head = '\r\n'.join(lines).encode() + b'\r\n\r\n'
        self._client.sendall(head + answer.body)
        self._hang_up()


def _read_head(
    client: socket.socket, more_headers: Mapping[str, str]
) -> tuple[Request | None, bytes]:
    """Read the head; return it with "close", and the data behind it."""
    data = b''
    while b'\r\n\r\n' not in data:
        more = client.recv(CHUNK)
        if not more:
            return None, b''
        data += more
    head, _, rest = data.partition(b'\r\n\r\n')
    first, *lines = head.decode('latin-1').split('\r\n')
    method, path, _ = first.split(' ', 2)
    pairs = [line.split(': ', 1) for line in lines]
    headers = {name.lower(): value for name, value in pairs}
    kept = [f'{n}: {v}' for n, v in pairs if n.lower() != 'connection']
    kept += [f'{name}: {value}' for name, value in more_headers.items()]
    text = '\r\n'.join([first, *kept, 'Connection: close']) + '\r\n\r\n'
    return Request(method, path, headers, text.encode('latin-1')), rest


def _break(connection: socket.socket) -> None:
    """Close with a reset, as a machine that lost power would look."""
    connection.setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)
    )
    connection.close()
