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

"""The packed zone while it fills: what went into it, and how large it got.

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
from nova_snap.qcow2 import layout as layout_lib

CLUSTER = qcow2_format.CLUSTER

#: Stands for a cluster that did not compress.
_STORED = 0xFFFF


class Zone:
    """Room for compressed clusters, taken from its beginning.

    :ivar position: where the next compressed cluster will begin.
    :ivar raw_offset: where uncompressed clusters begin, if there are any
        inside the zone.

    :param anchors: where the zone ends.
    :param stored_size: bytes of every cluster that did not compress.
    """

    def __init__(self, anchors: layout_lib.Anchors, stored_size: int) -> None:
        self._end = anchors.zone_end
        self._stored_size = stored_size
        self._sizes = array.array('H')
        self.position = layout_lib.ZONE_OFFSET
        self.raw_offset: int | None = None
        self._raw_clusters = 0

    def __len__(self) -> int:
        """How many clusters were decided here, all-zero ones included."""
        return len(self._sizes)

    @property
    def unused(self) -> int:
        """Bytes that are left at the end."""
        if self.raw_offset is None:
            return self._end - self.position
        return self._end - self.raw_offset - self._raw_clusters * CLUSTER

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

    def take_raw(self, clusters: int) -> bool:
        """Put the last clusters here uncompressed, if there is room for it.

        Zone that is left over is lost anyway: it may as well save the work
        of compressing.
        """
        start = qcow2_format.ceil_div(self.position, CLUSTER) * CLUSTER
        if start + clusters * CLUSTER > self._end:
            return False
        self.raw_offset = start
        self._raw_clusters = clusters
        return True

    def sizes(self, start: int = 0, stop: int | None = None) -> Iterator[int]:
        """Bytes of each cluster from ``start`` to before ``stop``."""
        stored = self._stored_size
        for size in self._sizes[start:stop]:
            yield stored if size == _STORED else size

    def refcounts(self) -> Iterator[int]:
        """The refcount of each host cluster of the zone."""
        clusters = (self._end - layout_lib.ZONE_OFFSET) // CLUSTER
        raw_start = clusters
        if self.raw_offset is not None:
            raw_start = (self.raw_offset - layout_lib.ZONE_OFFSET) // CLUSTER
        packed = itertools.chain(
            count_references(self.sizes()), itertools.repeat(0)
        )
        yield from itertools.islice(packed, raw_start)
        yield from itertools.repeat(1, self._raw_clusters)
        yield from itertools.repeat(
            0, clusters - raw_start - self._raw_clusters
        )


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
