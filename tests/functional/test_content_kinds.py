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

import dataclasses

from tests.functional import content
from tests.lab import command
from tests.lab import disk
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


class TestEveryKind(content.ContentTestCase):
    """A guest that writes all the time, without an agent in it."""

    def check_running(
        self, guest: guest_lib.Guest, path: str
    ) -> tuple[content.Image, int]:
        """An image of a running guest: all of one moment.

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
        """An image of a guest that does not write: every byte is equal."""
        image = self.take(guest, path)
        self.assertEqual(self.native_format, image.format)
        self.assert_equal_to_disk(image, guest.spec.disk)

    def check_all(self, guest: guest_lib.Guest) -> None:
        root = guest.spec.disk
        self.native_format = NATIVE_FORMAT[root.kind]
        # A block device can't be mirrored, and goes cold by itself.
        is_block = root.source_type == 'block'
        ways = (
            ({} if is_block else content.COLD, 'cold'),
            (content.PULL, 'pull'),
            *(() if is_block else (({}, 'mirror'),)),
        )
        for options, path in ways:
            with self.subTest(path=path):
                self.configure(**options)
                image, before = self.check_running(guest, path)
                with content.paused(guest):
                    self.check_still(guest, path)
        guest.destroy()
        self.check_still(guest, 'read')
        # One of the live ones; the others were found to be alike.
        self.assert_boots(image, before)

    def test_overlay_on_qcow2(self) -> None:
        self.check_all(self.make_guest(kind=root_disk.Kind.OVERLAY))

    def test_overlay_on_raw(self) -> None:
        self.check_all(self.make_guest(kind=root_disk.Kind.OVERLAY_ON_RAW))

    def test_qcow2(self) -> None:
        self.check_all(self.make_guest(kind=root_disk.Kind.QCOW2))

    def test_raw(self) -> None:
        self.check_all(self.make_guest(kind=root_disk.Kind.RAW))

    def test_raw_with_a_partition_table(self) -> None:
        self.check_all(self.make_guest(kind=root_disk.Kind.GPT))

    def test_block_device(self) -> None:
        self.check_all(self.make_guest(kind=root_disk.Kind.BLOCK))

    def test_three_layers(self) -> None:
        below = root_disk.make(self.directory())
        top = below.path.with_name('top.qcow2')
        command.run(
            *('qemu-img', 'create', '-q', '-f', 'qcow2'),
            *('-b', below.path, '-F', 'qcow2', top),
        )
        self.check_all(
            self.make_guest(disk=dataclasses.replace(below, path=top))
        )


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

    def take_all(self, guest: guest_lib.Guest, path: str) -> None:
        """Images in every format of a guest that does not write."""
        for image_format in ('raw', 'qcow2', 'vmdk', 'vdi'):
            with self.subTest(format=image_format):
                self.configure_format(image_format)
                image = self.take(guest, path)
                self.assertEqual(image_format, image.format)
                self.assert_equal_to_disk(image, guest.spec.disk)

    def check_kind(self, kind: root_disk.Kind) -> None:
        guest = self.class_guest(kind=kind)
        with content.paused(guest):
            self.take_all(guest, 'mirror')
        off = self.make_guest(kind=kind, start=False)
        self.take_all(off, 'read')

    def test_overlay(self) -> None:
        self.check_kind(root_disk.Kind.OVERLAY)

    def test_raw(self) -> None:
        self.check_kind(root_disk.Kind.RAW)

    def test_streamed(self) -> None:
        guest = self.class_guest(kind=root_disk.Kind.OVERLAY)
        for image_format in ('raw', 'qcow2'):
            with self.subTest(format=image_format), content.paused(guest):
                self.configure_format(image_format, content.PULL)
                image = self.take(guest, 'pull')
                self.assertEqual(image_format, image.format)
                self.assert_equal_to_disk(image, guest.spec.disk)

    def test_other_formats_boot(self) -> None:
        guest = self.class_guest(kind=root_disk.Kind.OVERLAY)
        # That the others boot is seen with every kind of disk.
        for image_format in ('vmdk', 'vdi'):
            with self.subTest(format=image_format):
                self.configure_format(image_format)
                before = guest.ticks()
                self.assert_boots(self.take(guest, 'mirror'), before)

    def test_compression(self) -> None:
        words = b'a root disk has files that compress well. ' * 200000
        root = root_disk.make(self.directory(), files={'/words': words})
        guest = self.make_guest(disk=root)
        with content.paused(guest):
            self.check_compression(guest, 'mirror')
            self.check_compression(guest, 'pull', content.PULL)
            zlib = {**content.PULL['snapshot'], 'compression_type': 'zlib'}
            self.check_compression(guest, 'pull', {'snapshot': zlib})
        guest.destroy()
        self.check_compression(guest, 'read')

    def check_compression(
        self,
        guest: guest_lib.Guest,
        path: str,
        others: dict[str, dict[str, str]] | None = None,
    ) -> None:
        self.configure_format('qcow2', others)
        plain = self.take(guest, path)
        self.configure_format('qcow2', others, compress=True)
        small = self.take(guest, path)
        self.assert_equal_to_disk(small, guest.spec.disk)
        self.assertLess(small.size * 2, plain.size)

    def test_compression_is_for_qcow2_alone(self) -> None:
        guest = self.class_guest(kind=root_disk.Kind.OVERLAY)
        for image_format in ('raw', 'vmdk', 'vdi'):
            with self.subTest(format=image_format), content.paused(guest):
                self.configure_format(image_format, compress=True)
                image = self.take(guest, 'mirror')
                self.assert_equal_to_disk(image, guest.spec.disk)
