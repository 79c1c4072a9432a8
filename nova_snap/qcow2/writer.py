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

"""The two ways of writing an image; open this file to use the package.

::

    with file_source.FileSource(path) as source:
        with writer.write_compressed(source) as stream:
            for chunk in stream:
                send(chunk)

Both know the extents before they return, and ``write_compressed`` has read
its sample.  The length of a plain image is known from the beginning; that of
a compressed one when its data has been compressed, because clusters that find
no room in the packed zone lie uncompressed behind the tables.
"""

from collections.abc import Generator
from collections.abc import Iterator
import contextlib
import functools
import itertools

from nova_snap import concurrency
from nova_snap.qcow2 import allocation as allocation_lib
from nova_snap.qcow2 import codec as codec_lib
from nova_snap.qcow2 import estimate as estimate_lib
from nova_snap.qcow2 import format as qcow2_format
from nova_snap.qcow2 import layout as layout_lib
from nova_snap.qcow2 import packer as packer_lib
from nova_snap.qcow2 import pool as pool_lib
from nova_snap.qcow2 import source as source_lib
from nova_snap.qcow2 import stream as stream_lib
from nova_snap.qcow2 import tables as tables_lib
from nova_snap.qcow2 import zone as zone_lib

CLUSTER = qcow2_format.CLUSTER

#: Clusters that are read, compressed and handed on together: 1 MiB.
SPAN = 16
#: Bytes of padding that are handed on together.
_PADDING = 1 << 20

_Pool = pool_lib.OrderedPool[allocation_lib.Span, packer_lib.Batch]


def write_plain(source: source_lib.Source) -> stream_lib.Stream:
    """Write an uncompressed image; its length is known at once.

    Only what the extents call data is in it.

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
    reserve: int | None = None,
) -> stream_lib.Stream:
    """Write a compressed image, or a plain one where that is no larger.

    :param algorithm: ``zstd`` (QEMU 5.1 and later) or ``zlib``.
    :param level: the algorithm's own; default see ``codec``.
    :param threads: how many threads compress at once.
    :param reserve: bytes to set aside for compressed clusters, instead of
        what a sample says; any number gives a correct image.
    :raises LibraryMissing: zstd is wanted and not installed.
    :raises SourceError: the extents or the sample can't be read.
    :raises UnsupportedSize: the disk is too large.
    """
    make = codec_lib.ALGORITHMS[algorithm]
    codecs = [make(level) for _ in range(threads)]
    return concurrency.run_blocking(_compressed, source, codecs, reserve)


def _plain(source: source_lib.Source) -> stream_lib.Stream:
    return stream_lib.Stream(ImageWriter(source, _allocation(source), None, 0))


def _compressed(
    source: source_lib.Source,
    codecs: list[codec_lib.Codec],
    reserve: int | None,
) -> stream_lib.Stream:
    allocation = _allocation(source)
    packer = packer_lib.Packer(source, codecs)
    if reserve is None:
        reserve = _estimate(allocation, packer)
    return stream_lib.Stream(
        ImageWriter(source, allocation, packer if reserve else None, reserve)
    )


def _allocation(source: source_lib.Source) -> allocation_lib.Allocation:
    layout_lib.virtual_size(source.size)
    return allocation_lib.Allocation.from_extents(source_lib.checked(source))


def _estimate(
    allocation: allocation_lib.Allocation, packer: packer_lib.Packer
) -> int:
    """The reserve by a sample; 0 where compressing is not worth it."""
    if not allocation.count:
        return 0
    number = estimate_lib.sample_size(allocation.count)
    pool = pool_lib.OrderedPool(
        packer, allocation.sample(number), packer.threads
    )
    with contextlib.closing(pool):
        sizes = list(
            itertools.chain.from_iterable(batch.sizes or () for batch in pool)
        )
    estimate = estimate_lib.from_sample(sizes, allocation.count)
    if estimate.ratio > estimate_lib.INCOMPRESSIBLE:
        return 0
    return max(1, estimate.reserve)


class ImageWriter:
    """Makes the bytes of one image, in order.

    :ivar done: bytes of the source's data that are behind us.
    :ivar total: bytes of data that the source has.
    :ivar length: bytes of the image, once known.

    :param packer: what compresses; None for a plain image.
    :param reserve: bytes to set aside for compressed clusters.
    """

    def __init__(
        self,
        source: source_lib.Source,
        allocation: allocation_lib.Allocation,
        packer: packer_lib.Packer | None,
        reserve: int,
    ) -> None:
        self._source = source
        self._allocation = allocation
        self._packer = packer
        self._anchors = layout_lib.anchor(
            source.size,
            qcow2_format.ceil_div(reserve, CLUSTER),
            sum(1 for _ in allocation.tables()),
            allocation.count,
        )
        self._zone = zone_lib.Zone(
            self._anchors, packer.stored_size if packer else 0
        )
        self.done = 0
        self.total = allocation.count * CLUSTER
        self.length = None if packer else self._tables().layout.length

    def chunks(self) -> Generator[source_lib.Bytes, None, None]:
        """The bytes, in order; ending it early ends its threads."""
        with contextlib.closing(self._pool()) as batches:
            yield self._header()
            rest = yield from self._packed(batches)
            if self._zone.raw_offset is not None:
                yield from _padding(
                    self._zone.raw_offset - self._zone.position
                )
                yield from self._raw(rest)
            yield from _padding(self._zone.unused)
            tables = self._tables()
            self.length = tables.layout.length
            yield from tables
            yield from self._raw(rest)

    def _header(self) -> bytes:
        packer = self._packer
        return self._anchors.header(
            packer.compression if packer else qcow2_format.ZLIB
        )

    def _tables(self) -> tables_lib.Tables:
        return tables_lib.Tables(self._anchors, self._allocation, self._zone)

    def _pool(self) -> _Pool:
        spans = self._allocation.spans(SPAN)
        if self._packer is None:
            read = functools.partial(packer_lib.read, self._source)
            return pool_lib.OrderedPool(read, spans, self._source.parallel)
        return pool_lib.OrderedPool(self._packer, spans, self._packer.threads)

    def _packed(
        self, batches: Iterator[packer_lib.Batch]
    ) -> Generator[source_lib.Bytes, None, Iterator[packer_lib.Batch]]:
        """Fill the zone; the value is what shall be raw."""
        for batch in batches:
            if batch.sizes is None or self._zone.take_raw(
                self._allocation.count - len(self._zone)
            ):
                return self._unpacked(batch, batches)
            taken = self._zone.take(batch.sizes)
            if taken < batch.span.count:
                yield batch.packed[: sum(batch.sizes[:taken])]
                self.done += taken * CLUSTER
                return self._unpacked(batch.behind(taken), batches)
            yield batch.packed
            self.done += taken * CLUSTER
        return batches

    def _unpacked(
        self,
        batch: packer_lib.Batch,
        batches: Iterator[packer_lib.Batch],
    ) -> Iterator[packer_lib.Batch]:
        """A batch and those behind it, which need no compressing now."""
        if self._packer is not None:
            self._packer.enabled = False
        return itertools.chain([batch], batches)

    def _raw(
        self, batches: Iterator[packer_lib.Batch]
    ) -> Iterator[source_lib.Bytes]:
        for batch in batches:
            yield batch.data
            self.done += len(batch.data)


def _padding(length: int) -> Iterator[bytes]:
    zeros = bytes(min(length, _PADDING))
    while length > 0:
        yield zeros[:length]
        length -= len(zeros)
