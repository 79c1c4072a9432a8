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

import testtools

from nova_snap.qcow2 import errors
from nova_snap.qcow2 import layout

CLUSTER = 65536
TIB = 1 << 40


class VirtualSizeTest(testtools.TestCase):
    def test_rounds_up_to_sectors(self):
        sizes = {0: 0, 1: 512, 511: 512, 512: 512, 513: 1024}
        for size, expected in sizes.items():
            self.assertEqual(expected, layout.virtual_size(size))

    def test_refuses_what_qemu_would_not_open(self):
        maximum = 1 << 51
        self.assertEqual(maximum, layout.virtual_size(maximum))
        error = self.assertRaises(
            errors.UnsupportedSize, layout.virtual_size, maximum + 1
        )
        self.assertEqual(maximum + 1, error.size)
        self.assertEqual(maximum, error.maximum)


class LayoutTest(testtools.TestCase):
    def plain(self, size: int) -> layout.Layout:
        """Return the layout of a plain image of a disk full of data."""
        clusters = -(-size // CLUSTER)
        tables = -(-clusters // 8192)
        anchors = layout.anchor(size, 0, 0, tables, clusters)
        return layout.finish(anchors, 0, tables, clusters)

    def test_parts_follow_one_another(self):
        anchors = layout.anchor(TIB, 10, 7, 3, 100)
        image = layout.finish(anchors, 5, 3, 100)
        self.assertEqual(11 * CLUSTER, anchors.l1_offset)
        self.assertEqual(12 * CLUSTER, anchors.reftable_offset)
        self.assertEqual(13 * CLUSTER, anchors.second_zone_offset)
        self.assertEqual(18 * CLUSTER, image.refblocks_offset)
        self.assertEqual(19 * CLUSTER, image.l2_offset)
        self.assertEqual(22 * CLUSTER, image.raw_offset)
        self.assertEqual(122 * CLUSTER, image.length(100))

    def test_refcount_blocks_count_themselves(self):
        # A block counts 32768 clusters; four are header, tables and itself.
        for data, blocks in ((32768 - 4, 1), (32768 - 3, 2)):
            anchors = layout.anchor(data * CLUSTER, 0, 0, 0, data)
            image = layout.finish(anchors, 0, 0, data)
            self.assertEqual(blocks, image.refblocks)
            self.assertGreaterEqual(
                blocks * 32768, image.length(data) // CLUSTER
            )

    def test_refcount_table_grows_with_the_file(self):
        self.assertEqual(1, self.plain(8 * TIB).anchors.reftable_clusters)
        self.assertEqual(2, self.plain(16 * TIB).anchors.reftable_clusters)
        largest = self.plain(2048 * TIB)
        self.assertLessEqual(
            largest.refblocks, largest.anchors.reftable_clusters * 8192
        )
