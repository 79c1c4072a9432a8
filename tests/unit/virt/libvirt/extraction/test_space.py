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

"""Which of several extractions is given up when space runs out."""

import contextlib
import os
import pathlib

import testtools

from nova_snap import exception
from nova_snap.virt.libvirt.extraction import space
from tests.unit import base

MIB = 1 << 20


class SpaceTestCase(base.TestCase):
    """Folders of extractions on one file system, whose space is real."""

    def setUp(self) -> None:
        super().setUp()
        self.directory = self.folder()
        found = os.statvfs(self.directory)
        self.free = found.f_bavail * found.f_frsize

    def space(self, reserved: float) -> space.Space:
        """Return the space with so much of what is free in reserve."""
        return space.Space(int(reserved * self.free), (self.directory,))

    def begin(self, name: str, used: int, share: int = 0) -> pathlib.Path:
        """Begin an extraction that lasts as long as the test."""
        folder = self.directory / name
        folder.mkdir()
        (folder / 'data').write_bytes(os.urandom(used))
        self.enterContext(self.space(0).taken(folder, share))
        return folder

    def ends(self, folder: pathlib.Path, reserved: float = 1.5) -> bool:
        """Return True if an extraction has to end."""
        try:
            self.space(reserved).require(folder)
        except exception.NotEnoughSpace:
            return True
        return False


class RequireTest(SpaceTestCase):
    """Extractions that are under way."""

    def test_none_ends_as_long_as_the_reserve_is_free(self) -> None:
        self.assertFalse(self.ends(self.begin('one', MIB), reserved=0.1))

    def test_one_alone_ends(self) -> None:
        self.assertTrue(self.ends(self.begin('one', 0)))

    def test_the_largest_ends(self) -> None:
        small, large = self.begin('b', MIB), self.begin('a', 2 * MIB)
        self.assertFalse(self.ends(small))
        self.assertTrue(self.ends(large))

    def test_the_one_beyond_its_share_ends_before_a_larger_one(self) -> None:
        mirror = self.begin('mirror', 4 * MIB)
        modest = self.begin('modest', 3 * MIB, share=8 * MIB)
        greedy = self.begin('greedy', 2 * MIB, share=MIB)
        self.assertFalse(self.ends(mirror))
        self.assertFalse(self.ends(modest))
        self.assertTrue(self.ends(greedy))

    def test_all_end_when_half_of_the_reserve_is_gone(self) -> None:
        small, large = self.begin('small', 0), self.begin('large', MIB)
        self.assertTrue(self.ends(small, reserved=3))
        self.assertTrue(self.ends(large, reserved=3))

    def test_what_a_killed_process_left_does_not_count(self) -> None:
        left = self.directory / 'left'
        left.mkdir()
        (left / 'data').write_bytes(os.urandom(2 * MIB))
        (left / 'share').touch()
        self.assertTrue(self.ends(self.begin('one', MIB)))

    def test_one_that_takes_no_more_space_does_not_end(self) -> None:
        small, large = self.begin('small', MIB), self.begin('large', 2 * MIB)
        self.space(0).release(large)
        self.assertTrue(self.ends(small))

    def test_what_others_make_does_not_count(self) -> None:
        # QEMU's user may own the folder.
        for name, make in (
            ('link', lambda path: path.symlink_to('/dev/zero')),
            ('fifo', os.mkfifo),
            ('folder', os.mkdir),
        ):
            (self.directory / name).mkdir()
            make(self.directory / name / 'share')
        (self.directory / 'kept.delta').write_bytes(b'')
        self.assertTrue(self.ends(self.begin('one', 0)))


class BeginTest(SpaceTestCase):
    """Extractions that are about to begin."""

    def require(self, share: float) -> None:
        """Raise if an extraction with so much of what is free can't begin."""
        self.space(0).require_to_begin(self.directory, int(share * self.free))

    def test_shares_of_running_ones_count(self) -> None:
        folder = self.directory / 'one'
        folder.mkdir()
        with contextlib.ExitStack() as stack:
            share = int(0.6 * self.free)
            stack.enter_context(self.space(0).taken(folder, share))
            self.require(0.2)
            self.assertRaises(exception.NotEnoughSpace, self.require, 0.6)
            self.assertRaises(
                exception.NotEnoughSpace, self.begin, 'b', 0, share
            )
        self.require(0.6)

    def test_folder_that_takes_no_file(self) -> None:
        missing = self.directory / 'missing'
        with (
            testtools.ExpectedException(
                exception.SnapshotFailed, '.*missing cannot be shared.*'
            ),
            self.space(0).taken(missing, 0),
        ):
            pass
