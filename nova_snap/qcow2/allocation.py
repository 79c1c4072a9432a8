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

"""Map of the clusters of a disk that have data.

The map has one bit for each guest cluster, as one integer for each L2 table
with data: 1 KiB for 512 MiB of disk, whatever the number of extents, and
nothing for an L2 table without data.
"""

from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses

from nova_snap.qcow2 import format as qcow2_format
from nova_snap.qcow2 import source as source_lib

CLUSTER = qcow2_format.CLUSTER
L2_ENTRIES = qcow2_format.L2_ENTRIES

_FULL = (1 << L2_ENTRIES) - 1


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """``count`` guest clusters from ``first``."""

    first: int
    count: int


class Allocation:
    """The clusters with data, in the order of the disk.

    :ivar count: the number of these clusters.
    """

    def __init__(self) -> None:
        self._tables: dict[int, int] = {}
        self.count = 0

    @classmethod
    def from_extents(
        cls, extents: Iterable[source_lib.Extent]
    ) -> 'Allocation':
        """Take every cluster that a data extent touches."""
        allocation = cls()
        for extent in extents:
            if extent.data:
                allocation._add(extent.start, extent.start + extent.length)
        allocation.count = sum(
            bits.bit_count() for bits in allocation._tables.values()
        )
        return allocation

    def _add(self, start: int, end: int) -> None:
        """Mark the clusters between two bytes."""
        first = start // CLUSTER
        beyond = qcow2_format.ceil_div(end, CLUSTER)
        while first < beyond:
            table, entry = divmod(first, L2_ENTRIES)
            count = min(beyond - first, L2_ENTRIES - entry)
            bits = _FULL >> (L2_ENTRIES - count) << entry
            # Whole tables share one integer.
            self._tables[table] = (
                _FULL
                if count == L2_ENTRIES
                else self._tables.get(table, 0) | bits
            )
            first += count

    def tables(self) -> Iterator[tuple[int, int]]:
        """Yield (number of an L2 table, its number of clusters), in order."""
        for table in sorted(self._tables):
            yield table, self._tables[table].bit_count()

    def runs(self, table: int) -> Iterator[Span]:
        """Yield the runs of clusters in one L2 table, from its entry 0."""
        # Searching text runs in C; a loop over bits would run in Python.
        digits = f'{self._tables[table]:b}'[::-1]
        first = digits.find('1')
        while first >= 0:
            beyond = digits.find('0', first)
            beyond = len(digits) if beyond < 0 else beyond
            yield Span(first, beyond - first)
            first = digits.find('1', beyond)

    def spans(self, limit: int) -> Iterator[Span]:
        """Yield all clusters, in runs of at most ``limit``."""
        for table in sorted(self._tables):
            for run in self.runs(table):
                first = table * L2_ENTRIES + run.first
                beyond = first + run.count
                for start in range(first, beyond, limit):
                    yield Span(start, min(limit, beyond - start))

    def sample(self, number: int, behind: int = 0) -> Iterator[Span]:
        """Yield ``number`` single clusters, evenly spread over the data.

        :param behind: how many clusters at the beginning to leave out.
        """
        population = self.count - behind
        wanted = (behind + n * population // number for n in range(number))
        ordinal = next(wanted, self.count)
        seen = 0
        for run in self.spans(L2_ENTRIES):
            while ordinal < seen + run.count:
                yield Span(run.first + ordinal - seen, 1)
                ordinal = next(wanted, self.count)
            seen += run.count
