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

"""Every image is what its source is, as real qemu-img sees it."""

import os
import pathlib
import random
import tempfile

import hypothesis
from hypothesis import strategies
import testtools

from nova_snap.qcow2 import source as source_lib
from nova_snap.qcow2 import writer
from tests.unit import base
from tests.unit.qcow2 import support

CLUSTER = 65536
#: More than one L2 table, which maps 512 MiB.
FAR = 1 << 30

#: Lengths at and around the borders that matter.
LENGTHS = strategies.one_of(
    strategies.integers(1, 5 * CLUSTER),
    strategies.sampled_from((1, 511, 512, 513, 4096)),
    strategies.builds(
        lambda clusters, more: clusters * CLUSTER + more,
        strategies.integers(1, 20),
        strategies.sampled_from((-1, 0, 0, 0, 1)),
    ),
)
CONTENTS = strategies.sampled_from(
    ('zeros', 'random', 'text', 'byte', 'mixed')
)
SEGMENTS = strategies.lists(
    strategies.one_of(
        strategies.tuples(strategies.just('hole'), LENGTHS),
        strategies.tuples(strategies.just('hole'), strategies.just(FAR)),
        strategies.tuples(CONTENTS, LENGTHS),
        strategies.tuples(CONTENTS, LENGTHS),
    ),
    max_size=8,
)
ZONE = strategies.one_of(
    strategies.integers(0, 3 * CLUSTER),
    strategies.integers(0, 64 * CLUSTER),
)
RESERVES = strategies.one_of(
    strategies.none(), strategies.builds(support.FixedReserve, ZONE, ZONE)
)

EXAMPLES = int(os.environ.get('NOVA_SNAP_TEST_EXAMPLES', base.EXAMPLES))
SETTINGS = hypothesis.settings(
    max_examples=EXAMPLES,
    deadline=None,
    # The same examples every time, unless more are asked for.
    derandomize='NOVA_SNAP_TEST_EXAMPLES' not in os.environ,
    suppress_health_check=list(hypothesis.HealthCheck),
)


def content(kind: str, length: int, seed: int) -> bytes:
    generator = random.Random(seed)
    if kind == 'random':
        return generator.randbytes(length)
    if kind == 'byte':
        return bytes([seed % 255 + 1]) * length
    if kind == 'text':
        line = b'%d: the quick brown fox\n' % seed
        return (line * (length // len(line) + 1))[:length]
    if kind == 'mixed':
        pieces = [
            content(generator.choice(('zeros', 'random', 'text')), 9999, n)
            for n in range(length // 9999 + 1)
        ]
        return b''.join(pieces)[:length]
    return bytes(length)


def make_disk(
    path: pathlib.Path, segments: list[tuple[str, int]]
) -> list[source_lib.Extent]:
    """Write the raw file, and give its map."""
    extents = []
    position = 0
    with path.open('wb') as file:
        for seed, (kind, length) in enumerate(segments):
            if kind not in ('hole', 'zeros'):
                file.seek(position)
                file.write(content(kind, length, seed))
            extents.append(source_lib.Extent(position, length, kind != 'hole'))
            position += length
        file.truncate(position)
    return extents


class ImageTest(testtools.TestCase):
    """Any disk, in every way of writing it."""

    def judge(self, segments, write) -> None:
        with tempfile.TemporaryDirectory() as directory:
            raw = pathlib.Path(directory, 'raw')
            image = pathlib.Path(directory, 'image')
            extents = make_disk(raw, segments)
            source = support.MappedSource(raw, extents)
            with source, write(source) as stream:
                announced = stream.length
                size = support.save(stream, image)
                self.assertEqual(size, stream.length)
                self.assertIn(announced, (None, size))
                self.assertEqual(size, stream.progress.written)
                self.assertEqual(stream.progress.total, stream.progress.done)
            support.check(image)
            if source.size:  # qemu-img compare divides by it
                support.compare(raw, image)

    @SETTINGS
    @hypothesis.given(SEGMENTS)
    def test_plain(self, segments):
        self.judge(segments, writer.write_plain)

    @SETTINGS
    @hypothesis.given(SEGMENTS, RESERVES)
    def test_zstd(self, segments, reserve):
        self.judge(
            segments, lambda s: writer.write_compressed(s, reserve=reserve)
        )

    @SETTINGS
    @hypothesis.given(SEGMENTS, RESERVES, strategies.integers(0, 3))
    def test_zlib(self, segments, reserve, level):
        self.judge(
            segments,
            lambda s: writer.write_compressed(
                s, 'zlib', level=level, reserve=reserve
            ),
        )


class SizeTest(testtools.TestCase):
    """What an image costs."""

    def size(self, segments, write) -> int:
        with tempfile.TemporaryDirectory() as directory:
            raw = pathlib.Path(directory, 'raw')
            image = pathlib.Path(directory, 'image')
            source = support.MappedSource(raw, make_disk(raw, segments))
            with source:
                return support.save(write(source), image)

    def test_plain_is_known_and_has_no_more_than_the_data(self):
        segments = [('hole', FAR), ('random', 7 * CLUSTER), ('hole', FAR)]
        # header, L1, refcount table, refcount block, one L2 table, data
        self.assertEqual(
            (5 + 7) * CLUSTER, self.size(segments, writer.write_plain)
        )

    def test_zeros_cost_nothing(self):
        segments = [('zeros', 300 * CLUSTER)]
        # header, L1, refcount table, refcount block
        self.assertEqual(
            4 * CLUSTER, self.size(segments, writer.write_compressed)
        )

    def test_random_data_falls_back_to_plain(self):
        segments = [('random', 40 * CLUSTER)]
        plain = self.size(segments, writer.write_plain)
        self.assertEqual(plain, self.size(segments, writer.write_compressed))

    def test_small_disk_has_no_padding(self):
        """A disk that is sampled whole needs less than a cluster more."""
        segments = [('mixed', 100 * CLUSTER)]
        packed = self.size(segments, writer.write_compressed)
        plain = self.size(segments, writer.write_plain)
        self.assertLess(packed, 0.5 * plain)
        for clusters in range(-3, 3):
            # Five clusters are tables.
            zone = packed + (clusters - 5) * CLUSTER
            other = self.size(
                segments,
                lambda s, zone=zone: writer.write_compressed(
                    s, reserve=support.FixedReserve(zone, 0)
                ),
            )
            self.assertLessEqual(packed, other)

    def test_far_too_large_a_reserve_is_used_uncompressed(self):
        """No worse than the reserve says, and no worse than plain."""
        segments = [('text', 300 * CLUSTER)]
        reserve = support.FixedReserve(400 * CLUSTER, 0)
        size = self.size(
            segments, lambda s: writer.write_compressed(s, reserve=reserve)
        )
        self.assertEqual((5 + 400) * CLUSTER, size)

    def test_far_too_small_a_reserve_costs_no_more_than_plain(self):
        segments = [('text', 300 * CLUSTER)]
        reserve = support.FixedReserve(0, 0)
        size = self.size(
            segments, lambda s: writer.write_compressed(s, reserve=reserve)
        )
        self.assertEqual(self.size(segments, writer.write_plain), size)
