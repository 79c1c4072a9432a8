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

import filecmp
import pathlib
import subprocess
import tempfile

import fixtures
import testtools

from nova_snap.qcow2 import errors
from nova_snap.qcow2 import libnbd
from nova_snap.qcow2 import nbd_connection
from nova_snap.qcow2 import nbd_source
from nova_snap.qcow2 import raw
from nova_snap.qcow2 import source as source_lib
from nova_snap.qcow2 import writer
from tests.functional.qcow2 import memory
from tests.functional.qcow2 import servers
from tests.unit.qcow2 import support
from tests.unit.qcow2 import test_images

CLUSTER = 65536
MIB = 1 << 20


class NbdTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        work = tempfile.TemporaryDirectory()
        self.addCleanup(work.cleanup)
        self.work = pathlib.Path(work.name)
        self.raw = self.work / 'raw'
        self.image = self.work / 'image'
        self.socket = self.work / 'socket'
        self.uri = f'nbd+unix:///?socket={self.socket}'

    def make_disk(self, *segments) -> None:
        test_images.make_disk(
            self.raw,
            segments
            or [
                ('text', 40 * MIB),
                ('hole', 700 * MIB),
                ('mixed', 30 * MIB),
                ('random', 20 * MIB),
                ('hole', 12345),
            ],
        )

    def serve(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Run nbdkit for the raw file, with these arguments."""
        options = [a for a in arguments if a.startswith('-')]
        parameters = [a for a in arguments if not a.startswith('-')]
        return self.enterContext(
            servers.nbdkit(
                *(self.socket, '-r', *options),
                *('file', self.raw, *parameters),
            )
        )

    def open(self, **options) -> nbd_source.NbdSource:
        source = nbd_source.NbdSource(self.uri, **options)
        self.addCleanup(source.close)
        return source

    def judge(self) -> None:
        """Check that each writer makes an image equal to the raw file."""
        for write in (writer.write_plain, writer.write_compressed):
            with self.open() as source:
                support.save(write(source), self.image)
            support.check(self.image)
            support.compare(self.raw, self.image)
        with self.open() as source:
            support.save(raw.write_raw(source), self.image)
        self.assertTrue(filecmp.cmp(self.raw, self.image, shallow=False))

    def test_nbdkit(self):
        self.make_disk()
        self.serve()
        self.judge()
        self.assertEqual(2, self.open().parallel)
        self.assertEqual(4, self.open(connections=4).parallel)
        data = sum(e.length for e in self.open().extents() if e.data)
        self.assertLess(data, 91 * MIB)

    def test_sizes_that_are_no_multiple_of_a_sector(self):
        self.make_disk(('text', CLUSTER + 1))
        self.serve()
        self.assertEqual(CLUSTER + 1, self.open().size)
        self.judge()

    def test_empty_export(self):
        self.make_disk(('hole', 0))
        self.raw.write_bytes(b'')
        self.serve()
        with self.open() as source:
            self.assertEqual([], list(source_lib.checked(source)))
            support.save(writer.write_plain(source), self.image)
        support.check(self.image)

    def test_server_without_an_allocation_map(self):
        self.make_disk(('text', MIB), ('hole', MIB))
        self.serve('--no-sr')
        self.assertEqual(
            [source_lib.Extent(0, 2 * MIB, True)],
            list(self.open().extents()),
        )
        self.judge()

    def test_server_without_multi_conn(self):
        self.make_disk()
        self.serve('--filter=multi-conn', 'multi-conn-mode=disable')
        self.assertEqual(1, self.open().parallel)
        self.judge()

    def test_server_with_a_small_maximum(self):
        self.make_disk(('mixed', 5 * MIB))
        self.serve(
            '--filter=blocksize-policy',
            'blocksize-minimum=512',
            'blocksize-preferred=4096',
            'blocksize-maximum=65536',
            'blocksize-error-policy=error',
        )
        self.judge()

    def test_read_error_in_the_middle(self):
        trigger = self.work / 'trigger'
        self.make_disk()
        self.serve(
            '--filter=error', f'error-file={trigger}', 'error-pread-rate=1'
        )
        source = self.open()
        with writer.write_compressed(source) as stream:
            next(stream)
            trigger.touch()
            error = self.assertRaises(errors.SourceError, list, stream)
        self.assertEqual(self.uri, error.source)
        self.assertIn('Input/output error', error.reason)

    def test_server_dies_in_the_middle(self):
        self.make_disk()
        process = self.serve()
        with writer.write_compressed(self.open()) as stream:
            next(stream)
            process.kill()
            self.assertRaises(errors.SourceError, list, stream)

    def test_server_stalls(self):
        self.make_disk()
        self.serve('--filter=delay', 'rdelay=60')
        source = self.open(timeout=0.5)
        error = self.assertRaises(
            errors.SourceError, writer.write_compressed, source
        )
        self.assertIn('did not answer', error.reason)

    def test_memory_is_bounded(self):
        """400 MiB through libnbd, in a process of its own."""
        self.make_disk(('text', 400 * MIB))
        self.serve()
        script = f'''
from nova_snap.qcow2 import nbd_source
from nova_snap.qcow2 import writer
with nbd_source.NbdSource({self.uri!r}) as source:
    for chunk in writer.write_plain(source):
        pass
'''
        self.assertLess(memory.peak(script), 100 * MIB)

    def test_memory_does_not_grow_with_the_extents(self):
        """Half a million of them, some KiB each, in a process of its own."""
        self.enterContext(
            servers.nbdkit(
                *(self.socket, '-r', 'sparse-random', 'size=2G'),
                *('runlength=4096', 'percent=50'),
            )
        )
        script = f'''
from nova_snap.qcow2 import nbd_source
from nova_snap.qcow2 import raw
with nbd_source.NbdSource({self.uri!r}) as source:
    raw.write_raw(source).close()
'''
        self.assertLess(memory.peak(script), 64 * MIB)

    def test_memory_does_not_grow_with_the_connections(self):
        """A service reads disk after disk, in a process of its own."""
        self.make_disk(('text', 4 * MIB))
        self.serve()
        script = f'''
from nova_snap.qcow2 import nbd_source
for _ in range(100):
    with nbd_source.NbdSource({self.uri!r}) as source:
        assert source.parallel == 2
        for offset in range(0, source.size, 1 << 20):
            source.read(offset, 1 << 20)
'''
        self.assertLess(memory.peak(script), 64 * MIB)

    def test_reads_at_once_have_memory_of_their_own(self):
        self.make_disk(('text', MIB), ('random', 2 * MIB))
        self.serve()
        whole = self.raw.read_bytes()
        source = self.open()
        # More of them than there are connections.
        with (
            source.reading(0, 3 * CLUSTER) as first,
            source.reading(MIB, CLUSTER) as second,
            source.reading(2 * MIB, MIB) as third,
        ):
            self.assertEqual(whole[: 3 * CLUSTER], bytes(first))
            self.assertEqual(whole[MIB:][:CLUSTER], bytes(second))
            self.assertEqual(whole[2 * MIB :], bytes(third))
        self.assertEqual(whole, source.read(0, 3 * MIB))

    def test_memory_that_may_still_be_written_to_is_not_used_again(self):
        self.make_disk()
        self.serve('--filter=delay', 'rdelay=60')
        source = self.open(timeout=0.1)
        with nbd_connection.memory() as late:
            pass
        with testtools.ExpectedException(errors.SourceError):
            source.read(0, CLUSTER)
        with nbd_connection.memory() as another:
            self.assertIsNot(late, another)

    def test_short_holes_are_data(self):
        self.make_disk(
            *[('text', 4096), ('hole', 4096)] * 100,
            ('hole', 10 * MIB),
            ('text', 4096),
        )
        self.serve()
        extents = list(self.open().extents())
        self.assertEqual([True, False, True], [e.data for e in extents])
        self.assertEqual(200 * 4096 - 4096, extents[0].length)
        self.judge()

    def test_mapping_is_ended(self):
        self.make_disk(('hole', 100 << 30))
        self.serve()
        asked: list[int] = []

        def check() -> None:
            asked.append(len(asked))
            if len(asked) == 3:
                raise TimeoutError

        for write in (raw.write_raw, writer.write_plain):
            asked.clear()
            source = self.open(check=check)
            self.assertRaises(TimeoutError, write, source)
            self.assertEqual([0, 1, 2], asked)
            # The connection is free again.
            source.read(0, 512)

    def test_nothing_there(self):
        error = self.assertRaises(errors.SourceError, self.open)
        self.assertEqual(self.uri, error.source)

    def test_closed(self):
        self.make_disk(('text', MIB))
        self.serve()
        source = self.open()
        source.close()
        source.close()
        self.assertRaises(errors.SourceError, source.read, 0, 512)

    def test_qemu_nbd_of_an_overlay(self):
        self.make_disk()
        overlay = self.work / 'overlay'
        subprocess.run(
            ['qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'raw']
            + ['-b', str(self.raw), str(overlay)],
            check=True,
        )
        subprocess.run(
            ['qemu-io', '-f', 'qcow2', '-c', 'write -P 7 10M 3M']
            + ['-c', 'write -z 1M 2M', str(overlay)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        self.enterContext(servers.qemu_nbd(self.socket, overlay, 'qcow2'))
        source = self.open()
        support.save(writer.write_compressed(source), self.image)
        support.check(self.image)
        support.compare(overlay, self.image, 'qcow2')


class BindingTest(testtools.TestCase):
    def test_is_found_where_import_is_not(self):
        self.assertEqual('nbd', libnbd.load().__name__)

    def test_not_installed(self):
        self.useFixture(
            fixtures.MonkeyPatch('nova_snap.distribution._DIRECTORIES', ())
        )

        def refuse(name: str):
            raise ImportError(name)

        self.useFixture(
            fixtures.MonkeyPatch(
                'nova_snap.distribution.importlib.import_module', refuse
            )
        )
        error = self.assertRaises(
            errors.LibraryMissing, libnbd.load.__wrapped__
        )
        self.assertEqual('python3-libnbd', error.remedy)
