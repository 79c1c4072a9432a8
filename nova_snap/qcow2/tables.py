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

"""The bytes of the tables behind the packed zone, made piece by piece.

No table is kept: each is made from the allocation and the sizes when its
place in the stream has come.
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
    """L1, refcount table, refcount blocks and L2 tables, in this order.

    :ivar layout: where they and the raw clusters lie.

    :param anchors: what the header says.
    :param allocation: the clusters with data.
    :param zone: the first of them, as far as they went into the zone.
    """

    def __init__(
        self,
        anchors: layout_lib.Anchors,
        allocation: allocation_lib.Allocation,
        zone: zone_lib.Zone,
    ) -> None:
        self._allocation = allocation
        self._zone = zone
        self._used = list(self._used_tables())
        raw = 0 if zone.raw_offset else allocation.count - len(zone)
        self.layout = layout_lib.finish(anchors, len(self._used), raw)

    def __iter__(self) -> Iterator[bytes]:
        """The bytes, in pieces of about a cluster."""
        yield self._l1()
        yield self._refcount_table()
        yield from self._refcount_blocks()
        yield from self._l2_tables()

    def _used_tables(self) -> Iterator[tuple[int, int]]:
        """(number, clusters before it) of each L2 table with an entry."""
        ordinal = 0
        for table, count in self._allocation.tables():
            beyond = ordinal + count
            # What is not in the zone is raw, and has an entry.
            if beyond > len(self._zone) or any(
                self._zone.sizes(ordinal, beyond)
            ):
                yield table, ordinal
            ordinal = beyond

    def _l1(self) -> bytes:
        anchors = self.layout.anchors
        entries = array.array('Q', bytes(anchors.l1_clusters * CLUSTER))
        offset = self.layout.l2_offset
        for table, _ in self._used:
            entries[table] = qcow2_format.standard_entry(offset)
            offset += CLUSTER
        return _big_endian(entries)

    def _refcount_table(self) -> bytes:
        anchors = self.layout.anchors
        offset = anchors.refblocks_offset
        blocks = range(
            offset, offset + self.layout.refblocks * CLUSTER, CLUSTER
        )
        table = _big_endian(array.array('Q', blocks))
        return table.ljust(anchors.reftable_clusters * CLUSTER, b'\0')

    def _refcount_blocks(self) -> Iterator[bytes]:
        behind = self.layout.length - self.layout.anchors.zone_end
        counts = itertools.chain(
            [1],  # the header
            self._zone.refcounts(),
            itertools.repeat(1, behind // CLUSTER),
        )
        for _ in range(self.layout.refblocks):
            block = itertools.islice(counts, qcow2_format.REFCOUNTS)
            yield _big_endian(array.array('H', block)).ljust(CLUSTER, b'\0')

    def _l2_tables(self) -> Iterator[bytes]:
        entries = self._entries()
        for table, ordinal in self._used:
            entries.seek(ordinal)
            yield _big_endian(self._l2_table(table, entries))

    def _l2_table(self, table: int, entries: '_Entries') -> 'array.array[int]':
        result = array.array('Q', bytes(CLUSTER))
        for run in self._allocation.runs(table):
            beyond = run.first + run.count
            result[run.first : beyond] = entries.next(run.count)
        return result

    def _entries(self) -> '_Entries':
        raw_offset = self._zone.raw_offset or self.layout.raw_offset
        return _Entries(self._zone, raw_offset)


class _Entries:
    """The L2 entries of the clusters with data, one after another.

    :param raw_offset: where those begin that are not in the zone.
    """

    def __init__(self, zone: zone_lib.Zone, raw_offset: int) -> None:
        self._zone = zone
        self._raw_offset = raw_offset
        self._ordinal = 0
        self._offset = layout_lib.ZONE_OFFSET

    def seek(self, ordinal: int) -> None:
        """Pass over clusters that have no entry (all of them are zeros)."""
        self._ordinal = ordinal

    def next(self, count: int) -> 'array.array[int]':
        """The entries of the next clusters."""
        packed = min(count, max(0, len(self._zone) - self._ordinal))
        entries = self._packed(packed)
        self._ordinal += packed
        entries.extend(self._raw(count - packed))
        self._ordinal += count - packed
        return entries

    def _packed(self, count: int) -> 'array.array[int]':
        entries = array.array('Q')
        offset = self._offset
        ordinal = self._ordinal
        for size in self._zone.sizes(ordinal, ordinal + count):
            entries.append(
                qcow2_format.compressed_entry(offset, size) if size else 0
            )
            offset += size
        self._offset = offset
        return entries

    def _raw(self, count: int) -> 'array.array[int]':
        index = self._ordinal - len(self._zone)
        first = qcow2_format.standard_entry(self._raw_offset + index * CLUSTER)
        # The flag does not disturb the sum: this is the range of entries.
        return array.array('Q', range(first, first + count * CLUSTER, CLUSTER))


def _big_endian(numbers: 'array.array[int]') -> bytes:
    """The numbers as the format has them; spoils the array."""
    if sys.byteorder == 'little':
        numbers.byteswap()
    return numbers.tobytes()
