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

"""The bytes of the tables, made piece by piece.

No table is kept in memory: each is made from the allocation and the zones when
it is written to the stream.
"""

import array
from collections.abc import Iterator
import itertools
import sys

from nova_snap.qcow2 import allocation as allocation_lib
from nova_snap.qcow2 import format as qcow2_format
from nova_snap.qcow2 import layout as layout_lib
from nova_snap.qcow2 import zone as zone_lib

CLUSTER = qcow2_format.CLUSTER


class Tables:
    """L1, refcount table, refcount blocks and L2 tables.

    An object is made when the first zone is full; see ``layout``.

    :ivar layout: the offsets of the tables.
    :ivar second_zone: the second zone, still empty.

    :param anchors: the numbers in the header.
    :param allocation: the clusters with data.
    :param first_zone: the first clusters with data, compressed.
    :param second_zone_clusters: size of the second zone.
    :param stored_size: bytes of a cluster there that is stored uncompressed.
    """

    def __init__(
        self,
        anchors: layout_lib.Anchors,
        allocation: allocation_lib.Allocation,
        first_zone: zone_lib.Zone,
        second_zone_clusters: int,
        stored_size: int,
    ) -> None:
        self._allocation = allocation
        self._first_zone = first_zone
        self._used = list(self._used_tables())
        self.layout = layout_lib.finish(
            anchors,
            second_zone_clusters,
            len(self._used),
            allocation.count - len(first_zone),
        )
        self.second_zone = zone_lib.Zone(
            anchors.second_zone_offset, second_zone_clusters, stored_size
        )

    @property
    def raw_clusters(self) -> int:
        """Number of clusters for which the zones have no room."""
        packed = len(self._first_zone) + len(self.second_zone)
        return self._allocation.count - packed

    @property
    def length(self) -> int:
        """Bytes of the file, once the second zone has ended."""
        return self.layout.length(self.raw_clusters)

    def between_zones(self) -> Iterator[bytes]:
        """Yield L1 and the refcount table."""
        yield self._l1()
        yield self._refcount_table()

    def behind_zones(self) -> Iterator[bytes]:
        """Yield refcount blocks and L2 tables, after the second zone."""
        yield from self._refcount_blocks()
        yield from self._l2_tables()

    def _used_tables(self) -> Iterator[int]:
        """Yield the L2 tables that have, or may still get, an entry."""
        first = 0
        for table, count in self._allocation.tables():
            if self._first_zone.any_data(first, first + count):
                yield table
            first += count

    def _l1(self) -> bytes:
        anchors = self.layout.anchors
        entries = array.array('Q', bytes(anchors.l1_clusters * CLUSTER))
        offset = self.layout.l2_offset
        for table in self._used:
            entries[table] = qcow2_format.standard_entry(offset)
            offset += CLUSTER
        return _big_endian(entries)

    def _refcount_table(self) -> bytes:
        first = self.layout.refblocks_offset
        beyond = first + self.layout.refblocks * CLUSTER
        table = _big_endian(array.array('Q', range(first, beyond, CLUSTER)))
        size = self.layout.anchors.reftable_clusters * CLUSTER
        return table.ljust(size, b'\0')

    def _refcount_blocks(self) -> Iterator[bytes]:
        layout = self.layout
        between = layout.anchors.second_zone_offset - layout.anchors.l1_offset
        behind = self.length - layout.refblocks_offset
        counts = itertools.chain(
            [1],  # the header
            self._first_zone.refcounts(),
            itertools.repeat(1, between // CLUSTER),
            self.second_zone.refcounts(),
            itertools.repeat(1, behind // CLUSTER),
        )
        for _ in range(layout.refblocks):
            block = itertools.islice(counts, qcow2_format.REFCOUNTS)
            yield _big_endian(array.array('H', block)).ljust(CLUSTER, b'\0')

    def _l2_tables(self) -> Iterator[bytes]:
        raw = qcow2_format.standard_entry(self.layout.raw_offset)
        entries = itertools.chain(
            self._first_zone.entries(),
            self.second_zone.entries(),
            itertools.count(raw, CLUSTER),
        )
        used = set(self._used)
        for table, _ in self._allocation.tables():
            l2_table = self._l2_table(table, entries)
            if table in used:
                yield _big_endian(l2_table)

    def _l2_table(
        self, table: int, entries: Iterator[int]
    ) -> 'array.array[int]':
        result = array.array('Q', bytes(CLUSTER))
        for run in self._allocation.runs(table):
            result[run.first : run.first + run.count] = array.array(
                'Q', itertools.islice(entries, run.count)
            )
        return result


def _big_endian(numbers: 'array.array[int]') -> bytes:
    """Return the numbers in big-endian order; changes the array."""
    if sys.byteorder == 'little':
        numbers.byteswap()
    return numbers.tobytes()
