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

"""Writer of raw images as a stream: the bytes of the disk, in order.

Open this file to send a raw image somewhere while its disk is being read.
Clusters without data are sent as zeros without being read.  The map of the
clusters is that of the qcow2 writers, because its size depends on the disk
alone: a list of extents grows with each block that the guest discards.
"""

from collections.abc import Generator
from collections.abc import Iterator
import contextlib
import functools

from nova_snap import concurrency
from nova_snap.qcow2 import allocation as allocation_lib
from nova_snap.qcow2 import format as qcow2_format
from nova_snap.qcow2 import pool
from nova_snap.qcow2 import source as source_lib
from nova_snap.qcow2 import stream

CLUSTER = qcow2_format.CLUSTER

#: Bytes that are read and sent together.
SPAN = 1 << 20

_ZEROS = bytes(SPAN)


def write_raw(source: source_lib.Source) -> stream.Stream:
    """Write a raw image; its length is that of the disk.

    :raises SourceError: the extents can't be read.
    """
    allocation = concurrency.run_blocking(
        allocation_lib.Allocation.from_extents, source_lib.checked(source)
    )
    return stream.Stream(RawWriter(source, allocation))


class RawWriter:
    """The writer of one raw image; see ``stream.Writer``."""

    def __init__(
        self,
        source: source_lib.Source,
        allocation: allocation_lib.Allocation,
    ) -> None:
        self._source = source
        self._allocation = allocation
        self.done = 0
        self.total = source.size
        self.length = source.size

    def chunks(self) -> Generator[source_lib.Bytes, None, None]:
        """Yield the bytes in order; closing the generator ends its threads."""
        read = functools.partial(_read, self._source)
        spans = pool.OrderedPool(read, self._spans(), self._source.parallel)
        with contextlib.closing(spans):
            for data in spans:
                yield data
                self.done += len(data)

    def _spans(self) -> Iterator[source_lib.Extent]:
        """Yield the whole disk, in pieces of at most SPAN bytes."""
        position = 0
        for span in self._allocation.spans(SPAN // CLUSTER):
            start = span.first * CLUSTER
            end = min(start + span.count * CLUSTER, self._source.size)
            yield from _zeros(position, start)
            yield source_lib.Extent(start, end - start, True)
            position = end
        yield from _zeros(position, self._source.size)


def _zeros(start: int, end: int) -> Iterator[source_lib.Extent]:
    for position in range(start, end, SPAN):
        yield source_lib.Extent(position, min(SPAN, end - position), False)


def _read(
    source: source_lib.Source, span: source_lib.Extent
) -> source_lib.Bytes:
    if not span.data:
        return memoryview(_ZEROS)[: span.length]
    return source_lib.read_exactly(source, span.start, span.length)
