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

import hashlib
import io
import pathlib
import random
import tempfile
import time

import testtools

from nova_snap import concurrency
from nova_snap.qcow2 import errors
from nova_snap.qcow2 import file_source
from nova_snap.qcow2 import writer
from tests.unit.qcow2 import support

MIB = 1 << 20
TEXT = random.Random(7).randbytes(100) * (MIB // 100 + 1)


def text(**options) -> support.PatternSource:
    """Make a compressible disk that is too large to be sampled whole."""
    return support.PatternSource(64 * MIB, TEXT[:MIB], **options)


def digest(data: bytes) -> str:
    """Short enough for a message."""
    return hashlib.sha256(data).hexdigest()


WAYS = {
    'plain': writer.write_plain,
    'zstd': writer.write_compressed,
    'zlib': lambda source: writer.write_compressed(source, 'zlib'),
    'overflow': lambda source: writer.write_compressed(
        source, reserve=support.FixedReserve(100_000, 100_000)
    ),
}


class FailureTest(testtools.TestCase):
    """Errors surface in the consumer, and no thread is left."""

    def setUp(self):
        super().setUp()
        threads = concurrency.native_module('threading').active_count
        # eventlet keeps its own native threads from the first use on.
        concurrency.run_blocking(int)
        before = threads()
        self.addCleanup(lambda: self.assertEqual(before, threads()))

    def test_read_error(self):
        for name, write in WAYS.items():
            source = text()
            stream = write(source)
            source._fail_at = 50 * MIB
            with stream, testtools.ExpectedException(errors.SourceError):
                received = sum(len(chunk) for chunk in stream)
                self.fail(f'{name}: no error after {received} bytes')
            self.assertEqual([], list(stream), name)

    def test_read_error_in_the_sample(self):
        with testtools.ExpectedException(errors.SourceError):
            # The sample begins with the first cluster.
            writer.write_compressed(text(fail_at=0))

    def test_error_in_the_map_of_extents(self):
        gap = [support.source_lib.Extent(1, 64 * MIB - 1, True)]
        short = [support.source_lib.Extent(0, MIB, True)]
        empty = [
            support.source_lib.Extent(0, 0, True),
            support.source_lib.Extent(0, 64 * MIB, True),
        ]
        for extents in (gap, short, empty, []):
            for write in WAYS.values():
                self.assertRaises(
                    errors.SourceError, write, text(extents=extents)
                )

    def test_short_read(self):
        for write in (writer.write_plain, writer.write_compressed):
            source = text()
            source.read = lambda offset, length: bytes(length - 1)
            self.assertRaises(
                errors.SourceError, lambda w=write, s=source: list(w(s))
            )

    def test_consumer_breaks_off(self):
        for write in WAYS.values():
            source = text()
            with (
                testtools.ExpectedException(BrokenPipeError),
                write(source) as stream,
            ):
                for number, _ in enumerate(stream):
                    if number == 3:
                        raise BrokenPipeError
            at_end = source.bytes_read
            time.sleep(0.05)
            self.assertEqual(at_end, source.bytes_read)
            stream.close()

    def test_never_begun(self):
        for write in WAYS.values():
            write(text()).close()

    def test_closed_again_starts_no_thread(self):
        """Python can't start one when it ends, and would wait for ever."""
        stream = writer.write_plain(text())
        file = stream.as_file()
        stream.close()

        def fail(*_arguments):
            raise AssertionError('A thread may be needed.')

        self.patch(concurrency, 'run_blocking', fail)
        file.close()

    def test_file_shrinks(self):
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory, 'raw')
            path.write_bytes(TEXT[:MIB] * 40)
            with file_source.FileSource(str(path)) as source:
                stream = writer.write_plain(source)
                next(stream)
                with path.open('r+b') as file:
                    file.truncate(5 * MIB)
                with stream:
                    self.assertRaises(errors.SourceError, list, stream)


class BackPressureTest(testtools.TestCase):
    def test_slow_consumer_slows_the_reading(self):
        for write in (writer.write_plain, writer.write_compressed):
            source = support.PatternSource(200 * MIB, TEXT[:MIB])
            with write(source) as stream:
                sampled = source.bytes_read
                while not stream.progress.done:
                    next(stream)
                time.sleep(0.2)
                ahead = source.bytes_read - sampled
            self.assertLess(ahead, 20 * MIB)

    def test_others_run_while_the_consumer_waits(self):
        """Also where the others are green threads."""
        source = support.PatternSource(16 * MIB, TEXT[:MIB], parallel=1)
        read = source.read

        def slow(offset, length):
            concurrency.native_module('time').sleep(0.02)
            return read(offset, length)

        source.read = slow
        ticks = []
        ending = []

        def tick() -> None:
            while not ending:
                ticks.append(time.monotonic())
                time.sleep(0.005)

        with writer.write_plain(source) as stream:
            other = concurrency.start_thread('ticker', tick)
            for _ in stream:
                pass
            ending.append(True)
            other.join()
        gaps = [b - a for a, b in zip(ticks, ticks[1:], strict=False)]
        self.assertGreater(len(ticks), 16)
        self.assertLess(sorted(gaps)[len(gaps) // 2], 0.02)


class ProgressTest(testtools.TestCase):
    def test_counts(self):
        for write in WAYS.values():
            source = text()
            with write(source) as stream:
                before = stream.progress
                self.assertEqual(0, before.done)
                self.assertEqual(0, before.written)
                self.assertEqual(64 * MIB, before.total)
                sizes = [len(chunk) for chunk in stream]
                after = stream.progress
                self.assertEqual(sum(sizes), after.written)
                self.assertEqual(stream.length, after.written)
                self.assertEqual(after.total, after.done)

    def test_length(self):
        self.assertIsNotNone(writer.write_plain(text()).length)
        self.assertIsNone(writer.write_compressed(text()).length)


class FileTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.source = text()
        self.whole = b''.join(writer.write_compressed(self.source))

    def file(self):
        file = writer.write_compressed(self.source).as_file()
        self.addCleanup(file.close)
        return file

    def test_read_all(self):
        file = self.file()
        self.assertTrue(file.readable())
        self.assertFalse(file.seekable())
        self.assertEqual(digest(self.whole), digest(file.read()))
        self.assertEqual(b'', file.read())
        self.assertEqual(len(self.whole), file.tell())

    def test_read_in_pieces(self):
        for size in (1000, 65536, 1 << 20, 10_000_000):
            file = self.file()
            pieces = list(iter(lambda f=file, s=size: f.read(s), b''))
            self.assertEqual(digest(self.whole), digest(b''.join(pieces)))
            # Every piece but the last one is full.
            self.assertEqual({size}, {len(p) for p in pieces[:-1]} or {size})

    def test_readinto(self):
        buffered = io.BufferedReader(self.file(), 12345)
        self.assertEqual(digest(self.whole), digest(buffered.read()))

    def test_close_ends_the_stream(self):
        file = self.file()
        file.read(70000)
        file.close()
        self.assertRaises(ValueError, file.read, 1)
