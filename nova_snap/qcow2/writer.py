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

"""The functions that write a qcow2 image; open this file to use the package.

::

    with file_source.FileSource(path) as source:
        with writer.write_compressed(source) as stream:
            for chunk in stream:
                send(chunk)

Both functions read the extents before they return, and ``write_compressed``
reads its sample, too.  The length of a plain image is known from the
beginning; that of a compressed image is known when all data is compressed,
since clusters for which the zones have no room are stored uncompressed behind
the tables.
"""

from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterator
import contextlib
import dataclasses
import functools
import itertools

from nova_snap import concurrency
from nova_snap.qcow2 import allocation as allocation_lib
from nova_snap.qcow2 import codec as codec_lib
from nova_snap.qcow2 import format as qcow2_format
from nova_snap.qcow2 import layout as layout_lib
from nova_snap.qcow2 import packer as packer_lib
from nova_snap.qcow2 import pool as pool_lib
from nova_snap.qcow2 import reserve as reserve_lib
from nova_snap.qcow2 import source as source_lib
from nova_snap.qcow2 import stream as stream_lib
from nova_snap.qcow2 import tables as tables_lib
from nova_snap.qcow2 import zone as zone_lib

CLUSTER = qcow2_format.CLUSTER

#: Clusters that are read, compressed and sent together: 512 KiB.  Twice as
#: many take 20 MiB more memory and are no faster.
SPAN = 8
#: Bytes of padding that are sent together.
_PADDING = 1 << 20

_Batches = Iterator[packer_lib.Batch]
_Pool = pool_lib.OrderedPool[allocation_lib.Span, packer_lib.Batch]


def write_plain(source: source_lib.Source) -> stream_lib.Stream:
    """Write an uncompressed image; its length is known at once.

    The image has only the extents with data.

    :raises SourceError: the extents can't be read.
    :raises UnsupportedSize: the disk is too large.
    """
    return concurrency.run_blocking(_plain, source)


def write_compressed(
    source: source_lib.Source,
    algorithm: str = 'zstd',
    *,
    level: int | None = None,
    threads: int = 2,
    reserve: reserve_lib.Reserve | None = None,
) -> stream_lib.Stream:
    """Write a compressed image, or a plain one if compressing is useless.

    :param algorithm: ``zstd`` (QEMU 5.1 and later) or ``zlib``.
    :param level: of the algorithm; for the default see ``codec``.
    :param threads: how many threads compress at once.
    :param reserve: chooses the sizes of the zones; by default from samples.
    :raises InvalidLevel: the algorithm has no such level.
    :raises LibraryMissing: zstd is asked for and not installed.
    :raises SourceError: the extents or the sample can't be read.
    :raises UnsupportedSize: the disk is too large.
    """
    make = codec_lib.ALGORITHMS[algorithm]
    codecs = [make(level) for _ in range(threads)]
    return concurrency.run_blocking(_compressed, source, codecs, reserve)


def _plain(source: source_lib.Source) -> stream_lib.Stream:
    allocation = _allocation(source)
    return stream_lib.Stream(ImageWriter(source, allocation))


def _compressed(
    source: source_lib.Source,
    codecs: list[codec_lib.Codec],
    reserve: reserve_lib.Reserve | None,
) -> stream_lib.Stream:
    allocation = _allocation(source)
    packer = packer_lib.Packer(source, codecs)
    reserve = reserve or reserve_lib.Sampled(allocation, packer)
    first = reserve.first()
    if first is None:
        writer = ImageWriter(source, allocation)
    else:
        writer = ImageWriter(
            source, allocation, Compression(packer, first, reserve.second)
        )
    return stream_lib.Stream(writer)


def _allocation(source: source_lib.Source) -> allocation_lib.Allocation:
    layout_lib.virtual_size(source.size)
    return allocation_lib.Allocation.from_extents(source_lib.checked(source))


@dataclasses.dataclass(frozen=True)
class Compression:
    """Parameters of a compressed image.

    :ivar packer: reads and compresses the clusters.
    :ivar first_zone: bytes of the first zone.
    :ivar second_zone: returns the bytes of the second zone for a number of
        clusters in the first.
    """

    packer: packer_lib.Packer
    first_zone: int
    second_zone: Callable[[int], int]


