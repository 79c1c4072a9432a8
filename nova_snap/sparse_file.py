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

"""Writing of files in order, with holes where the data is zeros."""

import os
from typing import BinaryIO

#: Zeros of this size, and at a multiple of it, become a hole.
BLOCK = 64 * 1024

_ZEROS = bytes(BLOCK)


class SparseWriter:
    """A writer of a new file, from its start.

    :param file: is empty, and can seek; is written by nobody else meanwhile.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = 0

    def write(self, data: bytes) -> None:
        """Write the next bytes.

        :raises OSError: they can't be written.
        """
        done = 0
        while done < len(data):
            part = data[done : done + BLOCK - self._size % BLOCK]
            if part == _ZEROS[: len(part)]:
                self._file.seek(len(part), os.SEEK_CUR)
            else:
                self._file.write(part)
            done += len(part)
            self._size += len(part)

    def finish(self) -> None:
        """Give the file its size, as it may end in a hole.

        :raises OSError: the rest can't be written.
        """
        self._file.flush()
        self._file.truncate(self._size)
