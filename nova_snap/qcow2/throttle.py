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

"""A source that limits the bandwidth of reading another source."""

from collections.abc import Iterator
import contextlib
import time

from nova_snap import concurrency
from nova_snap.qcow2 import source as source_lib


class Throttle:
    """A limit of ``limit`` bytes per second, for all who share it."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = concurrency.native_module('threading').Lock()
        self._sleep = concurrency.native_module('time').sleep
        self._free_at = time.monotonic()

    def wait(self, length: int) -> None:
        """Wait for the turn to read so many bytes."""
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._free_at)
            self._free_at = turn + length / self._limit
        self._sleep(turn - now)


class ThrottledSource:
    """Another source, read no faster than a throttle allows.

    The limit applies to the reads of all threads together, and of all sources
    that share the throttle.
    """

    def __init__(self, source: source_lib.Source, throttle: Throttle) -> None:
        self.name = source.name
        self.size = source.size
        self.parallel = source.parallel
        self._source = source
        self._throttle = throttle

    def extents(self) -> Iterator[source_lib.Extent]:
        """Return the extents of the other source."""
        return self._source.extents()

    def read(self, offset: int, length: int) -> source_lib.Bytes:
        """Wait as long as the limit demands, then read."""
        self._throttle.wait(length)
        return self._source.read(offset, length)

    def reading(
        self, offset: int, length: int
    ) -> contextlib.AbstractContextManager[source_lib.Bytes]:
        """Wait as long as the limit demands, then read for the block."""
        self._throttle.wait(length)
        return self._source.reading(offset, length)

    def close(self) -> None:
        """Close the other source."""
        self._source.close()
