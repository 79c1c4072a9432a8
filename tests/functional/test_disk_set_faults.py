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

"""Image sets that are killed or fail: all images, or none."""

import os
import subprocess

from nova_snap.image import filesystem
from tests.functional import base
from tests.functional import content
from tests.functional import faults
from tests.functional import test_kill
from tests.functional import test_pull
from tests.lab import base as lab_base
from tests.lab import disk as disk_lib
from tests.lab import event_watch
from tests.lab import guest as guest_lib
from tests.lab import root_disk
from tests.lab import steps

MIB = root_disk.MIB

ALL = ('--all-disks',)

#: Random bytes on each of the further disks.
DATA = 8 * MIB

#: The guest that all tests here share.
_shared: dict[str, guest_lib.Guest] = {}


def shared_guest(test: lab_base.LabTestCase) -> guest_lib.Guest:
    """Return a running guest that writes to three disks.

    One that an earlier test left in another state is replaced.
    """
    guest = _shared.pop('guest', None)
    if guest is not None and not guest.is_ticking():
        guest.remove()
        guest = None
    if guest is None:
        folder = guest_lib.disks_directory(test.libvirtd)
        sizes = (faults.FILLER, DATA, DATA)
        kinds = (
            root_disk.Kind.QCOW2,
            root_disk.Kind.RAW,
            root_disk.Kind.QCOW2,
        )
        root, *further = (
            root_disk.make(
                folder,
                kind,
                name=f'set-{os.urandom(4).hex()}',
                size=4 * size,
                files={'/filler': os.urandom(size)},
            )
            for kind, size in zip(kinds, sizes, strict=True)
        )
        guest = lab_base.new_guest(
            test.libvirtd,
            disk=root,
            extra_disks=tuple(further),
            numbered=True,
            tick_ms=20,
            autostart=True,
            vnc_password='secret',
        )
        guest.start()
        guest.wait_until_up()
    _shared['guest'] = guest
    return guest


class SetKillTestCase(test_kill.KillTestCase):
    """Kill, recover, look; no image may stay without the others."""

    ARGUMENTS = ALL

    def guest_to_kill(self) -> guest_lib.Guest:
        return shared_guest(self)

    def recover(self) -> None:
        super().recover()
        self.assertFalse(test_pull.has_backup_job(self.guest))
        images = list(self.images.list())
        self.assertIn(len(images), (0, 3))
        for image in images:
            self.images.delete(image.id)


class TestKilledCold(SetKillTestCase):
    """The cold pipeline."""

    POINTS = steps.SET_COLD
    OPTIONS = content.COLD

    def test_each_point(self) -> None:
        self.check_all_points()


class TestKilledPull(SetKillTestCase):
    """The live pipeline."""

    POINTS = steps.SET_PULL
    OPTIONS = content.PULL

    def test_each_point(self) -> None:
        self.check_all_points()


class TestWhileRunning(faults.FaultTestCase):
    """What goes wrong in the middle."""

    OPTIONS = content.PULL

    def setUp(self) -> None:
        super().setUp()
        self.guest = shared_guest(self)
        self.found = base.Found.of(self.guest)

    def configure_pull(self, limit_mib: int = 4, **options: str) -> None:
        """Configure a pull that takes a while, at so many MiB per second."""
        self.configure(
            snapshot={'bandwidth_limit_mb': str(limit_mib), **options}
        )

    def begin_set(self) -> subprocess.Popen[str]:
        return self.begin(self.guest, *ALL, speed=None)

    def begin_reading(self) -> subprocess.Popen[str]:
        """Begin a set; return when the disks are read."""
        process = self.begin_set()
        self.wait_until(process, lambda: 'image_uploading' in self._log_text())
        return process

    def assert_none(self, process: subprocess.Popen[str], *says: str) -> None:
        """Check that it failed, and left neither an image nor anything."""
        self.assert_ended(process, 1, *says)
        self.assert_clean()

    def assert_clean(self) -> None:
        self.assertFalse(test_pull.has_backup_job(self.guest))
        self.assert_as_found(self.guest, self.found)
        self.assert_nothing_left()
        self.assertEqual([], list(self.images.list()))

    def test_cold_and_a_further_disk_has_no_room(self) -> None:
        self.snapshots = self.small_file_system(44 * MIB) / 'snapshots'
        self.configure(
            **content.COLD, libvirt={'snapshot_compression': 'true'}
        )
        self.assert_none(self.begin_set(), 'qemu-img', 'No space left')

    def test_cold_and_all_together_have_no_room(self) -> None:
        """Looked for before the guest is suspended."""
        self.snapshots = self.small_file_system(44 * MIB) / 'snapshots'
        self.configure(**content.COLD)
        with event_watch.EventWatch(self.libvirtd, self.guest) as watch:
            self.assert_none(self.begin_set(), 'Not enough free space')
        self.assertEqual([], watch.events)

    def test_full_scratch(self) -> None:
        small = self.small_file_system(4 * MIB)
        self.configure_pull(
            1, scratch_directory=str(small), scratch_percent='0'
        )
        self.assert_none(self.begin_reading(), self.guest.uuid, 'I/O|space')
        self.guest.wait_for_ticks(10)

    def test_image_of_a_further_disk_is_deleted(self) -> None:
        self.configure_pull(cancel_check_interval='1')
        process = self.begin_reading()
        (image,) = (i for i in self.images.list() if i.name == 'image-vdd')
        self.images.delete(image.id)
        self.assert_ended(process, 7, 'its image was deleted')
        self.assert_clean()

    def test_libvirtd_is_restarted(self) -> None:
        self.configure_pull()
        least = self.guest.ticks()
        process = self.begin_reading()
        self.libvirtd.restart()
        self.assert_ended(process, 0)
        found = {image.name: image for image in self.images.list()}
        self.assertEqual({'image', 'image-vdc', 'image-vdd'}, set(found))
        last = []
        for name in sorted(found):
            image = found[name]
            assert image.disk_format is not None
            last.append(
                max(
                    disk_lib.ring_numbers(
                        self.image_file(image.id), image.disk_format
                    )
                )
            )
            self.images.delete(image.id)
        self.assertGreaterEqual(last[-1], least)
        self.assertEqual(sorted(last, reverse=True), last)
        self.assertLessEqual(last[0] - last[-1], 1)
        self.assert_clean()

    def test_store_has_no_room_for_the_last(self) -> None:
        store = self.small_file_system(40 * MIB) / 'images'
        self.configure(snapshot={'filesystem_store_datadir': str(store)})
        self.assert_none(self.begin_set(), 'No space left')
        images = filesystem.FilesystemImageService(store)
        self.assertEqual([], list(images.list()))

    def test_the_guest_is_shut_off(self) -> None:
        self.configure_pull()
        process = self.begin_reading()
        self.guest.destroy()
        self.assert_ended(process, 1, self.guest.uuid, 'stopped')
        self.assertEqual('shut off', self.guest.state())
        self.assertEqual(self.found.definition, self.guest.inactive_xml())
        self.assert_nothing_left()
        self.assertEqual([], list(self.images.list()))
