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

"""Snapshots for which there is too little room."""

import contextlib
import os
import pathlib

from tests.functional import base
from tests.functional import faults
from tests.lab import event_watch
from tests.lab import guest as guest_lib
from tests.lab import root_disk

MIB = faults.MIB

#: Cold, with images whose size is not known before they are made.
COMPRESSED = {**faults.COLD, 'libvirt': {'snapshot_compression': 'true'}}

#: MiB per second: the reserve would last for some.
SPEED = 4


def free_mib(folder: pathlib.Path) -> int:
    """MiB that are free there."""
    stat = os.statvfs(folder)
    return stat.f_bavail * stat.f_frsize // MIB


def fill(folder: pathlib.Path) -> None:
    """Leave not a block of the folder's file system."""
    with open(folder / 'filler', 'wb', buffering=0) as stream:
        for size in (1 << 16, 512):
            with contextlib.suppress(OSError):
                while True:
                    stream.write(bytes(size))


class SpaceTestCase(faults.FaultTestCase):
    """Snapshots that are prepared on a small file system."""

    def prepare(
        self, size: int, reserved_mib: int, **sections: dict[str, str]
    ) -> None:
        """Bytes of the file system, and MiB that have to stay free."""
        self.point = self.small_file_system(size)
        self.snapshots = self.point / 'snapshots'
        self.configure(
            snapshot={'reserved_space_mb': str(reserved_mib)}, **sections
        )

    def assert_no_image(self, guest: guest_lib.Guest) -> None:
        self.assert_as_found(guest, self.found)
        self.assert_nothing_left()
        self.assertEqual([], list(self.images.list()))

    def guest(
        self, kind: root_disk.Kind = root_disk.Kind.QCOW2
    ) -> guest_lib.Guest:
        guest = self.shared_guest(kind)
        self.found = base.Found.of(guest)
        return guest


class TestReserve(SpaceTestCase):
    """A reserve that is kept for the disks of guests."""

    def fail_in_time(self, **sections: dict[str, str]) -> None:
        guest = self.guest()
        self.prepare(48 * MIB, 20, **sections)
        process = self.begin(guest, speed=SPEED)
        least = free_mib(self.point)
        while process.poll() is None:
            least = min(least, free_mib(self.point))
        self.assert_ended(
            process, 1, 'Not enough free space', str(self.snapshots), '20 MiB'
        )
        # How much is left depends on how often a busy host lets it look.
        self.assertGreater(least, 0)
        self.assert_no_image(guest)

    def test_reached_by_the_mirror(self) -> None:
        self.fail_in_time()

    def test_reached_by_the_conversion(self) -> None:
        self.fail_in_time(**COMPRESSED)

    def test_would_be_reached_by_the_conversion(self) -> None:
        """A guest is not suspended for an image that has no room."""
        guest = self.guest()
        self.prepare(48 * MIB, 20, **faults.COLD)
        with event_watch.EventWatch(self.libvirtd, guest) as watch:
            ended = self.snapshot_fails(
                guest, 1, 'Not enough free space', str(self.snapshots)
            )
        self.assertEqual([], watch.events)
        self.assertNotIn('task state', ended.err)
        self.assert_no_image(guest)

    def test_reached_at_the_start(self) -> None:
        guest = self.guest()
        self.prepare(32 * MIB, 100)
        ended = self.snapshot_fails(
            guest, 1, 'Not enough free space', str(self.snapshots), '100 MiB'
        )
        # Not even a record was made.
        self.assertNotIn('task state', ended.err)
        self.assert_no_image(guest)


class TestFull(SpaceTestCase):
    """No reserve, and a file system that is full to the last block."""

    def test_during_the_mirror(self) -> None:
        guest = self.guest()
        self.prepare(24 * MIB, 0)
        self.snapshot_fails(guest, 1, 'Not enough free space', 'snapshots')
        self.assert_no_image(guest)
        with guest.domain() as domain:
            self.assertEqual({}, domain.diskErrors())

    def test_during_the_flattening(self) -> None:
        guest = self.guest(root_disk.Kind.OVERLAY)
        self.prepare(24 * MIB, 0)
        self.snapshot_fails(guest, 1, 'qemu-img', 'No space left')
        self.assert_no_image(guest)

    def test_during_the_conversion(self) -> None:
        guest = self.guest()
        self.prepare(24 * MIB, 0, **COMPRESSED)
        self.snapshot_fails(guest, 1, 'qemu-img', 'No space left')
        self.assert_no_image(guest)

    def test_at_the_start(self) -> None:
        guest = self.guest()
        self.prepare(24 * MIB, 0)
        self.snapshots.mkdir()
        fill(self.point)
        self.snapshot_fails(guest, 1, 'space')
        self.assert_no_image(guest)

    def test_no_room_for_the_journal(self) -> None:
        guest = self.guest()
        self.state_path = self.small_file_system(4 * MIB)
        self.snapshots = self.directory()
        config = self.state_path / 'nova_snap.conf'
        self.config, self.log_file = config, self.directory() / 'log'
        self.configure()
        self.run_command('image-list')
        for name in ('journal', 'locks'):
            (self.state_path / name).mkdir(mode=0o700)
        fill(self.state_path)
        ended = self.snapshot_fails(guest, 1, 'No space left', 'journal')
        self.assertNotIn('image_pending_upload', ended.err)
        self.assert_no_image(guest)
