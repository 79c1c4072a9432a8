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

"""Disks of guests that are shut off, whose headers name other files.

libvirt does not report the chain of such a disk, so the command reads it from
the headers.  Whoever made the disk file has written those.
"""

import os
import pathlib

from tests.functional import base
from tests.functional import content
from tests.lab import command
from tests.lab import guest as guest_lib
from tests.lab import root_disk

SIZE = 1 << 20
SECRET = b'a line of a file of the host\n'

FAILED = 1


class HeaderTestCase(content.ContentTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.elsewhere = self.directory()
        self.guest = self.make_guest(
            kind=root_disk.Kind.QCOW2, size=8 * SIZE, start=False
        )
        self.disk = self.guest.spec.disk.path

    def secret(self, name: str = 'secret') -> pathlib.Path:
        """Make a file of the host that no disk should name."""
        path = self.elsewhere / name
        path.write_bytes((SECRET * SIZE)[:SIZE])
        return path

    def overlay(
        self,
        path: pathlib.Path,
        backing: pathlib.Path,
        name: str = 'raw',
    ) -> None:
        """Make a disk whose header names this backing file."""
        path.unlink(missing_ok=True)
        command.run(
            *('qemu-img', 'create', '-q', '-f', 'qcow2', '-u'),
            *('-F', name, '-b', backing, path, str(SIZE)),
        )


class TestRefused(HeaderTestCase):
    """What a header may not name: nothing of it is in an image."""

    def refuse(self, *says: object) -> None:
        done = self.run_command(
            'image-create', self.guest.uuid, 'image', status=None
        )
        taken = [self.image_file(image.id) for image in self.images.list()]
        leaked = [path.name for path in taken if SECRET in path.read_bytes()]
        self.assertEqual([], leaked)
        self.assertEqual(FAILED, done.returncode, done.stderr)
        for text in says:
            self.assertIn(str(text), done.stderr)
        self.assert_nothing_left()

    def test_data_file(self) -> None:
        secret = self.elsewhere / 'secret'
        self.disk.unlink()
        command.run(
            *('qemu-img', 'create', '-q', '-f', 'qcow2', '-o'),
            f'data_file={secret},data_file_raw=on,preallocation=metadata',
            *(self.disk, str(SIZE)),
        )
        self.secret()
        self.refuse(self.disk, 'data file')

    def test_data_file_of_a_backing_file(self) -> None:
        below = self.disk.with_suffix('.below')
        self.addCleanup(below.unlink)
        command.run(
            *('qemu-img', 'create', '-q', '-f', 'qcow2', '-o'),
            f'data_file={self.elsewhere / "secret"},data_file_raw=on,'
            'preallocation=metadata',
            *(below, str(SIZE)),
        )
        self.secret()
        self.overlay(self.disk, below, 'qcow2')
        self.refuse(below, 'data file')

    def test_data_file_of_a_guest_that_would_be_suspended(self) -> None:
        """It is refused before that; a mirror is made by QEMU."""
        moved = self.disk.rename(self.elsewhere / 'disk')
        command.run(
            *('qemu-img', 'convert', '-f', 'qcow2', '-O', 'qcow2', '-o'),
            f'data_file={self.elsewhere / "data"}',
            *(moved, self.disk),
        )
        self.guest.start()
        self.guest.wait_until_up()
        found = base.Found.of(self.guest)
        self.configure(**content.COLD)
        if '<dataStore' in self.guest.xml():
            # libvirt 10.10 and later name what QEMU has opened.
            ticks = self.guest.ticks()
            self.assert_one_moment(self.take(self.guest, 'cold'), ticks)
        else:
            done = self.run_command(
                'image-create', self.guest.uuid, 'i', status=1
            )
            self.assertIn('data file', done.stderr)
            self.assertNotIn('Suspending', done.stderr)
            self.assert_as_found(self.guest, found)
        self.configure()
        self.take(self.guest, 'mirror')

    def test_backing_file_elsewhere(self) -> None:
        secret = self.secret()
        self.overlay(self.disk, secret)
        self.refuse(self.disk, secret, 'backing_file_directories')

    def test_backing_file_behind_a_link(self) -> None:
        link = self.disk.with_suffix('.link')
        link.symlink_to(self.secret())
        self.addCleanup(link.unlink)
        self.overlay(self.disk, link)
        self.refuse(link, 'backing_file_directories')

    def test_device(self) -> None:
        device = command.run(
            *('losetup', '--find', '--show', '--read-only', self.secret())
        ).stdout.strip()
        self.addCleanup(command.run, 'losetup', '--detach', device)
        self.overlay(self.disk, pathlib.Path(device))
        self.refuse(device, 'no ordinary file')

    def test_format_that_names_files(self) -> None:
        """A VMDK is a text that names the file with its data."""
        below = self.disk.with_suffix('.vmdk')
        below.write_text(
            '# Disk DescriptorFile\nversion=1\nCID=fffffffe\n'
            'parentCID=ffffffff\ncreateType="monolithicFlat"\n'
            f'RW {SIZE // 512} FLAT "{self.secret()}" 0\n'
        )
        self.addCleanup(below.unlink)
        self.overlay(self.disk, below, 'vmdk')
        self.refuse(below, 'vmdk')

    def test_loop(self) -> None:
        other = self.disk.with_suffix('.other')
        self.overlay(other, self.disk, 'qcow2')
        self.addCleanup(other.unlink)
        self.overlay(self.disk, other, 'qcow2')
        self.refuse(self.disk, 'loop')


class TestAccepted(HeaderTestCase):
    """A base image in another folder, named by somebody else, too."""

    def setUp(self) -> None:
        super().setUp()
        self.base = self.elsewhere / 'base.qcow2'
        self.disk.rename(self.base)
        command.run(
            *('qemu-img', 'create', '-q', '-f', 'qcow2'),
            *('-F', 'qcow2', '-b', self.base, self.disk),
        )

    def check(self, guest: guest_lib.Guest) -> None:
        image = self.take(guest, 'read')
        self.assert_equal_to_disk(image, guest.spec.disk)

    def test_named_by_the_configuration(self) -> None:
        link = self.directory() / 'link'
        link.symlink_to(self.elsewhere)
        for root in (self.elsewhere.parent, link):
            self.configure(
                snapshot={'backing_file_directories': f'/nowhere, {root}'}
            )
            self.check(self.guest)

    def test_named_by_the_definition(self) -> None:
        chain = (
            "<backingStore type='file'><format type='qcow2'/>"
            f"<source file='{self.base}'/>{{}}</backingStore>"
        )
        for end in ('<backingStore/>', ''):
            with self.subTest(end=end):
                guest = self.make_guest(
                    disk=self.guest.spec.disk,
                    start=False,
                    disk_xml=chain.format(end),
                )
                self.assertIn(os.fspath(self.base), guest.xml())
                self.check(guest)

    def test_base_below_one_that_the_definition_names(self) -> None:
        """The definition names one layer, whose header names the next."""
        middle = self.elsewhere / 'middle.qcow2'
        command.run(
            *('qemu-img', 'create', '-q', '-f', 'qcow2'),
            *('-F', 'qcow2', '-b', self.base, middle),
        )
        self.disk.unlink()
        command.run(
            *('qemu-img', 'create', '-q', '-f', 'qcow2'),
            *('-F', 'qcow2', '-b', middle, self.disk),
        )
        guest = self.make_guest(
            disk=self.guest.spec.disk,
            start=False,
            disk_xml="<backingStore type='file'><format type='qcow2'/>"
            f"<source file='{middle}'/></backingStore>",
        )
        self.check(guest)
