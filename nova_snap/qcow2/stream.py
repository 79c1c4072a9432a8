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

"""An image as a stream: as chunks of bytes, or as a file to read."""

from collections.abc import Generator
import dataclasses
import io
from types import TracebackType
from typing import Any
from typing import BinaryIO
from typing import Protocol

from nova_snap import concurrency
from nova_snap.qcow2 import source as source_lib


@dataclasses.dataclass(frozen=True)
class Progress:
    """Progress of a stream.

    :ivar done: bytes of the source's data that have been read.
    :ivar total: bytes of data that the source has.
    :ivar written: bytes of the image that the consumer has taken.
    """

    done: int
    total: int
    written: int


class Writer(Protocol):
    """The protocol of writers, which make the bytes of an image.

    :ivar done: bytes of the source's data that have been read.
    :ivar total: bytes of data that the source has.
    :ivar length: bytes of the image, once known.
    """

    done: int
    total: int

    @property
    def length(self) -> int | None:
        """Bytes of the image, once known."""

    def chunks(self) -> Generator[source_lib.Bytes, None, None]:
        """Yield the bytes in order; closing the generator ends its threads."""


class Stream:
    """An image that is being written: iterate over it for chunks of bytes.

    Native threads read and compress a bounded number of chunks ahead; they
    wait while the consumer takes none.  An error in a thread is raised from
    the iteration, and the threads have ended by then.  Under eventlet the
    other green threads run while the consumer waits.

    Use a stream as a context manager, inside that of its source.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._chunks = writer.chunks()
        self._written = 0
        self._is_closed = False

    def __enter__(self) -> 'Stream':
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> 'Stream':
        return self

    def __next__(self) -> source_lib.Bytes:
        chunk = concurrency.run_blocking(next, self._chunks, None)
        if chunk is None:
            raise StopIteration
        self._written += len(chunk)
        return chunk

    @property
    def length(self) -> int | None:
        """Bytes of the whole image; None as long as they are not known."""
        return self._writer.length

    @property
    def progress(self) -> Progress:
        """Progress of the stream; cheap, and safe in any thread."""
        return Progress(self._writer.done, self._writer.total, self._written)

    def close(self) -> None:
        """Wait for the reads under way and end the threads.

        Safe to call twice: a file that was left to the garbage collector may
        do so when Python ends, and no thread can be started any more.
        """
        if not self._is_closed:
            concurrency.run_blocking(self._chunks.close)
            self._is_closed = True

    def as_file(self) -> BinaryIO:
        """Return the stream as a file that can be read once.

        Closing the file closes the stream.
        """
        file: Any = _File(self)  # all of BinaryIO that a reader needs
        return file  # type: ignore[no-any-return]


class _File(io.RawIOBase):
    """A stream as a file; ``read(n)`` gives n bytes, fewer at the end."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._rest = memoryview(b'')
        self._position = 0

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer).cast('B')
        if not self._fill():
            return 0
        count = min(len(target), len(self._rest))
        target[:count] = self._take(count)
        return count

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            return self.readall()
        pieces = []
        while size and self._fill():
            pieces.append(self._take(min(size, len(self._rest))))
            size -= len(pieces[-1])
        return b''.join(pieces)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()

    def _fill(self) -> bool:
        """Get a chunk if none is left; return False at the stream's end."""
        if self.closed:
            raise ValueError('The stream was closed.')
        if not self._rest:
            self._rest = memoryview(next(self._stream, b''))
        return bool(self._rest)

    def _take(self, count: int) -> memoryview:
        taken, self._rest = self._rest[:count], self._rest[count:]
        self._position += count
        return taken
