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

from collections.abc import Iterator
import contextlib

from nova_snap import concurrency
from nova_snap.qcow2 import errors
from nova_snap.qcow2 import nbd_connection
from nova_snap.qcow2 import pool
from nova_snap.qcow2 import source as source_lib

#: Flag of the context base:allocation: the extent reads as zeros.
_STATE_ZERO = 1 << 1
#: Bytes whose extents one request asks for; the protocol has 32 bits.
_STATUS_LENGTH = 1 << 30


class NbdSource:
    """An NBD export.

    :param uri: such as ``nbd+unix:///EXPORT?socket=PATH`` or
        ``nbd://HOST/EXPORT``.
    :param connections: how many to open, if the server supports several
        (multi-conn); otherwise one is opened.
    :param timeout: seconds within which the server has to answer a request.
    :raises LibraryMissing: libnbd's Python binding is not installed.
    :raises SourceError: the connection failed.
    """

    def __init__(
        self, uri: str, connections: int = 2, timeout: float = 120
    ) -> None:
        self.name = uri
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
        """Yield the server's allocation map; without one, all is data."""
        with self._borrow() as connection:
            if self.size and not connection.has_map:
                yield source_lib.Extent(0, self.size, True)
                return
            position = 0
            while position < self.size:
                asked = min(_STATUS_LENGTH, self.size - position)
                for length, flags in connection.status(position, asked):
                    data = not flags & _STATE_ZERO
                    yield source_lib.Extent(position, length, data)
                    position += length

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly these bytes."""
        with self._borrow() as connection:
            return connection.read(offset, length)

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
