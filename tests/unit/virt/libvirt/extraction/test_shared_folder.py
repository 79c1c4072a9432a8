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


"""Folders in a directory where another user replaces them."""

import os
import pathlib
from typing import Any
import uuid

from nova_snap import exception
from nova_snap.virt.libvirt.extraction import context
from nova_snap.virt.libvirt.extraction import shared_folder
from tests.unit import base

#: The user of the directory, and that of QEMU.
OWNER, QEMU = 12345, 64055


class SharedFolderTestCase(base.TestCase):
    """A directory of another user."""

    def setUp(self) -> None:
        super().setUp()
        if os.geteuid() != 0:
            self.skipTest('Only root can change owners.')
        self.directory = self.folder()
        os.chown(self.directory, OWNER, OWNER)
        self.path = self.directory / str(uuid.uuid4())
        self.target = self.folder() / 'target'
        self.target.mkdir()
        self.target.chmod(0o700)

    def replace(self) -> None:
        """Put a link in the place of the folder."""
        self.path.rename(self.directory / 'moved')
        self.path.symlink_to(self.target)

    def replace_when_made(self) -> None:
        """Put a link in the place of the folder as soon as it is made."""
        mkdir = os.mkdir

        def replacing(*arguments: Any, **options: Any) -> None:
            mkdir(*arguments, **options)
            self.replace()

        self.patch(os, 'mkdir', replacing)

    def assert_target_untouched(self) -> None:
        """Check that the folder which the link leads to is as it was."""
        found = self.target.stat()
        self.assertEqual(0o700, found.st_mode & 0o777)
        self.assertEqual(os.geteuid(), found.st_uid)
        self.assertEqual([], os.listdir(self.target))


class MakeTest(SharedFolderTestCase):
    """Folders of snapshots."""

    def test_of_qemu(self) -> None:
        shared_folder.make(self.path, QEMU)
        found = self.path.stat()
        self.assertEqual((QEMU, 0o700), (found.st_uid, found.st_mode & 0o777))

    def test_passable(self) -> None:
        shared_folder.make_passable(self.path)
        self.assertEqual(0o701, self.path.stat().st_mode & 0o777)

    def test_replaced(self) -> None:
        self.replace_when_made()
        self.assertRaises(
            exception.NotPermitted, shared_folder.make, self.path, QEMU
        )
        self.assert_target_untouched()

    def test_replaced_by_a_folder_of_another_user(self) -> None:
        os.chown(self.target, OWNER, -1)
        self.patch(
            pathlib.Path, 'symlink_to', lambda link, to: to.rename(link)
        )
        self.replace_when_made()
        self.assertRaises(
            exception.NotPermitted, shared_folder.make_passable, self.path
        )
        self.assertEqual(0o700, self.path.stat().st_mode & 0o777)


class OpenFileTest(SharedFolderTestCase):
    """Images that are complete."""

    def setUp(self) -> None:
        super().setUp()
        shared_folder.make_passable(self.path)
        self.image = self.path / 'a.image'
        self.image.write_bytes(b'image')

    def test_reads(self) -> None:
        with shared_folder.open_file(self.image) as stream:
            self.assertEqual(b'image', stream.read())

    def test_replaced_folder(self) -> None:
        (self.target / self.image.name).write_bytes(b'secret')
        self.replace()
        self.assertRaises(
            exception.NotPermitted, shared_folder.open_file, self.image
        )

    def test_link(self) -> None:
        self.image.unlink()
        self.image.symlink_to('/etc/passwd')
        self.assertRaises(OSError, shared_folder.open_file, self.image)


class DirectoryTest(SharedFolderTestCase):
    """The directory in which folders are made."""

    def test_belongs_to_the_owner_of_the_one_above(self) -> None:
        made = self.directory / 'instances' / 'snapshots'
        context.require_directory(made)
        for path in (made, made.parent):
            found = path.stat()
            self.assertEqual((OWNER, OWNER), (found.st_uid, found.st_gid))
            self.assertEqual(0o711, found.st_mode & 0o777)

    def test_that_is_there_is_left_alone(self) -> None:
        mode = self.directory.stat().st_mode
        context.require_directory(self.directory)
        found = self.directory.stat()
        self.assertEqual((OWNER, mode), (found.st_uid, found.st_mode))

    def test_link_to_nothing(self) -> None:
        self.path.symlink_to(self.target / 'nothing')
        self.assertRaises(
            exception.Invalid, context.require_directory, self.path
        )
        self.assert_target_untouched()
