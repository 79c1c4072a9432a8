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


"""The real qemu-img, on real files: headers, chains, deltas, limits."""

import dataclasses
import os
import shutil
import subprocess
import tempfile
from typing import Any

import fixtures
from oslo_utils import units

from nova_snap import exception
from nova_snap import process
from nova_snap.virt.storage import disk_source as storage
from nova_snap.virt.storage import qemu_img
from tests.unit.virt.storage import base

QEMU_IMG = 'nova_snap.virt.storage.qemu_img'


class InfoTest(base.DiskTestCase):
    """What is read in headers."""

    def test_raw(self) -> None:
        self.assertEqual(
            qemu_img.ImageInfo(base.SIZE, None, None),
            qemu_img.info(self.raw()),
        )

    def test_overlay(self) -> None:
        below = self.raw()
        self.assertEqual(
            qemu_img.ImageInfo(base.SIZE, below.describe(), 'raw'),
            qemu_img.info(self.overlay(below)),
        )

    def test_overlay_whose_base_is_gone(self) -> None:
        source = self.overlay(self.raw())
        (self.directory / 'base').unlink()
        self.assertEqual(base.SIZE, qemu_img.info(source).virtual_size)

    def test_missing_file(self) -> None:
        source = storage.DiskSource('file', 'raw', '/nonexistent/disk')
        error = self.assertRaises(
            exception.ProgramFailed, qemu_img.info, source
        )
        self.assertIn('/nonexistent/disk', str(error))

    def test_raw_disk_with_a_header_of_a_guest_is_plain_bytes(self) -> None:
        source = self.hostile()
        self.assertEqual(
            qemu_img.ImageInfo(base.SIZE, None, None), qemu_img.info(source)
        )

    def hostile(self) -> storage.DiskSource:
        """Make a raw disk into which the guest wrote a qcow2 header."""
        trap = self.directory / 'trap'
        base.tool(
            *('qemu-img', 'create', '-q', '-f', 'qcow2', '-u'),
            *('-F', 'raw', '-b', '/etc/passwd', trap, '1M'),
        )
        self.assertEqual(
            '/etc/passwd', base.header(trap, 'qcow2')['backing-filename']
        )
        path = self.directory / 'hostile'
        content = trap.read_bytes()
        path.write_bytes(content + bytes(base.SIZE - len(content)))
        return storage.DiskSource('file', 'raw', str(path))

    def test_header_that_claims_too_much_is_refused(self) -> None:
        path = self.directory / 'huge'
        base.tool('qemu-img', 'create', '-q', '-f', 'qcow2', path, '64M')
        with path.open('r+b') as stream:
            stream.seek(36)  # l1_size, in entries of 8 bytes
            stream.write((1 << 30).to_bytes(4))
        source = storage.DiskSource('file', 'qcow2', str(path))
        self.assertRaises(exception.ProgramFailed, qemu_img.info, source)


class LimitsTest(base.DiskTestCase):
    """What qemu-img may use, whatever a base.header makes of it."""

    def limit(self, name: str) -> None:
        """Leave it less memory than it takes to start."""
        self.useFixture(
            fixtures.MonkeyPatch(
                f'nova_snap.virt.storage.qemu_img.{name}',
                process.Limits(address_space=16 * base.MIB),
            )
        )

    def test_hold_where_headers_are_read(self) -> None:
        source = self.raw()
        qemu_img.info(source)
        self.limit('INFO_LIMITS')
        self.assertRaises(exception.ProgramFailed, qemu_img.info, source)

    def test_hold_where_data_is_moved(self) -> None:
        source, target = self.raw(), self.directory / 'flat'
        qemu_img.convert(source, target, 'raw', False, base.ignore)
        self.limit('DATA_LIMITS')
        self.assertRaises(
            exception.ProgramFailed,
            qemu_img.convert,
            *(source, target, 'raw', False, base.ignore),
        )


