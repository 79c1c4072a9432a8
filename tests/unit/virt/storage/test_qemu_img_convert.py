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


"""The real qemu-img, on real files: flat images."""

import hashlib
import os
import pathlib
import re

from nova_snap import exception
from nova_snap.virt.storage import disk_source as storage
from nova_snap.virt.storage import qemu_img
from tests.unit.virt.storage import base


class ConvertTest(base.DiskTestCase):
    """Flat images."""

    def convert(
        self,
        source: storage.DiskSource,
        target_format: str = 'qcow2',
        compress: bool = False,
        secrets: dict[str, bytes] | None = None,
    ) -> pathlib.Path:
        """Convert a disk to a flat image."""
        target = self.directory / f'flat.{target_format}'
        qemu_img.convert(
            source,
            target,
            target_format,
            compress,
            base.ignore,
            secrets or {},
        )
        return target

    def test_to_every_format(self) -> None:
        source = self.overlay(self.raw())
        for name in ('raw', 'qcow2', 'vmdk', 'vdi'):
            target = self.convert(source, name)
            found = base.header(target, name)
            self.assertEqual(name, found['format'])
            self.assertNotIn('backing-filename', found)
            base.tool(
                *('qemu-img', 'compare', '-F', name),
                *(storage.image_name(source), target),
            )

    def test_holes_are_not_read(self) -> None:
        """They read as zeros, whatever the disk has there."""
        size = 9 * base.MIB + 512
        source = self.raw(size=2 * size)  # random data
        os.truncate(source.describe(), size)
        before = pathlib.Path(source.describe()).read_bytes()
        hole, end = qemu_img.HOLE, qemu_img.Extent(8 * base.MIB, size)
        holes = (qemu_img.Extent(hole, 2 * hole), end)
        for name in ('raw', 'qcow2'):
            target = self.directory / f'flat.{name}'
            qemu_img.convert(
                source,
                target,
                name,
                name == 'qcow2',
                base.ignore,
                holes=qemu_img.Holes(size, holes),
            )
            raw = self.directory / 'raw'
            base.tool(
                *('qemu-img', 'convert', '-f', name, '-O', 'raw', target, raw)
            )
            zeros = bytes(hole)
            self.assertEqual(
                hashlib.sha256(
                    before[:hole]
                    + zeros
                    + before[2 * hole : end.start]
                    + zeros[: size - end.start]
                ).hexdigest(),
                hashlib.sha256(raw.read_bytes()).hexdigest(),
            )
        self.assertEqual([], list(self.directory.glob('*.mask')))

    def test_whole_chain_is_read(self) -> None:
        source = self.overlay(
            self.overlay(self.raw(), 'a', 0), 'b', 2 * base.MIB
        )
        target = self.convert(source)
        flat = storage.DiskSource('file', 'qcow2', str(target))
        self.assert_same_content(source, flat)

    def test_chain_ends_where_libvirt_says_so(self) -> None:
        overlay = self.overlay(self.raw())
        alone = storage.DiskSource('file', 'qcow2', overlay.location)
        target = self.convert(alone, 'raw')
        content = target.read_bytes()
        self.assertEqual(bytes(base.MIB), content[: base.MIB])
        self.assertEqual(b'\x5a', content[base.MIB : base.MIB + 1])

    def test_compressed(self) -> None:
        below = self.raw()
        (self.directory / 'base').write_bytes(b'nova' * (base.SIZE // 4))
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
        path = self.encrypted(below, secret)
        source = storage.DiskSource(
            'file', 'raw', str(path), encryption_secret='s'
        )
        target = self.convert(
            source, 'raw', secrets={'s': secret.read_bytes()}
        )
        self.assertEqual(
            (self.directory / 'base').read_bytes(), target.read_bytes()
        )

    def encrypted(
        self, source: storage.DiskSource, secret: pathlib.Path
    ) -> pathlib.Path:
        """Make a LUKS volume with the bytes of a raw disk."""
        path = self.directory / 'luks'
        for attempt in range(10):
            try:
                base.tool(
                    *('qemu-img', 'convert', '-f', 'raw', '-O', 'luks'),
                    *('--object', f'secret,id=k,file={secret}'),
                    *('-o', 'key-secret=k,iter-time=10'),
                    *(source.describe(), path),
                )
                break
            except AssertionError as error:
                # QEMU 7.2 measures how fast this machine is, and at times
                # finds that no time has passed.
                if 'accurate CPU usage' not in str(error) or attempt == 9:
                    raise
        return path

    def test_header_of_a_guest_is_copied_and_not_followed(self) -> None:
        path = self.directory / 'hostile'
        base.tool(
            *('qemu-img', 'create', '-q', '-f', 'qcow2', '-u'),
            *('-F', 'raw', '-b', '/etc/passwd', path, '64k'),
        )
        content = path.read_bytes()
        path.write_bytes(content + bytes(base.SIZE - len(content)))
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
        target = self.small_disk(base.MIB) / 'flat'
        error = self.assertRaises(
            exception.ProgramFailed,
            qemu_img.convert,
            *(self.raw(), target, 'raw', False, base.ignore),
        )
        self.assertIn('No space left', str(error))


class ProgressTest(base.DiskTestCase):
    """A conversion that takes a while."""

    def setUp(self) -> None:
        super().setUp()
        # Compressing what can't be compressed keeps it busy for some tenths
        # of a second on any machine, and it is looked at more often.
        self.source = self.raw(size=48 * base.MIB)
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
            if not self.target.exists() or not self.target.stat().st_size:
                return
            raise exception.SnapshotCancelled(server='a', reason='b')

        self.assertRaises(exception.SnapshotCancelled, self.convert, cancel)
        # Whoever lives on has a lock on the target.
        base.tool(
            *('qemu-io', '-f', 'raw', '-c', 'write 0 512', self.target),
        )
        self.assertEqual([], self.processes())

    def processes(self) -> list[str]:
        """Return the command lines that name the target."""
        found = []
        for path in pathlib.Path('/proc').glob('[0-9]*/cmdline'):
            try:
                text = path.read_text(errors='replace')
            except OSError:
                continue
            if re.search(re.escape(str(self.target)), text):
                found.append(text)
        return found


class FlatSizeTest(base.DiskTestCase):
    """How much a flat image will take, before it is made."""

    def test_is_no_less_than_the_image(self) -> None:
        below = self.raw()
        # The zeros at its end become a hole.
        os.truncate(below.describe(), base.SIZE // 2)
        os.truncate(below.describe(), base.SIZE)
        source = self.overlay(
            self.overlay(below, 'a', 0), 'b', base.SIZE - base.MIB
        )
        found = qemu_img.flat_size(source)
        assert found is not None
        for name in ('raw', 'qcow2'):
            target = self.directory / f'flat.{name}'
            qemu_img.convert(source, target, name, False, base.ignore)
            taken = target.stat().st_blocks * 512
            self.assertGreaterEqual(found, taken)
            self.assertLess(found, taken + base.MIB)

    def test_holes_do_not_count(self) -> None:
        path = self.directory / 'sparse'
        with open(path, 'wb') as file:
            file.truncate(1 << 30)
        source = storage.DiskSource('file', 'raw', str(path))
        found = qemu_img.flat_size(source)
        assert found is not None
        self.assertLess(found, base.MIB)

    def test_unknown(self) -> None:
        raw = self.raw()
        device = storage.DiskSource('block', 'raw', raw.location)
        for source in (
            device,
            storage.DiskSource('file', 'qcow2', '/srv/none', device),
            storage.DiskSource('file', 'qcow2', '/srv/none'),
            storage.DiskSource(
                'file', 'raw', raw.location, encryption_secret='s'
            ),
        ):
            self.assertIsNone(qemu_img.flat_size(source))
