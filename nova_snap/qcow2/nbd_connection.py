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

"""One connection to an NBD server, with timeouts that libnbd does not have."""

from collections.abc import Generator
from collections.abc import Iterator
import contextlib
import time
from typing import Any

from nova_snap.qcow2 import errors
from nova_snap.qcow2 import libnbd

#: The metadata context that tells data from holes and zeros (NBD protocol,
#: "Metadata querying").
_ALLOCATION = 'base:allocation'
#: Bytes of memory to read into, and the most that one request reads.
BUFFER = 1 << 20
#: Milliseconds between two checks of the timeout.
_POLL = 1000


class Memory:
    """Memory into which libnbd reads, and its buffers over parts of it.

    libnbd 1.14 never frees a buffer that it has read into, nor the memory
    below.  So there is one buffer for each part, not for each request, and
    :func:`memory` gives each later read what an earlier one does not need any
    more.

    :ivar is_busy: True while a request may still write to it.
    """

    def __init__(self) -> None:
        self._view = memoryview(bytearray(BUFFER))
        self._buffers: dict[tuple[int, int], Any] = {}
        self.is_busy = False

    def buffer(self, nbd: Any, start: int, length: int) -> Any:
        """Return a buffer of libnbd over a part of the memory."""
        part = start, length
        if part not in self._buffers:
            self._buffers[part] = nbd.Buffer.from_buffer(
                self._view[start : start + length]
            )
        return self._buffers[part]

    def content(self, length: int) -> memoryview:
        """Return the beginning of the memory."""
        return self._view[:length]


#: As many as were in use at the same time.
_unused: list[Memory] = []


@contextlib.contextmanager
def memory() -> Generator[Memory, None, None]:
    """Lend memory for the block."""
    try:
        lent = _unused.pop()
    except IndexError:
        lent = Memory()
    try:
        yield lent
    finally:
        if not lent.is_busy:
            _unused.append(lent)


class NbdConnection:
    """A connection for one thread at a time.

    :ivar size: bytes of the export.
    :ivar is_shareable: True if all connections see the same data
        (multi-conn).
    :ivar has_map: True if the server has an allocation map.

    :param uri: of the export.
    :param timeout: seconds within which the server has to answer a request.
    :raises LibraryMissing: libnbd's Python binding is not installed.
    :raises SourceError: the connection failed.
    """

    def __init__(self, uri: str, timeout: float) -> None:
        self._uri = uri
        self._timeout = timeout
        self._nbd: Any = libnbd.load()
        self._handle = self._nbd.NBD()
        self._is_stuck = False
        with self._translated():
            self._handle.add_meta_context(_ALLOCATION)
            self._allow_all_flags()
            self._handle.connect_uri(uri)
            self.size: int = self._handle.get_size()
            self.is_shareable = bool(self._handle.can_multi_conn())
            self.has_map = bool(self._handle.can_meta_context(_ALLOCATION))
            # QEMU looks for holes in each answer that may have several parts.
            # What is read is data, so that only takes time.
            self._flags: int = (
                self._nbd.CMD_FLAG_DF if self._handle.can_df() else 0
            )
            maximum = self._handle.get_block_size(self._nbd.SIZE_MAXIMUM)
        self._step = min(maximum or BUFFER, BUFFER)

    def read(self, memory: Memory, offset: int, length: int) -> None:
        """Read exactly so many bytes, at most BUFFER, to its beginning."""
        memory.is_busy = True
        for start in range(0, length, self._step):
            with self._translated():
                part = memory.buffer(
                    self._nbd, start, min(self._step, length - start)
                )
                self._wait(
                    self._handle.aio_pread(
                        part, offset + start, flags=self._flags
                    )
                )
        memory.is_busy = False

    def status(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Return (length, flags) of extents from ``offset``, at least one.

        The extents may end before ``length`` bytes.
        """
        found: list[int] = []

        def take(context: str, start: int, entries: Any, error: Any) -> int:
            if context == _ALLOCATION:
                found.extend(entries)
            return 0

        with self._translated():
            self._wait(self._handle.aio_block_status(length, offset, take))
        if not found:
            raise errors.SourceError(
                self._uri, f'the server has no extents for byte {offset}.'
            )
        numbers = iter(found)
        return zip(numbers, numbers, strict=True)

    def disconnect(self) -> None:
        """Send a disconnect request, without waiting.

        libnbd closes the connection when nothing refers to it any more.
        """
        if self._handle.aio_is_ready():
            self._handle.aio_disconnect()

    def _allow_all_flags(self) -> None:
        """Let libnbd pass "don't fragment" (NBD_CMD_FLAG_DF) with a read.

        It checks the flags of a read since 1.6, against none.
        """
        self._handle.set_strict_mode(
            self._handle.get_strict_mode() & ~self._nbd.STRICT_FLAGS
        )

    def _wait(self, cookie: int) -> None:
        """Wait for an answer, until the timeout.

        libnbd's synchronous calls have no timeout, and closing a stream waits
        for the reads that are under way.
        """
        deadline = time.monotonic() + self._timeout
        while not self._handle.aio_command_completed(cookie):
            if self._is_stuck or time.monotonic() > deadline:
                # A late answer may still be written to the memory, so the
                # connection is not used any more.
                self._is_stuck = True
                raise errors.SourceError(
                    self._uri,
                    f'the server did not answer for {self._timeout} s.',
                )
            self._handle.poll(_POLL)

    @contextlib.contextmanager
    def _translated(self) -> Generator[None, None, None]:
        try:
            yield
        except self._nbd.Error as error:
            raise errors.SourceError(self._uri, error.string) from error
