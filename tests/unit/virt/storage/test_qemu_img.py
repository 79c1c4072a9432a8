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


"""The real qemu-img, on real files."""

import hashlib
import json
import os
import pathlib
import re
import subprocess
from typing import Any

import fixtures

from nova_snap import exception
from nova_snap import process
from nova_snap.virt.storage import qemu_img
from nova_snap.virt.storage import source as storage
from tests.unit import base

KIB = 1 << 10
MIB = 1 << 20

#: The size of the disks here, and of what is not zero in them.
SIZE = 8 * MIB


def ignore(_share: float) -> None:
    """Take progress for what it is."""


def tool(*argv: object) -> str:
    """What a program prints that has to succeed."""
    done = subprocess.run(
        list(map(str, argv)), check=True, capture_output=True, text=True
    )
    return done.stdout


def header(path: pathlib.Path, name: str) -> dict[str, Any]:
    """What qemu-img itself says of a file that these tests made."""
    text = tool('qemu-img', 'info', '--output=json', '-f', name, path)
    found: dict[str, Any] = json.loads(text)
    return found


class DiskTestCase(base.TestCase):
    """Disks with content, in a folder of their own."""

    def setUp(self) -> None:
        super().setUp()
        self.directory = self.folder()

    def raw(self, name: str = 'base', size: int = SIZE) -> storage.DiskSource:
        """A raw file that is half full of bytes that can't be compressed."""
        path = self.directory / name
        path.write_bytes(os.urandom(size // 2) + bytes(size - size // 2))
        return storage.DiskSource('file', 'raw', str(path))

    def overlay(
        self,
        below: storage.DiskSource,
        name: str = 'disk',
        offset: int = MIB,
        records_format: bool = True,
    ) -> storage.DiskSource:
        """A qcow2 file with 64 KiB of its own at ``offset``."""
        path = self.directory / name
        tool(
            *('qemu-img', 'create', '-q', '-f', 'qcow2'),
            *('-F', below.format, '-b', below.describe(), path),
        )
        self.write(path, offset)
        if not records_format:
            self.forget_backing_format(path)
        return storage.DiskSource('file', 'qcow2', str(path), below)

    def write(self, path: pathlib.Path, offset: int) -> None:
        """Write as a guest does."""
        command = f'write -P 0x5a {offset} {64 * KIB}'
        tool('qemu-io', '-f', 'qcow2', '-c', command, path)

    def forget_backing_format(self, path: pathlib.Path) -> None:
        """Make it look as if an old qemu-img had made it."""
        content = bytearray(path.read_bytes())
        # The extension for the format of the backing file; another type
        # makes it one that is not known, which readers skip.
        position = content.index(bytes.fromhex('e2792aca'))
        content[position : position + 4] = bytes.fromhex('0badf00d')
        path.write_bytes(content)

    def assert_same_content(
        self, one: storage.DiskSource, other: storage.DiskSource
    ) -> None:
        """Both read the same, whatever they are made of."""
        tool(
            *('qemu-img', 'compare'),
            *(storage.image_name(one), storage.image_name(other)),
        )

    def unknown(self, source: storage.DiskSource) -> storage.DiskSource:
        """The disk as libvirt shows it for a guest that is shut off."""
        return storage.DiskSource(
            source.type, source.format, source.location, is_chain_known=False
        )


class InfoTest(DiskTestCase):
    """What is read in headers."""

    def test_raw(self) -> None:
        self.assertEqual(
            qemu_img.ImageInfo(SIZE, None, None), qemu_img.info(self.raw())
        )

    def test_overlay(self) -> None:
        below = self.raw()
        self.assertEqual(
            qemu_img.ImageInfo(SIZE, below.describe(), 'raw'),
            qemu_img.info(self.overlay(below)),
        )

    def test_overlay_whose_base_is_gone(self) -> None:
        source = self.overlay(self.raw())
        (self.directory / 'base').unlink()
        self.assertEqual(SIZE, qemu_img.info(source).virtual_size)

    def test_missing_file(self) -> None:
        source = storage.DiskSource('file', 'raw', '/nonexistent/disk')
        error = self.assertRaises(
            exception.ProgramFailed, qemu_img.info, source
        )
        self.assertIn('/nonexistent/disk', str(error))

    def test_raw_disk_with_a_header_of_a_guest_is_plain_bytes(self) -> None:
        source = self.hostile()
        self.assertEqual(
            qemu_img.ImageInfo(SIZE, None, None), qemu_img.info(source)
        )

    def hostile(self) -> storage.DiskSource:
        """A raw disk whose guest wrote a qcow2 header into it."""
        trap = self.directory / 'trap'
        tool(
            *('qemu-img', 'create', '-q', '-f', 'qcow2', '-u'),
            *('-F', 'raw', '-b', '/etc/passwd', trap, '1M'),
        )
        self.assertEqual(
            '/etc/passwd', header(trap, 'qcow2')['backing-filename']
        )
        path = self.directory / 'hostile'
        content = trap.read_bytes()
        path.write_bytes(content + bytes(SIZE - len(content)))
        return storage.DiskSource('file', 'raw', str(path))

    def test_header_that_claims_too_much_is_refused(self) -> None:
        path = self.directory / 'huge'
        tool('qemu-img', 'create', '-q', '-f', 'qcow2', path, '64M')
        with path.open('r+b') as stream:
            stream.seek(36)  # l1_size, in entries of 8 bytes
            stream.write((1 << 30).to_bytes(4))
        source = storage.DiskSource('file', 'qcow2', str(path))
        self.assertRaises(exception.ProgramFailed, qemu_img.info, source)


class LimitsTest(DiskTestCase):
    """What qemu-img may use, whatever a header makes of it."""

    def limit(self, name: str) -> None:
        """Leave it less memory than it takes to start."""
        self.useFixture(
            fixtures.MonkeyPatch(
                f'nova_snap.virt.storage.qemu_img.{name}',
                process.Limits(address_space=16 * MIB),
            )
        )

    def test_hold_where_headers_are_read(self) -> None:
        source = self.raw()
        qemu_img.info(source)
        self.limit('INFO_LIMITS')
        self.assertRaises(exception.ProgramFailed, qemu_img.info, source)

    def test_hold_where_data_is_moved(self) -> None:
        source, target = self.raw(), self.directory / 'flat'
        qemu_img.convert(source, target, 'raw', False, ignore)
        self.limit('DATA_LIMITS')
        self.assertRaises(
            exception.ProgramFailed,
            qemu_img.convert,
            *(source, target, 'raw', False, ignore),
        )


class KnownChainTest(DiskTestCase):
    """Chains of guests that are shut off."""

    def test_is_read_from_headers_that_name_formats(self) -> None:
        source = self.overlay(self.overlay(self.raw(), 'middle'))
        found = qemu_img.with_known_chain(self.unknown(source))
        self.assertTrue(found.is_chain_known)
        self.assert_same_content(source, found)
        assert found.backing is not None
        assert found.backing.backing is not None
        self.assertEqual(
            str(self.directory / 'middle'), found.backing.location
        )
        self.assertEqual('raw', found.backing.backing.format)

    def test_no_backing_file(self) -> None:
        path = self.directory / 'disk'
        tool('qemu-img', 'create', '-q', '-f', 'qcow2', path, '1M')
        source = storage.DiskSource(
            'file', 'qcow2', str(path), is_chain_known=False
        )
        found = qemu_img.with_known_chain(source)
        self.assertTrue(found.is_chain_known)
        self.assertIsNone(found.backing)

    def test_known_chain_is_left_alone(self) -> None:
        source = storage.DiskSource('file', 'qcow2', '/nonexistent')
        self.assertEqual(source, qemu_img.with_known_chain(source))

    def test_base_without_a_format_is_not_followed(self) -> None:
        source = self.overlay(self.raw(), records_format=False)
        error = self.assertRaises(
            exception.UnsafeDisk,
            qemu_img.with_known_chain,
            self.unknown(source),
        )
        for text in ('format', 'qemu-img rebase', source.describe()):
            self.assertIn(text, str(error))

    def test_base_elsewhere_than_on_this_host_is_not_followed(self) -> None:
        path = self.directory / 'disk'
        tool(
            *('qemu-img', 'create', '-q', '-f', 'qcow2', '-u', '-F', 'raw'),
            *('-b', 'nbd://192.0.2.1/x', path, '1M'),
        )
        source = storage.DiskSource(
            'file', 'qcow2', str(path), is_chain_known=False
        )
        error = self.assertRaises(
            exception.UnsafeDisk, qemu_img.with_known_chain, source
        )
        self.assertIn('192.0.2.1', str(error))

    def test_relative_base_is_relative_to_the_disk(self) -> None:
        below = self.raw()
        path = self.directory / 'disk'
        tool(
            *('qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'raw'),
            *('-b', 'base', path),
        )
        source = storage.DiskSource(
            'file', 'qcow2', str(path), is_chain_known=False
        )
        found = qemu_img.with_known_chain(source)
        self.assert_same_content(found, below)


class DeltaTest(DiskTestCase):
    """The file that a running disk is mirrored into."""

    def test_has_size_backing_file_and_format(self) -> None:
        below = self.raw()
        path = self.directory / 'a.delta'
        delta = qemu_img.create_delta(path, 2 * SIZE, below)
        found = header(path, 'qcow2')
        self.assertEqual('qcow2', found['format'])
        self.assertEqual(2 * SIZE, found['virtual-size'])
        self.assertEqual(below.describe(), found['backing-filename'])
        self.assertEqual('raw', found['backing-filename-format'])
        self.assertEqual(below, delta.backing)
        self.assertEqual(str(path), delta.location)

    def test_without_a_backing_file(self) -> None:
        path = self.directory / 'a.delta'
        qemu_img.create_delta(path, SIZE, None)
        self.assertNotIn('backing-filename', header(path, 'qcow2'))

    def test_no_room(self) -> None:
        path = self.small_disk(4 * KIB) / 'a.delta'
        error = self.assertRaises(
            exception.ProgramFailed, qemu_img.create_delta, path, SIZE, None
        )
        self.assertIn('No space left', str(error))

    def test_flattened_in_place(self) -> None:
        below = self.raw()
        path = self.directory / 'a.delta'
        delta = qemu_img.create_delta(path, SIZE, below)
        self.write(path, MIB)
        before = self.overlay(below, 'same', MIB)
        self.assertTrue(qemu_img.can_flatten(delta))
        shares: list[float] = []
        qemu_img.flatten(delta, shares.append)
        self.assertNotIn('backing-filename', header(path, 'qcow2'))
        flat = storage.DiskSource('file', 'qcow2', str(path))
        self.assert_same_content(before, flat)
        tool('qemu-img', 'check', '-q', '-f', 'qcow2', path)

    def test_flattening_what_is_flat(self) -> None:
        path = self.directory / 'a.delta'
        delta = qemu_img.create_delta(path, SIZE, None)
        before = path.read_bytes()
        qemu_img.flatten(delta, ignore)
        self.assertEqual(before, path.read_bytes())

    def test_chain_whose_formats_only_headers_name_is_not_flattened(
        self,
    ) -> None:
        middle = self.overlay(self.raw(), 'middle')
        path = self.directory / 'a.delta'
        delta = qemu_img.create_delta(path, SIZE, middle)
        self.assertFalse(qemu_img.can_flatten(delta))

    def test_flattening_onto_a_full_disk(self) -> None:
        path = self.small_disk(MIB) / 'a.delta'
        delta = qemu_img.create_delta(path, SIZE, self.raw())
        error = self.assertRaises(
            exception.ProgramFailed, qemu_img.flatten, delta, ignore
        )
        self.assertIn('No space left', str(error))


class ConvertTest(DiskTestCase):
    """Flat images."""

    def convert(
        self,
        source: storage.DiskSource,
        target_format: str = 'qcow2',
        compress: bool = False,
        secret: pathlib.Path | None = None,
    ) -> pathlib.Path:
        """The flat image of a disk."""
        target = self.directory / f'flat.{target_format}'
        qemu_img.convert(
            source, target, target_format, compress, ignore, secret
        )
        return target

    def test_to_every_format(self) -> None:
        source = self.overlay(self.raw())
        for name in ('raw', 'qcow2', 'vmdk', 'vdi'):
            target = self.convert(source, name)
            found = header(target, name)
            self.assertEqual(name, found['format'])
            self.assertNotIn('backing-filename', found)
            tool(
                *('qemu-img', 'compare', '-F', name),
                *(storage.image_name(source), target),
            )

    def test_whole_chain_is_read(self) -> None:
        source = self.overlay(self.overlay(self.raw(), 'a', 0), 'b', 2 * MIB)
        target = self.convert(source)
        flat = storage.DiskSource('file', 'qcow2', str(target))
        self.assert_same_content(source, flat)

    def test_chain_ends_where_libvirt_says_so(self) -> None:
        overlay = self.overlay(self.raw())
        alone = storage.DiskSource('file', 'qcow2', overlay.location)
        target = self.convert(alone, 'raw')
        content = target.read_bytes()
        self.assertEqual(bytes(MIB), content[:MIB])
        self.assertEqual(b'\x5a', content[MIB : MIB + 1])

    def test_compressed(self) -> None:
        below = self.raw()
        (self.directory / 'base').write_bytes(b'nova' * (SIZE // 4))
        plain = self.convert(below).stat().st_size
        target = self.convert(below, compress=True)
        self.assertLess(target.stat().st_size, plain // 10)
        flat = storage.DiskSource('file', 'qcow2', str(target))
        self.assert_same_content(below, flat)

    def test_nobody_else_may_read_it(self) -> None:
        target = self.convert(self.raw())
        self.assertEqual(0o600, target.stat().st_mode & 0o777)

    def test_encrypted_disk_is_decrypted(self) -> None:
        below = self.raw()
        secret = self.directory / 'secret'
        secret.write_text('open sesame')
        path = self.directory / 'luks'
        tool(
            *('qemu-img', 'convert', '-f', 'raw', '-O', 'luks'),
            *('--object', f'secret,id=k,file={secret}'),
            *('-o', 'key-secret=k,iter-time=10', below.describe(), path),
        )
        source = storage.DiskSource(
            'file', 'raw', str(path), encryption_secret='s'
        )
        target = self.convert(source, 'raw', secret=secret)
        self.assertEqual(
            (self.directory / 'base').read_bytes(), target.read_bytes()
        )

    def test_header_of_a_guest_is_copied_and_not_followed(self) -> None:
        path = self.directory / 'hostile'
        tool(
            *('qemu-img', 'create', '-q', '-f', 'qcow2', '-u'),
            *('-F', 'raw', '-b', '/etc/passwd', path, '64k'),
        )
        content = path.read_bytes()
        path.write_bytes(content + bytes(SIZE - len(content)))
        source = storage.DiskSource('file', 'raw', str(path))
        for name in ('raw', 'qcow2'):
            flat = storage.DiskSource(
                'file', name, str(self.convert(source, name))
            )
            self.assert_same_content(source, flat)
        copied = (self.directory / 'flat.raw').read_bytes()
        self.assertEqual(
            hashlib.sha256(path.read_bytes()).digest(),
            hashlib.sha256(copied).digest(),
        )
        self.assertNotIn(b'root:', copied)

    def test_onto_a_full_disk(self) -> None:
        target = self.small_disk(MIB) / 'flat'
        error = self.assertRaises(
            exception.ProgramFailed,
            qemu_img.convert,
            *(self.raw(), target, 'raw', False, ignore),
        )
        self.assertIn('No space left', str(error))


class ProgressTest(DiskTestCase):
    """A conversion that takes a while."""

    def setUp(self) -> None:
        super().setUp()
        # Compressing what can't be compressed keeps it busy for a second or
        # two on any machine.
        self.source = self.raw(size=192 * MIB)
        self.target = self.directory / 'flat'

    def convert(self, progress: qemu_img.Progress) -> None:
        """Convert it, and tell how far it is."""
        qemu_img.convert(self.source, self.target, 'qcow2', True, progress)

    def test_is_told(self) -> None:
        shares: list[float] = []
        self.convert(shares.append)
        self.assertNotEqual([], shares)
        self.assertEqual(sorted(shares), shares)
        self.assertGreater(shares[-1], 0)
        self.assertLessEqual(shares[-1], 1)

    def test_error_from_it_ends_the_conversion(self) -> None:
        def cancel(_share: float) -> None:
            raise exception.SnapshotCancelled(server='a', reason='b')

        self.assertRaises(exception.SnapshotCancelled, self.convert, cancel)
        # Whoever lives on has a lock on the target.
        tool(
            *('qemu-io', '-f', 'raw', '-c', 'write 0 512', self.target),
        )
        self.assertEqual([], self.processes())

    def processes(self) -> list[str]:
        """The command lines that name the target."""
        found = []
        for path in pathlib.Path('/proc').glob('[0-9]*/cmdline'):
            try:
                text = path.read_text(errors='replace')
            except OSError:
                continue
            if re.search(re.escape(str(self.target)), text):
                found.append(text)
        return found
