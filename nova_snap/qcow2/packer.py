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

"""Reading and compressing of spans of clusters, in native threads."""

import dataclasses

from nova_snap.qcow2 import allocation as allocation_lib
from nova_snap.qcow2 import codec as codec_lib
from nova_snap.qcow2 import format as qcow2_format
from nova_snap.qcow2 import pool
from nova_snap.qcow2 import source as source_lib

CLUSTER = qcow2_format.CLUSTER

# On the left of a comparison with a memoryview: bytearray compares memory,
# memoryview compares items.
_ZEROS = bytearray(CLUSTER)


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """A span that was read, or read and compressed.

    :ivar span: the clusters.
    :ivar data: their bytes; none if the span was compressed.
    :ivar sizes: bytes of each compressed cluster, 0 for zeros; None if the
        span was not compressed.
    :ivar packed: the compressed clusters, one after the other.
    """

    span: allocation_lib.Span
    data: source_lib.Bytes = b''
    sizes: list[int] | None = None
    packed: source_lib.Bytes = b''

    def behind(self, count: int) -> 'Batch':
        """Return the batch without its first ``count`` clusters."""
        span = allocation_lib.Span(
            self.span.first + count, self.span.count - count
        )
        if self.sizes is None:
            return Batch(span, memoryview(self.data)[count * CLUSTER :])
        packed = memoryview(self.packed)[sum(self.sizes[:count]) :]
        return Batch(span, b'', self.sizes[count:], packed)


def read(source: source_lib.Source, span: allocation_lib.Span) -> Batch:
    """Read whole clusters, with zeros behind the disk's end."""
    offset, length, whole = _bounds(source, span)
    data = source_lib.read_exactly(source, offset, length)
    return Batch(span, _padded(data, whole))


def unpacked(source: source_lib.Source, batch: Batch) -> source_lib.Bytes:
    """Return the bytes of a batch's clusters.

    Those of a compressed one are read again, which few need.
    """
    return (batch if batch.sizes is None else read(source, batch.span)).data


def _bounds(
    source: source_lib.Source, span: allocation_lib.Span
) -> tuple[int, int, int]:
    """Return offset, bytes before the disk's end, and bytes of a span."""
    offset = span.first * CLUSTER
    whole = span.count * CLUSTER
    return offset, min(whole, source.size - offset), whole


def _padded(data: source_lib.Bytes, length: int) -> source_lib.Bytes:
    return data if len(data) == length else bytes(data).ljust(length, b'\0')


class Packer:
    """A function for a pool that reads and compresses spans.

    :ivar enabled: False to stop compressing; any thread may set it.
    :ivar threads: how many threads should call this at once.
    :ivar compression: the compression type in the image's header.
    :ivar stored_size: bytes of a cluster that is stored uncompressed.

    :param source: the disk.
    :param codecs: as many threads as there are codecs compress at once.
    """

    def __init__(
        self,
        source: source_lib.Source,
        codecs: list[codec_lib.Codec],
    ) -> None:
        self._source = source
        self._codecs = pool.Shelf(codecs)
        self.enabled = True
        # One thread at least reads ahead of those that compress.
        self.threads = max(source.parallel, len(codecs) + 1)
        self.compression = codecs[0].compression
        self.stored_size = codecs[0].stored_size

    def __call__(self, span: allocation_lib.Span) -> Batch:
        """Make a batch of a span."""
        source = self._source
        if not self.enabled:
            return read(source, span)
        offset, length, whole = _bounds(source, span)
        with (
            source_lib.reading_exactly(source, offset, length) as data,
            self._codecs.borrow() as codec,
        ):
            return _pack(span, _padded(data, whole), codec)


def _pack(
    span: allocation_lib.Span, data: source_lib.Bytes, codec: codec_lib.Codec
) -> Batch:
    sizes: list[int] = []
    pieces: list[source_lib.Bytes] = []
    view = memoryview(data)
    for start in range(0, len(view), CLUSTER):
        sizes.append(
            _pack_cluster(view[start : start + CLUSTER], codec, pieces)
        )
    return Batch(span, b'', sizes, b''.join(pieces))


def _pack_cluster(
    cluster: memoryview,
    codec: codec_lib.Codec,
    pieces: list[source_lib.Bytes],
) -> int:
    """Add a cluster's pieces and return its size."""
    if _ZEROS == cluster:  # noqa: SIM300
        return 0
    packed = codec.compress(cluster)
    if len(packed) < codec_lib.WORTHWHILE:
        pieces.append(packed)
        return len(packed)
    pieces.extend(codec.store(cluster))
    return codec.stored_size
