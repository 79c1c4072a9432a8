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

import collections

import hypothesis
from hypothesis import strategies

from nova_snap.qcow2 import zone
from tests.unit import base

CLUSTER = 65536
STORED = CLUSTER + 10
SIZES = strategies.one_of(
    strategies.sampled_from((0, 1, STORED, CLUSTER // 2)),
    strategies.integers(1, 64512),
)


def naive_refcounts(sizes, clusters):
    """How many of the pieces touch each host cluster."""
    counts = collections.Counter()
    start = 0
    for size in filter(None, sizes):
        end = start + size
        counts.update(range(start // CLUSTER, (end - 1) // CLUSTER + 1))
        start = end
    return [counts[number] for number in range(clusters)]


class ZoneTest(base.TestCase):
    @hypothesis.given(strategies.lists(SIZES), strategies.integers(0, 40))
    def test_refcounts(self, sizes, clusters):
        filled = zone.Zone(CLUSTER, clusters, STORED)
        taken = filled.take(sizes)
        self.assertEqual(
            naive_refcounts(sizes[:taken], clusters),
            list(filled.refcounts()),
        )

    @hypothesis.given(strategies.lists(SIZES), strategies.integers(0, 40))
    def test_takes_what_fits(self, sizes, clusters):
        filled = zone.Zone(CLUSTER, clusters, STORED)
        taken = filled.take(sizes)
        room = clusters * CLUSTER
        self.assertLessEqual(sum(sizes[:taken]), room)
        if taken < len(sizes):
            self.assertGreater(sum(sizes[: taken + 1]), room)
        self.assertEqual(taken, len(filled))
        self.assertEqual(room - sum(sizes[:taken]), filled.unused)

    def test_raw_clusters_in_left_over_room(self):
        filled = zone.Zone(CLUSTER, 10, STORED)
        filled.take([100, 0, 200])
        self.assertIsNone(filled.take_raw(10))
        self.assertEqual(CLUSTER - 300, filled.take_raw(7))
        self.assertEqual([2] + 7 * [1] + 2 * [0], list(filled.refcounts()))
        self.assertEqual(2 * CLUSTER, filled.unused)
        entries = list(filled.entries())
        self.assertEqual(10, len(entries))
        self.assertEqual(0, entries[1])
        self.assertEqual((1 << 63) + 2 * CLUSTER, entries[3])

    def test_knows_whether_there_is_data(self):
        filled = zone.Zone(CLUSTER, 10, STORED)
        filled.take([0, 0, 5])
        self.assertFalse(filled.any_data(0, 2))
        self.assertTrue(filled.any_data(1, 3))
        # What it does not know yet may be data.
        self.assertTrue(filled.any_data(3, 4))
