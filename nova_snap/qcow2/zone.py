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

"""A zone of compressed clusters while it fills: what it has, how large it is.

Compressed clusters lie behind one another without gaps, in the order of the
disk, so that their sizes say everything: offsets, L2 entries and refcounts
follow.  A size takes two bytes; this is the one thing that grows with the
data, by 32 KiB for each GiB.
"""

import array
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import itertools

from nova_snap.qcow2 import format as qcow2_format

CLUSTER = qcow2_format.CLUSTER

#: Stands for a cluster that did not compress.
_STORED = 0xFFFF


class Zone:
    """Room for compressed clusters, taken from its beginning.

    :ivar position: where the next compressed cluster will begin.
    :ivar raw_offset: where uncompressed clusters begin, if there are any.
    :ivar raw_clusters: how many of them there are.

    :param offset: where it begins; at a host cluster.
    :param clusters: its size in host clusters.
    :param stored_size: bytes of every cluster that did not compress.
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
        """How many of the disk's clusters it decided, zeros included."""
        return len(self._sizes) + self.raw_clusters

    @property
    def unused(self) -> int:
        """Bytes that are left at the end."""
        if self.raw_offset is None:
            return self._end - self.position
        return self._end - self.raw_offset - self.raw_clusters * CLUSTER

    @property
    def _end(self) -> int:
        return self._offset + self._clusters * CLUSTER

    def take(self, sizes: Sequence[int]) -> int:
        """Put clusters of these sizes behind one another.

        :param sizes: bytes of each; 0 for a cluster of zeros, which takes no
            room.
        :returns: how many of them fitted.
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
        """Put all that is left of the disk here, if there is room for it.

        Room that is left over is lost anyway: it may as well save the work
        of compressing.

        :returns: bytes of padding in front of it; None if there is no room.
        """
        start = qcow2_format.ceil_div(self.position, CLUSTER) * CLUSTER
        if start + clusters * CLUSTER > self._end:
            return None
        self.raw_offset = start
        self.raw_clusters = clusters
        return start - self.position

    def any_data(self, start: int, stop: int) -> bool:
        """Whether any of these clusters is not zeros, by their numbers."""
        return stop > len(self._sizes) or any(self._sizes[start:stop])

    def entries(self) -> Iterator[int]:
        """The L2 entries of its clusters; 0 for zeros."""
        offset = self._offset
        for size in self._real_sizes():
            yield (qcow2_format.compressed_entry(offset, size) if size else 0)
            offset += size
        if self.raw_offset is not None:
            first = qcow2_format.standard_entry(self.raw_offset)
            beyond = first + self.raw_clusters * CLUSTER
            yield from range(first, beyond, CLUSTER)

    def refcounts(self) -> Iterator[int]:
        """The refcounts of its host clusters."""
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
    """How many of these clusters touch each host cluster, from the first.

    Every compressed cluster counts in all the host clusters that it lies in;
    QEMU counts whole sectors, which never cross a host cluster's end.
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
