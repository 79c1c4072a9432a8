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

import random
import zlib

from backports import zstd
import fixtures
import testtools

from nova_snap.qcow2 import codec
from nova_snap.qcow2 import errors

CLUSTER = 65536
TEXT = (b'All work and no play makes Jack a dull boy.\n' * 1500)[:CLUSTER]
NOISE = random.Random(1).randbytes(CLUSTER)


def inflate(data: bytes) -> bytes:
    """As QEMU does: raw, a window of 4 KiB, rubbish behind the end."""
    return zlib.decompressobj(-12).decompress(data + b'rubbish', CLUSTER)


class CodecTest(testtools.TestCase):
    def test_zlib(self):
        for level in range(4):
            deflate = codec.Zlib(level)
            for data in (TEXT, NOISE, bytes(CLUSTER)):
                packed = deflate.compress(memoryview(data))
                self.assertEqual(data, inflate(packed))

    def test_zlib_without_isal(self):
        real = codec.importlib.import_module

        def refuse(name: str):
            if name.startswith('isal'):
                raise ImportError(name)
            return real(name)

        self.useFixture(
            fixtures.MonkeyPatch(
                'nova_snap.qcow2.codec.importlib.import_module', refuse
            )
        )
        packed = codec.Zlib().compress(memoryview(TEXT))
        self.assertEqual(TEXT, inflate(packed))

    def test_zstd(self):
        for level in (1, 3, 9):
            frame = codec.Zstd(level).compress(memoryview(TEXT))
            self.assertLess(len(frame), 1000)
            self.assertEqual(TEXT, zstd.decompress(frame))

    def test_stored(self):
        view = memoryview(NOISE)
        for kind, restore in (
            (codec.Zstd, zstd.decompress),
            (codec.Zlib, inflate),
        ):
            stored = b''.join(kind().store(view))
            self.assertEqual(kind.stored_size, len(stored))
            self.assertEqual(NOISE, restore(stored))

    def test_levels_that_do_not_exist(self):
        for make, level in (
            (codec.Zstd, 0),
            (codec.Zstd, 20),
            (codec.Zlib, -1),
            (codec.Zlib, 4),
        ):
            error = self.assertRaises(errors.InvalidLevel, make, level)
            self.assertEqual(level, error.level)

    def test_zstd_missing(self):
        def refuse(name: str):
            raise ImportError(name)

        self.useFixture(
            fixtures.MonkeyPatch(
                'nova_snap.qcow2.codec.importlib.import_module', refuse
            )
        )
        error = self.assertRaises(errors.LibraryMissing, codec.Zstd)
        self.assertEqual('zstd', error.library)
        self.assertIn('nova-snap[stream]', str(error))
