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

import itertools

import hypothesis
from hypothesis import strategies

from nova_snap.qcow2 import allocation
from nova_snap.qcow2 import source
from tests.unit import base

CLUSTER = 65536

#: (length, data) of extents; some longer than an L2 table's 512 MiB.
LENGTHS = strategies.one_of(
    strategies.integers(1, 4 * CLUSTER), strategies.integers(1, 3 << 29)
)
MAPS = strategies.lists(
    strategies.tuples(LENGTHS, strategies.booleans()), max_size=12
)


def extents(parts):
    starts = itertools.accumulate((part[0] for part in parts), initial=0)
    return [
        source.Extent(start, length, data)
        for start, (length, data) in zip(starts, parts, strict=False)
    ]


def touched(parts) -> list[int]:
    """Return the clusters with data, by a slow algorithm."""
    found: set[int] = set()
    for extent in extents(parts):
        if extent.data:
            end = extent.start + extent.length
            found.update(range(extent.start // CLUSTER, -(-end // CLUSTER)))
    return sorted(found)


def flat(spans) -> list[int]:
    return [
        cluster
        for span in spans
        for cluster in range(span.first, span.first + span.count)
    ]


class AllocationTest(base.TestCase):
    @hypothesis.given(MAPS, strategies.integers(1, 40))
    def test_is_every_cluster_that_data_touches(self, parts, limit):
        expected = touched(parts)
        found = allocation.Allocation.from_extents(extents(parts))
        spans = list(found.spans(limit))
        self.assertEqual(expected, flat(spans))
        self.assertEqual(len(expected), found.count)
        self.assertTrue(all(span.count <= limit for span in spans))
        self.assertEqual(
            [(k, len(list(g))) for k, g in self.by_table(expected)],
            list(found.tables()),
        )

    @staticmethod
    def by_table(clusters):
        return itertools.groupby(clusters, lambda cluster: cluster // 8192)

    @hypothesis.given(MAPS, strategies.data())
    def test_sample_is_even(self, parts, data):
        clusters = touched(parts)
        hypothesis.assume(clusters)
        behind = data.draw(strategies.integers(0, len(clusters) - 1))
        left = clusters[behind:]
        number = data.draw(strategies.integers(1, len(left)))
        found = allocation.Allocation.from_extents(extents(parts))
        expected = [left[n * len(left) // number] for n in range(number)]
        self.assertEqual(expected, flat(found.sample(number, behind)))
