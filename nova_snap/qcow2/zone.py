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

"""A zone of compressed clusters while it is being filled.

Compressed clusters are stored without gaps, in the order of the disk, so
offsets, L2 entries and refcounts follow from their sizes.  A size takes two
bytes.  Only these sizes grow with the data, by 32 KiB for each GiB.
"""

import array
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import itertools

from nova_snap.qcow2 import format as qcow2_format

CLUSTER = qcow2_format.CLUSTER

#: The size that stands for a cluster that is stored uncompressed.
_STORED = 0xFFFF


class Zone:
    """Room for compressed clusters, filled from its beginning.

    :ivar position: offset of the next compressed cluster.
    :ivar raw_offset: offset of the raw clusters, if there are any.
    :ivar raw_clusters: number of the raw clusters.

    :param offset: of the zone, a multiple of a cluster.
    :param clusters: size of the zone in host clusters.
    :param stored_size: bytes of a cluster that is stored uncompressed.
    """

    def __init__(self, offset: int, clusters: int, stored_size: int) -> None:
        self._offset = offset
        self._clusters = clusters
        self._stored_size = stored_size
        self._sizes = array.array('H')
        self.position = offset
        self.raw_offset: int | None = None
        self.raw_clusters = 0

    def __len__(self) -> int:
        """Return the number of the disk's clusters in it, zeros included."""
        return len(self._sizes) + self.raw_clusters

    @property
    def unused(self) -> int:
        """Number of free bytes at the end."""
        if self.raw_offset is None:
            return self._end - self.position
        return self._end - self.raw_offset - self.raw_clusters * CLUSTER

    @property
    def _end(self) -> int:
        return self._offset + self._clusters * CLUSTER

    def take(self, sizes: Sequence[int]) -> int:
        """Add compressed clusters of these sizes.

        :param sizes: bytes of each; 0 for a cluster of zeros, which takes no
            room.
        :returns: how many of them had room.
        """
        beyond = self.position
        taken = 0
        for size in sizes:
            if beyond + size > self._end:
                break
            beyond += size
            taken += 1
            self._sizes.append(_STORED if size == self._stored_size else size)
        self.position = beyond
        return taken

    def take_raw(self, clusters: int) -> int | None:
        """Add all remaining clusters of the disk raw, if there is room.

        Free room of the zone is lost anyway, so it may save the work of
        compressing.

        :returns: bytes of padding before the raw clusters; None if there is
            no room.
        """
        start = qcow2_format.ceil_div(self.position, CLUSTER) * CLUSTER
        if start + clusters * CLUSTER > self._end:
            return None
        self.raw_offset = start
        self.raw_clusters = clusters
        return start - self.position

    def any_data(self, start: int, stop: int) -> bool:
        """Return True if one of these clusters is not zeros."""
        return stop > len(self._sizes) or any(self._sizes[start:stop])

    def entries(self) -> Iterator[int]:
        """Yield the L2 entries of its clusters; 0 for zeros."""
        offset = self._offset
        for size in self._real_sizes():
            yield (qcow2_format.compressed_entry(offset, size) if size else 0)
            offset += size
        if self.raw_offset is not None:
            first = qcow2_format.standard_entry(self.raw_offset)
            beyond = first + self.raw_clusters * CLUSTER
            yield from range(first, beyond, CLUSTER)

    def refcounts(self) -> Iterator[int]:
        """Yield the refcounts of its host clusters."""
        unused = self.unused // CLUSTER
        packed = itertools.chain(
            count_references(self._real_sizes()), itertools.repeat(0)
        )
        yield from itertools.islice(
            packed, self._clusters - self.raw_clusters - unused
        )
        yield from itertools.repeat(1, self.raw_clusters)
        yield from itertools.repeat(0, unused)

    def _real_sizes(self) -> Iterator[int]:
        stored = self._stored_size
        for size in self._sizes:
            yield stored if size == _STORED else size


def count_references(sizes: Iterable[int]) -> Iterator[int]:
    """Yield how many compressed clusters are in each host cluster.

    A compressed cluster counts in every host cluster that it is in.  QEMU
    counts whole sectors, which never cross the end of a host cluster.
    """
    end = 0
    boundary = CLUSTER
    references = 0
    for size in filter(None, sizes):
        end += size
        references += 1
        while end > boundary:
            yield references
            references = 1
            boundary += CLUSTER
        if end == boundary:
            yield references
            references = 0
            boundary += CLUSTER
    if references:
        yield references
