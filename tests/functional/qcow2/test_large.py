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

import functools
import pathlib
import random
import subprocess
import tempfile

from oslo_utils.imageutils import format_inspector
import testtools

from nova_snap.qcow2 import file_source
from nova_snap.qcow2 import source as source_lib
from nova_snap.qcow2 import writer
from tests.functional.qcow2 import memory
from tests.lab import exhaustive
from tests.unit.qcow2 import support

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40

WAYS = (
    writer.write_plain,
    writer.write_compressed,
    lambda source: writer.write_compressed(source, 'zlib'),
)

#: Bytes of data that are written in little memory.
AMOUNTS = exhaustive.choose((2 * GIB, 32 * GIB), (2 * GIB,))


class LargeTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        work = tempfile.TemporaryDirectory()
        self.addCleanup(work.cleanup)
        self.raw = pathlib.Path(work.name, 'raw')
        self.image = pathlib.Path(work.name, 'image')

    def judge(self, write, extents=None) -> int:
        source = file_source.FileSource(str(self.raw))
        if extents is not None:
            source = support.MappedSource(self.raw, extents)
        with source:
            size = support.save(write(source), self.image)
        support.check(self.image)
        support.compare(self.raw, self.image)
        return size

    def test_two_tebibytes_almost_empty(self):
        with self.raw.open('wb') as file:
            for position in (0, GIB - 3, TIB, 2 * TIB - 1000):
                file.seek(position)
                file.write(b'data' * 250)
            file.truncate(2 * TIB)
        for write in WAYS:
            # Five L2 tables, one of them for a block across their border.
            self.assertLess(self.judge(write), 20 * 64 * KIB)

    def test_a_million_extents(self):
        """A sector of data, a sector of nothing, and so on."""
        number = 1 << 20
        sector = 512
        with self.raw.open('wb') as file:
            for position in range(0, number * sector, 2 * sector):
                file.write((b'%16d' % position * 32).ljust(2 * sector, b'\0'))
        extents = (
            source_lib.Extent(sector * n, sector, n % 2 == 0)
            for n in range(number)
        )
        self.judge(writer.write_compressed, extents)

    def test_a_million_extents_far_apart(self):
        """As above with clusters: the map stays small and exact."""
        number = 1 << 20
        cluster = 64 * KIB
        source = support.PatternSource(
            number * cluster,
            extents=(
                source_lib.Extent(cluster * n, cluster, n % 2 == 0)
                for n in range(number)
            ),
        )
        with writer.write_plain(source) as stream:
            # header, L1, refcount table, 17 refcount blocks, 128 L2 tables
            tables = 3 + 17 + 128
            self.assertEqual((tables + number // 2) * cluster, stream.length)

    def test_random_data_is_not_compressed(self):
        with self.raw.open('wb') as file:
            for seed in range(50):
                file.write(random.Random(seed).randbytes(MIB))
        plain = self.judge(writer.write_plain)
        self.assertEqual(plain, self.judge(writer.write_compressed))

    def make_tree(self) -> None:
        """Make a file system with the files of an OS."""
        with self.raw.open('wb') as file:
            file.truncate(GIB)
        subprocess.run(
            ['mke2fs', '-q', '-t', 'ext4', '-d', '/usr/sbin', str(self.raw)],
            check=True,
        )

    def test_not_larger_than_what_qemu_writes(self):
        self.make_tree()
        theirs = self.image.with_name('theirs')
        subprocess.run(
            ['qemu-img', 'convert', '-c', '-o', 'compression_type=zstd']
            + ['-f', 'raw', '-O', 'qcow2', str(self.raw), str(theirs)],
            check=True,
        )
        # QEMU's level is 3, and ours is 1 unless it is told.
        write = functools.partial(writer.write_compressed, level=3)
        self.assertLess(self.judge(write), 1.01 * theirs.stat().st_size)

    def test_glance_accepts_them(self):
        """By the checks that Glance makes on upload (oslo.utils)."""
        self.make_tree()
        for write in WAYS:
            with file_source.FileSource(str(self.raw)) as source:
                support.save(write(source), self.image)
            found = format_inspector.detect_file_format(str(self.image))
            self.assertEqual('qcow2', str(found))
            self.assertEqual(GIB, found.virtual_size)
            found.safety_check()

    def test_memory_is_bounded(self):
        """In a process of its own."""
        for amount in AMOUNTS:
            script = f'''
from nova_snap.qcow2 import writer
from tests.unit.qcow2 import support
source = support.PatternSource({amount}, bytes([1]) * {MIB})
for chunk in writer.write_compressed(source, level=1):
    pass
'''
            self.assertLess(memory.peak(script), 100 * MIB)