class ImageWriter:
    """The writer of one qcow2 image; see ``stream.Writer``.

    :ivar done: bytes of the source's data that have been read.
    :ivar total: bytes of data that the source has.
    :ivar length: bytes of the image, once known.

    :param compression: None for a plain image.
    """

    def __init__(
        self,
        source: source_lib.Source,
        allocation: allocation_lib.Allocation,
        compression: Compression | None = None,
    ) -> None:
        self._source = source
        self._allocation = allocation
        self._compression = compression
        self._stored_size = (
            compression.packer.stored_size if compression else 0
        )
        self._most_clusters = qcow2_format.ceil_div(
            allocation.count * self._stored_size, CLUSTER
        )
        self._anchors = self._anchor()
        self.done = 0
        self.total = allocation.count * CLUSTER
        self.length: int | None = None
        if compression is None:
            self.length = self._tables(self._first_zone(), 0).length

    def chunks(self) -> Generator[source_lib.Bytes, None, None]:
        """Yield the bytes in order; closing the generator ends its threads."""
        with contextlib.closing(self._pool()) as batches:
            yield self._header()
            zone = self._first_zone()
            rest = yield from self._fill(zone, batches)
            tables = self._tables(zone, self._second_zone(len(zone)))
            yield from tables.between_zones()
            rest = yield from self._fill(tables.second_zone, rest)
            self._stop_packing()
            self.length = tables.length
            yield from tables.behind_zones()
            yield from self._raw(rest)

    def _anchor(self) -> layout_lib.Anchors:
        compression = self._compression
        first_zone = compression.first_zone if compression else 0
        return layout_lib.anchor(
            self._source.size,
            qcow2_format.ceil_div(first_zone, CLUSTER),
            self._most_clusters,
            sum(1 for _ in self._allocation.tables()),
            self._allocation.count,
        )

    def _header(self) -> bytes:
        compression = self._compression
        return self._anchors.header(
            compression.packer.compression
            if compression
            else qcow2_format.ZLIB
        )

    def _first_zone(self) -> zone_lib.Zone:
        return zone_lib.Zone(
            layout_lib.FIRST_ZONE_OFFSET,
            self._anchors.first_zone_clusters,
            self._stored_size,
        )

    def _second_zone(self, behind: int) -> int:
        """Return the host clusters of the second zone.

        :param behind: the number of clusters in the first zone.
        """
        if self._compression is None or behind == self._allocation.count:
            return 0
        size = self._compression.second_zone(behind)
        return min(qcow2_format.ceil_div(size, CLUSTER), self._most_clusters)

    def _tables(
        self, first_zone: zone_lib.Zone, second_zone_clusters: int
    ) -> tables_lib.Tables:
        return tables_lib.Tables(
            self._anchors,
            self._allocation,
            first_zone,
            second_zone_clusters,
            self._stored_size,
        )

    def _pool(self) -> _Pool:
        spans = self._allocation.spans(SPAN)
        if self._compression is None:
            read = functools.partial(packer_lib.read, self._source)
            return pool_lib.OrderedPool(read, spans, self._source.parallel)
        packer = self._compression.packer
        return pool_lib.OrderedPool(packer, spans, packer.threads)

    def _stop_packing(self) -> None:
        """Stop compressing: clusters that are read from now on stay raw."""
        if self._compression is not None:
            self._compression.packer.enabled = False

    def _fill(
        self, zone: zone_lib.Zone, batches: _Batches
    ) -> Generator[source_lib.Bytes, None, _Batches]:
        """Fill a zone to its end; return the batches that have no room."""
        rest: _Batches = iter(())
        for batch in batches:
            left = self._allocation.count - self.done // CLUSTER
            if (gap := zone.take_raw(left)) is not None:
                self._stop_packing()
                yield from _padding(gap)
                yield from self._raw(itertools.chain([batch], batches))
                break
            sizes = batch.sizes or []
            taken = zone.take(sizes)
            if size := sum(sizes[:taken]):
                yield memoryview(batch.packed)[:size]
            self.done += taken * CLUSTER
            if taken < batch.span.count:
                rest = itertools.chain([batch.behind(taken)], batches)
                break
        yield from _padding(zone.unused)
        return rest

    def _raw(self, batches: _Batches) -> Iterator[source_lib.Bytes]:
        for batch in batches:
            yield packer_lib.unpacked(self._source, batch)
            self.done += batch.span.count * CLUSTER


def _padding(length: int) -> Iterator[bytes]:
    zeros = bytes(min(length, _PADDING))
    while length > 0:
        yield zeros[:length]
        length -= len(zeros)
