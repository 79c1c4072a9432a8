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

"""Every kind of root disk, in every state, live and cold."""

from collections.abc import Iterator
import contextlib
import dataclasses
import itertools

from tests.functional import content
from tests.lab import command
from tests.lab import disk
from tests.lab import exhaustive
from tests.lab import guest as guest_lib
from tests.lab import root_disk

NATIVE_FORMAT = {
    root_disk.Kind.OVERLAY: 'qcow2',
    root_disk.Kind.OVERLAY_ON_RAW: 'qcow2',
    root_disk.Kind.QCOW2: 'qcow2',
    root_disk.Kind.RAW: 'raw',
    root_disk.Kind.GPT: 'raw',
    root_disk.Kind.BLOCK: 'raw',
}


Kind = root_disk.Kind

#: How a running guest is read, and the options that choose it.
PATHS = {'mirror': {}, 'pull': content.PULL, 'cold': content.COLD}

#: Kinds of root disk, and the path that reads each.  A block device can't be
#: mirrored, and goes cold by itself.
CASES = exhaustive.choose(
    (
        (kind, path)
        for kind in Kind
        for path in PATHS
        if (kind, path) != (Kind.BLOCK, 'mirror')
    ),
    (
        (Kind.OVERLAY, 'mirror'),
        (Kind.OVERLAY, 'pull'),
        (Kind.OVERLAY, 'cold'),
        (Kind.RAW, 'mirror'),
        (Kind.BLOCK, 'pull'),
        (Kind.BLOCK, 'cold'),
    ),
)

#: Kinds whose images are booted; all are compared with the disk.
BOOTED = exhaustive.choose(Kind, (Kind.OVERLAY,))

#: Formats of images by path and kind of root disk.
FORMATS = exhaustive.choose(
    (
        *itertools.product(
            ('mirror', 'read'),
            (Kind.OVERLAY, Kind.RAW),
            ('raw', 'qcow2', 'vmdk', 'vdi'),
        ),
        *itertools.product(('pull',), (Kind.OVERLAY,), ('raw', 'qcow2')),
    ),
    (
        ('mirror', Kind.OVERLAY, 'raw'),
        ('mirror', Kind.RAW, 'qcow2'),
        ('pull', Kind.OVERLAY, 'raw'),
        ('read', Kind.OVERLAY, 'vmdk'),
        ('read', Kind.RAW, 'vdi'),
    ),
)

#: That the others boot is seen with every kind of disk.
BOOTED_FORMATS = exhaustive.choose(('vmdk', 'vdi'), ('vmdk',))

#: Those that can't be compressed.
UNCOMPRESSED = exhaustive.choose(('raw', 'vmdk', 'vdi'), ('vmdk',))

#: How images are compressed: the path, and how it is configured.
COMPRESSED = exhaustive.choose(
    (
        ('mirror', ''),
        ('pull', 'zstd'),
        ('pull', 'zlib'),
        ('read', ''),
    ),
    (('mirror', ''), ('pull', 'zlib')),
)


class TestEveryKind(content.ContentTestCase):
    """A guest that writes all the time, without an agent in it."""

    def check_running(
        self, guest: guest_lib.Guest, path: str
    ) -> tuple[content.Image, int]:
        """Check that an image of a running guest shows one moment.

        :returns: it, and the last tick before it was asked for.
        """
        before = guest.ticks()
        image = self.take(guest, path)
        self.assertEqual(self.native_format, image.format)
        self.assert_one_moment(image, before)
        state = disk.file_system(image.path, image.format, replay_journal=True)
        self.assertTrue(state.clean, state.report)
        return image, before

    def check_still(self, guest: guest_lib.Guest, path: str) -> None:
        """Check that an image of an idle guest equals its disk."""
        image = self.take(guest, path)
        self.assertEqual(self.native_format, image.format)
        self.assert_equal_to_disk(image, guest.spec.disk)

    def check_all(
        self, guest: guest_lib.Guest, kind: root_disk.Kind, *paths: str
    ) -> None:
        self.native_format = NATIVE_FORMAT[kind]
        for path in paths:
            with self.subTest(kind=kind, path=path):
                is_chosen = kind is not Kind.BLOCK or path != 'cold'
                self.configure(**(PATHS[path] if is_chosen else {}))
                image, before = self.check_running(guest, path)
                with content.paused(guest):
                    self.check_still(guest, path)
        guest.destroy()
        self.check_still(guest, 'read')
        if kind in BOOTED:
            # The last one; the others were found to be alike.
            self.assert_boots(image, before)

    def test_each(self) -> None:
        for kind in dict.fromkeys(kind for kind, _ in CASES):
            paths = [path for other, path in CASES if other is kind]
            guest = self.make_guest(kind=kind)
            self.check_all(guest, kind, *paths)
            guest.remove()

    def test_three_layers(self) -> None:
        below = root_disk.make(self.directory())
        top = below.path.with_name('top.qcow2')
        command.run(
            *('qemu-img', 'create', '-q', '-f', 'qcow2'),
            *('-b', below.path, '-F', 'qcow2', top),
        )
        guest = self.make_guest(disk=dataclasses.replace(below, path=top))
        self.native_format = 'qcow2'
        self.check_running(guest, 'mirror')


