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

"""Raw files and block devices as sources."""

from collections.abc import Generator
from collections.abc import Iterator
import contextlib
import errno
import os

from nova_snap.qcow2 import errors
from nova_snap.qcow2 import source as source_lib


class FileSource:
    """A raw file or block device.

    Extents are the file system's (SEEK_DATA and SEEK_HOLE).  On a block
    device, and on a file system without these, everything is data.

    :param path: of the file or device.
    :raises SourceError: the file can't be opened.
    """

    #: Two reads at once keep a slow disk busy.
    parallel = 2

    def __init__(self, path: str) -> None:
        self.name = path
        with self._translated():
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        # st_size is 0 for a block device.
        self.size = os.lseek(self._descriptor, 0, os.SEEK_END)

    def __enter__(self) -> 'FileSource':
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def extents(self) -> Iterator[source_lib.Extent]:
        """Yield data and holes, as the file system reports them."""
        position = 0
        while position < self.size:
            data = self._seek(position, os.SEEK_DATA)
            if data > position:
                yield source_lib.Extent(position, data - position, False)
            if data == self.size:
                return
            position = self._seek(data, os.SEEK_HOLE)
            yield source_lib.Extent(data, position - data, True)

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly these bytes; raise if the file has become shorter."""
        pieces = []
        with self._translated():
            while length:
                piece = os.pread(self._descriptor, length, offset)
                if not piece:
                    raise errors.SourceError(
                        self.name, f'it ends at byte {offset} now.'
                    )
                pieces.append(piece)
                offset += len(piece)
                length -= len(piece)
        return pieces[0] if len(pieces) == 1 else b''.join(pieces)

    @contextlib.contextmanager
    def reading(
        self, offset: int, length: int
    ) -> Generator[bytes, None, None]:
        """Read as ``read`` does."""
        yield self.read(offset, length)

    def close(self) -> None:
        """Close the file; safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _seek(self, position: int, whence: int) -> int:
        """Return where the next data or hole begins; else the file's end."""
        try:
            found = os.lseek(self._descriptor, position, whence)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return self.size
            if error.errno == errno.EINVAL:
                return position if whence == os.SEEK_DATA else self.size
            raise errors.SourceError(self.name, str(error)) from error
        return min(found, self.size)

    @contextlib.contextmanager
    def _translated(self) -> Generator[None, None, None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            raise errors.SourceError(self.name, reason) from error
