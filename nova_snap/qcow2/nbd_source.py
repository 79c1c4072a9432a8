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

from collections.abc import Generator
from collections.abc import Iterator
import contextlib
import time
from typing import Any

from nova_snap import concurrency
from nova_snap.qcow2 import errors
from nova_snap.qcow2 import libnbd
from nova_snap.qcow2 import pool
from nova_snap.qcow2 import source as source_lib

#: The metadata context that tells data from holes and zeros (NBD protocol,
#: "Metadata querying").
_ALLOCATION = 'base:allocation'
#: Flag of that context: the extent reads as zeros.
_STATE_ZERO = 1 << 1
#: Bytes whose extents are asked for at once; the protocol has 32 bits.
_STATUS_LENGTH = 1 << 30
#: Milliseconds of waiting after which the clock is looked at.
_POLL = 1000


class NbdSource:
    """An NBD export.

    :param uri: such as ``nbd+unix:///EXPORT?socket=PATH`` or
        ``nbd://HOST/EXPORT``.
    :param connections: how many to open, where the server says that they
        all see the same (multi-conn); else there is one.
    :param timeout: seconds within which the server has to answer a request.
    :raises LibraryMissing: libnbd's Python binding is not installed.
    :raises SourceError: there is no such export.
    """

    def __init__(
        self, uri: str, connections: int = 4, timeout: float = 120
    ) -> None:
        self.name = uri
        self._nbd: Any = libnbd.load()
        self._timeout = timeout
        self._handles: list[Any] = []
        concurrency.run_blocking(self._connect, connections)

    def __enter__(self) -> 'NbdSource':
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def extents(self) -> Iterator[source_lib.Extent]:
        """What the server's allocation map says; without one, all data."""
        handle = self._handles[0]
        if self.size and not handle.can_meta_context(_ALLOCATION):
            yield source_lib.Extent(0, self.size, True)
            return
        position = 0
        while position < self.size:
            for length, flags in self._status(position):
                # The last answer may go beyond what was asked, not the end.
                yield source_lib.Extent(
                    position, length, not flags & _STATE_ZERO
                )
                position += length

    def read(self, offset: int, length: int) -> bytearray:
        """Exactly these bytes."""
        if not self._handles:
            raise errors.SourceError(self.name, 'it was closed.')
        data = bytearray(length)
        view = memoryview(data)
        step = self._maximum or length
        with self._free.borrow() as handle, self._translated():
            for start in range(0, length, step):
                # from_buffer shares the memory; it needs libnbd 1.14.
                buffer = self._nbd.Buffer.from_buffer(
                    view[start : start + step]
                )
                self._wait(handle, handle.aio_pread(buffer, offset + start))
        return data

    def close(self) -> None:
        """Close the connections; safe to call twice."""
        concurrency.run_blocking(_disconnect, self._handles)
        # libnbd closes a connection when nothing refers to it any more.
        self._handles = []
        self._free = pool.Shelf(self._handles)

    def _connect(self, connections: int) -> None:
        try:
            with self._translated():
                first = self._open()
                self.size = first.get_size()
                self._maximum = first.get_block_size(self._nbd.SIZE_MAXIMUM)
                if first.can_multi_conn():
                    for _ in range(connections - 1):
                        self._open()
        except BaseException:
            _disconnect(self._handles)
            raise
        self.parallel = len(self._handles)
        self._free = pool.Shelf(self._handles)

    def _open(self) -> Any:
        handle = self._nbd.NBD()
        self._handles.append(handle)
        handle.add_meta_context(_ALLOCATION)
        handle.connect_uri(self.name)
        return handle

    def _status(self, position: int) -> list[tuple[int, int]]:
        """(length, flags) of some extents from ``position``, at least one."""
        found: list[int] = []

        def take(context: str, start: int, entries: Any, error: Any) -> int:
            if context == _ALLOCATION:
                found.extend(entries)
            return 0

        handle = self._handles[0]
        count = min(_STATUS_LENGTH, self.size - position)
        with self._translated():
            self._wait(handle, handle.aio_block_status(count, position, take))
        if not found:
            raise errors.SourceError(
                self.name, f'the server has no extents for byte {position}.'
            )
        return list(zip(found[::2], found[1::2], strict=True))

    def _wait(self, handle: Any, cookie: int) -> None:
        """Wait for an answer, but not for ever.

        libnbd's synchronous calls have no limit, and whoever closes a stream
        waits for the reads that are under way.
        """
        deadline = time.monotonic() + self._timeout
        while not handle.aio_command_completed(cookie):
            if time.monotonic() > deadline:
                raise errors.SourceError(
                    self.name,
                    f'the server did not answer for {self._timeout} s.',
                )
            handle.poll(_POLL)

    @contextlib.contextmanager
    def _translated(self) -> Generator[None, None, None]:
        try:
            yield
        except self._nbd.Error as error:
            raise errors.SourceError(self.name, error.string) from error


def _disconnect(handles: list[Any]) -> None:
    """Say good-bye, without waiting for an answer."""
    for handle in handles:
        if handle.aio_is_ready():
            handle.aio_disconnect()
