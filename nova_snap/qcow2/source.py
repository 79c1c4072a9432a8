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

"""The protocol of sources, and the checks that every source must pass.

Open this file to write another source; ``file_source`` and ``nbd_source``
are the two that come with the project.
"""

from collections.abc import Generator
from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import dataclasses
from typing import Protocol

from nova_snap.qcow2 import errors

Bytes = bytes | bytearray | memoryview


@dataclasses.dataclass(frozen=True, slots=True)
class Extent:
    """``length`` bytes from ``start``; reads as zeros unless ``data``."""

    start: int
    length: int
    data: bool


class Source(Protocol):
    """A disk that does not change while it is read.

    :ivar name: for messages.
    :ivar size: in bytes.
    :ivar parallel: how many reads at once are useful.

    Every method raises :class:`~nova_snap.qcow2.errors.SourceError`.
    """

    name: str
    size: int
    parallel: int

    def extents(self) -> Iterator[Extent]:
        """Yield the extents in order, without gaps, to the end of the disk.

        Runs in one thread; blocks.
        """

    def read(self, offset: int, length: int) -> Bytes:
        """Return exactly these bytes, which are inside the disk.

        Several native threads call this at once.  It may block, but has to
        have a timeout: closing a stream waits for the reads under way.
        """

    def reading(
        self, offset: int, length: int
    ) -> contextlib.AbstractContextManager[Bytes]:
        """Read as ``read`` does, for the block only.

        Later reads may use the memory again: that of each new object of some
        hundred KiB would be mapped, filled with zeros and unmapped by the
        kernel.
        """

    def close(self) -> None:
        """Release all resources; safe to call twice."""


def checked(source: Source) -> Iterable[Extent]:
    """Yield the extents of a source, and check that they cover the disk.

    A gap in the map would lose the guest's data silently.

    :raises SourceError: the extents have a gap or overlap.
    """
    expected = 0
    for extent in source.extents():
        if extent.start != expected or extent.length <= 0:
            raise errors.SourceError(
                source.name,
                f'its map of extents goes from byte {expected} to '
                f'{extent.start} (length {extent.length}).',
            )
        expected += extent.length
        yield extent
    if expected != source.size:
        raise errors.SourceError(
            source.name,
            f'its map of extents ends at byte {expected} of {source.size}.',
        )


def read_exactly(source: Source, offset: int, length: int) -> Bytes:
    """Read, and raise SourceError if too few or too many bytes come."""
    data = source.read(offset, length)
    _require(source, data, offset, length)
    return data


@contextlib.contextmanager
def reading_exactly(
    source: Source, offset: int, length: int
) -> Generator[Bytes, None, None]:
    """Read for the block, with the check of ``read_exactly``."""
    with source.reading(offset, length) as data:
        _require(source, data, offset, length)
        yield data


def _require(source: Source, data: Bytes, offset: int, length: int) -> None:
    if len(data) != length:
        raise errors.SourceError(
            source.name,
            f'{len(data)} bytes came instead of {length} at {offset}.',
        )
