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
Extents that are not data are sent as zeros without being read.
"""

from collections.abc import Generator
from collections.abc import Iterator
import contextlib
import dataclasses
import functools

from nova_snap import concurrency
from nova_snap.qcow2 import pool
from nova_snap.qcow2 import source as source_lib
from nova_snap.qcow2 import stream

#: Bytes that are read and sent together.
SPAN = 1 << 20

_ZEROS = bytes(SPAN)


def write_raw(source: source_lib.Source) -> stream.Stream:
    """Write a raw image; its length is that of the disk.

    :raises SourceError: the extents can't be read.
    """
    extents = concurrency.run_blocking(list, source_lib.checked(source))
    return stream.Stream(RawWriter(source, extents))


class RawWriter:
    """The writer of one raw image; see ``stream.Writer``."""

    def __init__(
        self, source: source_lib.Source, extents: list[source_lib.Extent]
    ) -> None:
        self._source = source
        self._extents = extents
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
        for extent in self._extents:
            for start in range(0, extent.length, SPAN):
                yield dataclasses.replace(
                    extent,
                    start=extent.start + start,
                    length=min(SPAN, extent.length - start),
                )


def _read(
    source: source_lib.Source, span: source_lib.Extent
) -> source_lib.Bytes:
    if not span.data:
        return memoryview(_ZEROS)[: span.length]
    return source_lib.read_exactly(source, span.start, span.length)
