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
"""The body of an answer, read from a file while it is sent."""

from collections.abc import Iterator
import os
from typing import BinaryIO

#: Bytes that are read at once, and in memory.
CHUNK = 1 << 18


class FileBody:
    """Bytes of a file, from ``start`` to before ``end``.

    The WSGI server closes it, at the end or when the client has gone.
    """

    def __init__(
        self, file: BinaryIO, start: int = 0, end: int | None = None
    ) -> None:
        self._file = file
        self._start = start
        self._end = self.size if end is None else end

    @property
    def size(self) -> int:
        """The size of the file, in bytes."""
        return os.fstat(self._file.fileno()).st_size

    def app_iter_range(self, start: int, end: int) -> 'FileBody':
        """Return a part of the file; WebOb calls this for a range."""
        return FileBody(self._file, start, end)

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(self._start)
        left = self._end - self._start
        while chunk := self._file.read(min(CHUNK, left)):
            left -= len(chunk)
            yield chunk

    def close(self) -> None:
        """Close the file."""
        self._file.close()
