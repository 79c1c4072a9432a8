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

"""A raw image is what its source is, in memory that depends on neither."""

import pathlib
import tempfile
import tracemalloc
import zlib

import testtools

from nova_snap.qcow2 import raw
from nova_snap.qcow2 import source as source_lib
from tests.unit.qcow2 import support
from tests.unit.qcow2 import test_images

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30


class RawTest(testtools.TestCase):
    def test_content(self):
        for segments in (
            [],
            [('text', 1)],
            [('hole', 70000), ('random', 5 * MIB + 1)],
            [('text', 3 * MIB), ('hole', 3 * MIB - 1), ('byte', 100000)],
            [('byte', 512), ('hole', 512)] * 500 + [('hole', 9 * MIB)],
        ):
            self.judge(segments)

    def judge(self, segments: list[tuple[str, int]]) -> None:
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory, 'raw')
            extents = test_images.make_disk(path, segments)
            source = support.MappedSource(path, extents)
            with source, raw.write_raw(source) as stream:
                self.assertEqual(source.size, stream.length)
                self.assertEqual(
                    zlib.crc32(path.read_bytes()),
                    zlib.crc32(b''.join(stream)),
                )
                self.assertEqual(source.size, stream.progress.done)

    def test_holes_are_not_read(self):
        extents = [
            source_lib.Extent(0, 50 * MIB, False),
            source_lib.Extent(50 * MIB, MIB, True),
            source_lib.Extent(51 * MIB, 50 * MIB, False),
        ]
        source = support.PatternSource(101 * MIB, extents=extents)
        with raw.write_raw(source) as stream:
            self.assertEqual(source.size, sum(map(len, stream)))
        self.assertEqual(MIB, source.bytes_read)

    def test_memory_does_not_grow_with_the_extents(self):
        """A guest that discards every second block makes one for each."""
        block = 4 * KIB
        size = GIB // 4
        source = support.PatternSource(
            size,
            extents=(
                source_lib.Extent(start, block, start % (2 * block) == 0)
                for start in range(0, size, block)
            ),
        )
        tracemalloc.start()
        try:
            raw.write_raw(source).close()
            _now, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertLess(peak, MIB)