class DataFileTest(base.DiskTestCase):
    """Disks whose header says that their data is in another file."""

    def setUp(self) -> None:
        super().setUp()
        self.data = self.directory / 'data'
        path = self.directory / 'disk'
        base.tool(
            *('qemu-img', 'create', '-q', '-f', 'qcow2'),
            *('-o', f'data_file={self.data}', path, base.SIZE),
        )
        self.write(path, base.MIB)
        self.source = storage.DiskSource('file', 'qcow2', str(path))

    def test_is_not_opened(self) -> None:
        target = self.directory / 'flat'
        above = storage.DiskSource(
            'file',
            'qcow2',
            self.overlay(self.raw(), 'above').location,
            self.source,
        )
        for function, *arguments in (
            (qemu_img.info, self.source),
            (
                *(qemu_img.convert, above, target),
                *('raw', False, base.ignore),
            ),
        ):
            error = self.assertRaises(
                exception.UnsafeDisk, function, *arguments
            )
            self.assertIn(f'{self.source.location} cannot', str(error))
        self.assertFalse(target.exists())

    def test_is_opened_where_the_definition_names_it(self) -> None:
        """By that name, whatever the header says."""
        moved = self.data.rename(self.directory / 'moved')
        source = dataclasses.replace(
            self.source,
            data_store=storage.DiskSource('file', 'raw', str(moved)),
        )
        target = self.directory / 'flat'
        qemu_img.convert(source, target, 'raw', False, base.ignore)
        with target.open('rb') as file:
            file.seek(base.MIB)
            self.assertEqual(b'\x5a' * 64 * base.KIB, file.read(64 * base.KIB))

    def test_header_that_cannot_be_read(self) -> None:
        source = storage.DiskSource('file', 'qcow2', '/nonexistent/disk')
        error = self.assertRaises(
            exception.UnsafeDisk, qemu_img.require_no_data_file, source
        )
        self.assertIn('No such file', str(error))

    def test_qcow2_in_ceph(self) -> None:
        source = storage.DiskSource(
            'network', 'qcow2', storage.RbdLocation('pool', 'image')
        )
        self.assertRaises(
            exception.UnsafeDisk, qemu_img.require_no_data_file, source
        )

    def test_other_headers(self) -> None:
        """Of version 2, and of a file that is too short for any."""
        old, short = self.directory / 'old', self.directory / 'short'
        base.tool(
            *('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', 'compat=0.10'),
            *(old, base.SIZE),
        )
        short.write_bytes(b'QFI')
        for path in (old, short):
            qemu_img.require_no_data_file(
                storage.DiskSource('file', 'qcow2', str(path))
            )


