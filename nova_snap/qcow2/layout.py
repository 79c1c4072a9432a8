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

"""Offsets of the parts of an image: arithmetic, no I/O.

An image has these parts, in this order::

    header | zone 1 | L1, refcount table | zone 2 | refcount blocks, L2 | raw

The zones are room for compressed clusters, ``raw`` is room for clusters that
are not compressed; a plain image is one whose zones are empty.

The header comes first and points to L1 and to the refcount table, so their
offset, the end of zone 1, is fixed before the first byte is written, when the
size of the compressed data is not known.  L1 and the refcount table point to
the L2 tables and to the refcount blocks, so the end of zone 2 is fixed when
zone 1 is full; by then most of the data is compressed, and the estimate of the
rest is good.
doc/source/contributor/qcow2-writer.rst has the picture.
"""

import dataclasses

from nova_snap.qcow2 import errors
from nova_snap.qcow2 import format as qcow2_format

CLUSTER = qcow2_format.CLUSTER

#: The first zone begins behind the header.
FIRST_ZONE_OFFSET = CLUSTER


@dataclasses.dataclass(frozen=True)
class Anchors:
    """The numbers that are fixed before the first byte is written.

    :ivar virtual_size: bytes; a multiple of 512.
    :ivar first_zone_clusters: size of the first zone.
    :ivar l1_entries: entries of the L1 table.
    :ivar reftable_clusters: size of the refcount table, for the largest file
        that this can become.
    """

    virtual_size: int
    first_zone_clusters: int
    l1_entries: int
    reftable_clusters: int

    @property
    def l1_offset(self) -> int:
        """Offset of the L1 table, behind the first zone."""
        return FIRST_ZONE_OFFSET + self.first_zone_clusters * CLUSTER

    @property
    def l1_clusters(self) -> int:
        """Clusters of the L1 table."""
        return qcow2_format.ceil_div(self.l1_entries * 8, CLUSTER)

    @property
    def reftable_offset(self) -> int:
        """Offset of the refcount table."""
        return self.l1_offset + self.l1_clusters * CLUSTER

    @property
    def second_zone_offset(self) -> int:
        """Offset of the second zone."""
        return self.reftable_offset + self.reftable_clusters * CLUSTER

    def header(self, compression: int) -> bytes:
        """Return the cluster with the header."""
        return qcow2_format.header(
            virtual_size=self.virtual_size,
            l1_offset=self.l1_offset,
            l1_entries=self.l1_entries,
            reftable_offset=self.reftable_offset,
            reftable_clusters=self.reftable_clusters,
            compression=compression,
        )


@dataclasses.dataclass(frozen=True)
class Layout:
    """The numbers that are fixed when the first zone is full.

    :ivar anchors: the numbers in the header.
    :ivar second_zone_clusters: size of the second zone.
    :ivar refblocks: number of refcount blocks.
    :ivar l2_tables: number of L2 tables.
    """

    anchors: Anchors
    second_zone_clusters: int
    refblocks: int
    l2_tables: int

    @property
    def refblocks_offset(self) -> int:
        """Offset of the refcount blocks, behind the second zone."""
        return (
            self.anchors.second_zone_offset
            + self.second_zone_clusters * CLUSTER
        )

    @property
    def l2_offset(self) -> int:
        """Offset of the L2 tables."""
        return self.refblocks_offset + self.refblocks * CLUSTER

    @property
    def raw_offset(self) -> int:
        """Offset of the raw clusters."""
        return self.l2_offset + self.l2_tables * CLUSTER

    def length(self, raw_clusters: int) -> int:
        """Return the bytes of the file with so many raw clusters."""
        return self.raw_offset + raw_clusters * CLUSTER


def virtual_size(size: int) -> int:
    """Return the virtual size of the image of a disk of ``size`` bytes.

    A qcow2 image has whole sectors; the last one is filled with zeros, as
    QEMU itself does with a raw file of such a size.

    :raises UnsupportedSize: QEMU would not open the image.
    """
    rounded = qcow2_format.ceil_div(size, qcow2_format.SECTOR)
    rounded *= qcow2_format.SECTOR
    if rounded > qcow2_format.MAX_VIRTUAL_SIZE:
        raise errors.UnsupportedSize(size, qcow2_format.MAX_VIRTUAL_SIZE)
    return rounded


def anchor(
    size: int,
    first_zone_clusters: int,
    most_clusters: int,
    l2_tables: int,
    data_clusters: int,
) -> Anchors:
    """Compute the numbers in the header.

    :param size: bytes of the disk.
    :param first_zone_clusters: size of the first zone.
    :param most_clusters: size of the second zone at most.
    :param l2_tables: number of L2 tables at most.
    :param data_clusters: number of raw clusters at most.
    """
    rounded = virtual_size(size)
    l1_entries = qcow2_format.ceil_div(
        rounded, CLUSTER * qcow2_format.L2_ENTRIES
    )
    # A disk of 0 bytes gets an L1 table, too: QEMU accepts more entries than
    # needed, and reports a table without entries as a leak.
    anchors = Anchors(rounded, first_zone_clusters, max(1, l1_entries), 1)
    while True:
        largest = finish(anchors, most_clusters, l2_tables, data_clusters)
        clusters = qcow2_format.ceil_div(
            largest.refblocks, qcow2_format.REFTABLE_ENTRIES
        )
        if clusters <= anchors.reftable_clusters:
            return anchors
        anchors = dataclasses.replace(anchors, reftable_clusters=clusters)


def finish(
    anchors: Anchors,
    second_zone_clusters: int,
    l2_tables: int,
    raw_clusters: int,
) -> Layout:
    """Compute the layout behind the first zone.

    The refcount blocks count themselves, too, so their number is found by
    iteration; it grows at most twice.

    :param raw_clusters: number of raw clusters at most; with fewer in the
        end, some refcount blocks may be empty.
    """
    layout = Layout(anchors, second_zone_clusters, 0, l2_tables)
    while True:
        clusters = layout.length(raw_clusters) // CLUSTER
        blocks = qcow2_format.ceil_div(clusters, qcow2_format.REFCOUNTS)
        if blocks == layout.refblocks:
            return layout
        layout = dataclasses.replace(layout, refblocks=blocks)
