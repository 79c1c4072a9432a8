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

"""An NBD export as a source, read over several connections."""

from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterable
from collections.abc import Iterator
import contextlib

from nova_snap import concurrency
from nova_snap.qcow2 import errors
from nova_snap.qcow2 import format as qcow2_format
from nova_snap.qcow2 import nbd_connection
from nova_snap.qcow2 import pool
from nova_snap.qcow2 import source as source_lib

#: Flag of the context base:allocation: the extent reads as zeros.
_STATE_ZERO = 1 << 1
#: Bytes whose extents one request asks for; the protocol has 32 bits.
_STATUS_LENGTH = 1 << 30
#: Bytes of the shortest hole that can be left out: a cluster.  A guest can
#: make millions of holes that are shorter.
_SHORTEST_HOLE = qcow2_format.CLUSTER


class NbdSource:
    """An NBD export.

    :param uri: such as ``nbd+unix:///EXPORT?socket=PATH`` or
        ``nbd://HOST/EXPORT``.
    :param connections: how many to open, if the server supports several
        (multi-conn); otherwise one is opened.
    :param timeout: seconds within which the server has to answer a request.
    :param check: called before each request for extents, of which a large
        disk needs many; raises to end that.
    :raises LibraryMissing: libnbd's Python binding is not installed.
    :raises SourceError: the connection failed.
    """

    def __init__(
        self,
        uri: str,
        connections: int = 2,
        timeout: float = 120,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = uri
        self._check = check
        self._connections = concurrency.run_blocking(
            _connect, uri, connections, timeout
        )
        self._free = pool.Shelf(self._connections)
        self.size = self._connections[0].size
        self.parallel = len(self._connections)

    def __enter__(self) -> 'NbdSource':
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def extents(self) -> Iterator[source_lib.Extent]:
        """Yield the server's allocation map; without one, all is data.

        Holes that are shorter than a cluster count as data.
        """
        with self._borrow() as connection:
            if self.size and not connection.has_map:
                yield source_lib.Extent(0, self.size, True)
                return
            position = 0
            while position < self.size:
                self._check()
                asked = min(_STATUS_LENGTH, self.size - position)
                status = connection.status(position, asked)
                for extent in _coarse(position, status):
                    yield extent
                    position += extent.length

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly these bytes."""
        beyond = offset + length
        pieces = []
        for start in range(offset, beyond, nbd_connection.BUFFER):
            part = min(nbd_connection.BUFFER, beyond - start)
            with self.reading(start, part) as data:
                pieces.append(bytes(data))
        return pieces[0] if len(pieces) == 1 else b''.join(pieces)

    @contextlib.contextmanager
    def reading(
        self, offset: int, length: int
    ) -> Generator[memoryview, None, None]:
        """Read at most 1 MiB for the block."""
        with nbd_connection.memory() as memory:
            with self._borrow() as connection:
                connection.read(memory, offset, length)
            yield memory.content(length)

    def close(self) -> None:
        """Close the connections; safe to call twice."""
        connections, self._connections = self._connections, []
        self._free = pool.Shelf(self._connections)
        for connection in connections:
            connection.disconnect()

    def _borrow(
        self,
    ) -> contextlib.AbstractContextManager[nbd_connection.NbdConnection]:
        if not self._connections:
            raise errors.SourceError(self.name, 'it was closed.')
        return self._free.borrow()


def _coarse(
    position: int, status: Iterable[tuple[int, int]]
) -> Iterator[source_lib.Extent]:
    """Yield the extents of an answer, with short holes as data.

    Nothing is made of a short extent, since there may be millions of them.
    """
    start = position
    for length, flags in status:
        if flags & _STATE_ZERO and length >= _SHORTEST_HOLE:
            if position > start:
                yield source_lib.Extent(start, position - start, True)
            yield source_lib.Extent(position, length, False)
            start = position + length
        position += length
    if position > start:
        yield source_lib.Extent(start, position - start, True)


def _connect(
    uri: str, number: int, timeout: float
) -> list[nbd_connection.NbdConnection]:
    first = nbd_connection.NbdConnection(uri, timeout)
    if not first.is_shareable:
        return [first]
    others = [
        nbd_connection.NbdConnection(uri, timeout) for _ in range(1, number)
    ]
    return [first, *others]