class TestEveryFormat(content.ContentTestCase):
    """[libvirt] snapshot_image_format and snapshot_compression."""

    def configure_format(
        self,
        image_format: str,
        others: dict[str, dict[str, str]] | None = None,
        compress: bool = False,
    ) -> None:
        libvirt = {
            'snapshot_image_format': image_format,
            'snapshot_compression': str(compress),
        }
        self.configure(libvirt=libvirt, **(others or {}))

    def test_each(self) -> None:
        """Of guests that do not write."""
        for path, kind, image_format in FORMATS:
            with self.subTest(path=path, kind=kind, format=image_format):
                self.configure_format(image_format, PATHS.get(path))
                with self.still_guest(kind, path) as guest:
                    image = self.take(guest, path)
                    self.assertEqual(image_format, image.format)
                    self.assert_equal_to_disk(image, guest.spec.disk)

    @contextlib.contextmanager
    def still_guest(
        self, kind: root_disk.Kind, path: str
    ) -> Iterator[guest_lib.Guest]:
        if path == 'read':
            yield self.make_guest(kind=kind, start=False)
            return
        guest = self.class_guest(kind=kind)
        with content.paused(guest):
            yield guest

    def test_other_formats_boot(self) -> None:
        guest = self.class_guest(kind=root_disk.Kind.OVERLAY)
        for image_format in BOOTED_FORMATS:
            with self.subTest(format=image_format):
                self.configure_format(image_format)
                before = guest.ticks()
                self.assert_boots(self.take(guest, 'mirror'), before)

    def test_compression(self) -> None:
        words = b'a root disk has files that compress well. ' * 200000
        root = root_disk.make(self.directory(), files={'/words': words})
        guest = self.make_guest(disk=root)
        for path, compression in COMPRESSED:
            if path == 'read':
                guest.destroy()
                self.check_compression(guest, path)
                continue
            options = {
                section: dict(values)
                for section, values in PATHS[path].items()
            }
            if compression:
                options['snapshot']['compression_type'] = compression
            with content.paused(guest):
                self.check_compression(guest, path, options)

    def check_compression(
        self,
        guest: guest_lib.Guest,
        path: str,
        others: dict[str, dict[str, str]] | None = None,
    ) -> None:
        is_pull, others = path == 'pull', others or {}
        off = {'compression': 'off'} if is_pull else {}
        snapshot = {**others.get('snapshot', {}), **off}
        self.configure_format('qcow2', {**others, 'snapshot': snapshot})
        plain = self.take(guest, path)
        # What is pulled is compressed by default.
        self.configure_format('qcow2', others, compress=not is_pull)
        small = self.take(guest, path)
        self.assert_equal_to_disk(small, guest.spec.disk)
        self.assertLess(small.size * 2, plain.size)

    def test_compression_is_for_qcow2_alone(self) -> None:
        guest = self.class_guest(kind=root_disk.Kind.OVERLAY)
        for image_format in UNCOMPRESSED:
            with self.subTest(format=image_format), content.paused(guest):
                self.configure_format(image_format, compress=True)
                image = self.take(guest, 'mirror')
                self.assert_equal_to_disk(image, guest.spec.disk)