class DeltaTest(base.DiskTestCase):
    """The file that a running disk is mirrored into."""

    def test_has_size_backing_file_and_format(self) -> None:
        below = self.raw()
        path = self.directory / 'a.delta'
        delta = qemu_img.create_delta(path, 2 * base.SIZE, below)
        found = base.header(path, 'qcow2')
        self.assertEqual('qcow2', found['format'])
        self.assertEqual(2 * base.SIZE, found['virtual-size'])
        self.assertEqual(below.describe(), found['backing-filename'])
        self.assertEqual('raw', found['backing-filename-format'])
        self.assertEqual(below, delta.backing)
        self.assertEqual(str(path), delta.location)

    def test_without_a_backing_file(self) -> None:
        path = self.directory / 'a.delta'
        qemu_img.create_delta(path, base.SIZE, None)
        self.assertNotIn('backing-filename', base.header(path, 'qcow2'))

    def test_no_room(self) -> None:
        path = self.small_disk(4 * base.KIB) / 'a.delta'
        error = self.assertRaises(
            exception.ProgramFailed,
            qemu_img.create_delta,
            path,
            base.SIZE,
            None,
        )
        self.assertIn('No space left', str(error))

    def test_flattened_in_place(self) -> None:
        below = self.raw()
        path = self.directory / 'a.delta'
        delta = qemu_img.create_delta(path, base.SIZE, below)
        self.write(path, base.MIB)
        before = self.overlay(below, 'same', base.MIB)
        self.assertTrue(qemu_img.can_flatten(delta))
        shares: list[float] = []
        qemu_img.flatten(delta, shares.append)
        self.assertNotIn('backing-filename', base.header(path, 'qcow2'))
        flat = storage.DiskSource('file', 'qcow2', str(path))
        self.assert_same_content(before, flat)
        base.tool('qemu-img', 'check', '-q', '-f', 'qcow2', path)

    def check_flattened(self) -> None:
        """Check flattening of data, zeros and holes in both layers.

        The disk ends within a cluster.
        """
        size = base.SIZE + 5 * base.KIB
        below = self.raw(size=size)
        path = self.directory / 'a.delta'
        delta = qemu_img.create_delta(path, size, below)
        for command in (
            f'write -P 1 {base.MIB} 64k',
            f'write -z {2 * base.MIB} 128k',
            f'write -P 2 {size - base.KIB} 1k',
        ):
            base.tool('qemu-io', '-f', 'qcow2', '-c', command, path)
        before = self.directory / 'before'
        before.write_bytes(path.read_bytes())
        qemu_img.flatten(delta, base.ignore)
        self.assert_same_content(
            storage.DiskSource('file', 'qcow2', str(before), below),
            storage.DiskSource('file', 'qcow2', str(path)),
        )
        self.assertNotIn('backing-filename', base.header(path, 'qcow2'))
        base.tool('qemu-img', 'check', '-q', '-f', 'qcow2', path)
        self.assertEqual([], list(self.directory.glob('*.mask')))

    def test_flattening_all_kinds_of_clusters(self) -> None:
        self.check_flattened()

    def test_flattening_with_too_many_extents_to_look_at(self) -> None:
        self.useFixture(fixtures.MonkeyPatch(f'{QEMU_IMG}.MAX_MAP', 100))
        self.check_flattened()

    def test_map_takes_no_more_of_the_disk(self) -> None:
        """It goes to a temporary file, and each extent takes 99 bytes."""
        path = self.directory / 'a.delta'
        delta = qemu_img.create_delta(path, 500 * base.MIB, self.raw())
        writes = ''.join(
            f'write -q -z {number * 128}k 64k\n' for number in range(4000)
        )
        subprocess.run(
            ['qemu-io', '-f', 'qcow2', path],
            input=writes.encode(),
            stdout=subprocess.DEVNULL,
            check=True,
        )
        before = tempfile.TemporaryFile
        files: list[int] = []

        def recorded() -> Any:
            file = before()
            files.append(os.dup(file.fileno()))
            self.addCleanup(os.close, files[-1])
            return file

        self.useFixture(
            fixtures.MonkeyPatch('tempfile.TemporaryFile', recorded)
        )
        self.useFixture(fixtures.MonkeyPatch(f'{QEMU_IMG}.MAX_MAP', 100_000))
        qemu_img.flatten(delta, base.ignore)
        self.assertLessEqual(
            max(os.fstat(file).st_size for file in files), 100_000
        )

    def test_flattening_is_cancelled_while_it_looks(self) -> None:
        path = self.directory / 'a.delta'
        delta = qemu_img.create_delta(path, base.SIZE, self.raw())
        self.slow_down('map')

        def cancelled(_share: float) -> None:
            raise TimeoutError(str(list(self.directory.glob('*.mask'))))

        error = self.assertRaises(
            TimeoutError, qemu_img.flatten, delta, cancelled
        )
        self.assertEqual('[]', str(error))

    def slow_down(self, command: str) -> None:
        """Make a command of qemu-img sleep for a minute instead.

        It would have done that before anybody looks at it.
        """
        program = self.directory / 'bin' / 'qemu-img'
        program.parent.mkdir()
        program.write_text(
            f'#!/bin/sh\n[ "$1" != {command} ] || exec sleep 60\n'
            f'exec {shutil.which("qemu-img")} "$@"\n'
        )
        program.chmod(0o755)
        path = f'{program.parent}:{os.environ["PATH"]}'
        self.useFixture(fixtures.EnvironmentVariable('PATH', path))

    def test_flattening_without_qemu_io(self) -> None:
        self.useFixture(
            fixtures.MonkeyPatch('shutil.which', lambda name: None)
        )
        self.check_flattened()

    def test_flattening_reads_no_holes(self) -> None:
        size = 1 << 40
        below = self.raw()
        os.truncate(below.describe(), size)
        path = self.directory / 'a.delta'
        delta = qemu_img.create_delta(path, size, below)
        # To read all of it would take minutes of processor time.
        limits = process.Limits(units.Gi, cpu=10)
        self.useFixture(
            fixtures.MonkeyPatch(f'{QEMU_IMG}.DATA_LIMITS', limits)
        )
        qemu_img.flatten(delta, base.ignore)
        self.assertLess(path.stat().st_blocks * 512, 2 * base.SIZE)

    def test_flattening_a_large_piece(self) -> None:
        """More zeros behind one another than one request may write."""
        gib = units.Gi
        below = self.raw()
        os.truncate(below.describe(), 4 * gib)
        path = self.directory / 'a.delta'
        delta = qemu_img.create_delta(path, 4 * gib, below)
        for start in range(3):
            command = f'write -z {start * gib} {gib}'
            base.tool('qemu-io', '-f', 'qcow2', '-c', command, path)
        qemu_img.flatten(delta, base.ignore)
        empty = self.raw('empty', size=0)
        os.truncate(empty.describe(), 4 * gib)
        self.assert_same_content(
            empty, storage.DiskSource('file', 'qcow2', str(path))
        )

    def test_flattening_what_is_flat(self) -> None:
        path = self.directory / 'a.delta'
        delta = qemu_img.create_delta(path, base.SIZE, None)
        before = path.read_bytes()
        qemu_img.flatten(delta, base.ignore)
        self.assertEqual(before, path.read_bytes())

    def test_chain_whose_formats_only_headers_name_is_not_flattened(
        self,
    ) -> None:
        middle = self.overlay(self.raw(), 'middle')
        path = self.directory / 'a.delta'
        delta = qemu_img.create_delta(path, base.SIZE, middle)
        self.assertFalse(qemu_img.can_flatten(delta))

    def test_base_whose_header_names_a_file_is_not_flattened(self) -> None:
        """The definition may say that nothing is below the base."""
        base_path, path = self.directory / 'base.qcow2', self.directory / 'a'
        secret = self.raw('secret')
        base.tool(
            *('qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'raw'),
            *('-b', secret.describe(), base_path),
        )
        below = storage.DiskSource('file', 'qcow2', str(base_path))
        delta = qemu_img.create_delta(path, base.SIZE, below)
        self.assertFalse(qemu_img.can_flatten(delta))
        flat = self.directory / 'flat'
        qemu_img.convert(delta, flat, 'raw', False, base.ignore)
        self.assertEqual(bytes(base.SIZE), flat.read_bytes())

    def test_flattening_onto_a_full_disk(self) -> None:
        path = self.small_disk(base.MIB) / 'a.delta'
        delta = qemu_img.create_delta(path, base.SIZE, self.raw())
        error = self.assertRaises(
            exception.ProgramFailed, qemu_img.flatten, delta, base.ignore
        )
        self.assertIn('No space left', str(error))
