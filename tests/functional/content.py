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

"""What the tests of images have in common: take one, and look into it.

Used by the ``test_content_*.py``; what has to hold of the guest is in
``base.py``, the tools that look into images in ``tests/lab/disk.py``.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import json
import pathlib
from typing import Any

from nova_snap.image import api as image_api
from tests.functional import base
from tests.lab import disk
from tests.lab import guest as guest_lib
from tests.lab import root_disk

#: Those that qemu-img can check.
CHECKED_FORMATS = ('qcow2', 'vdi', 'vmdk')

#: How many records the ring of a guest holds; see tests/lab/tick.c.
RING = 512

#: What the command says of what it does.
SAYS = {
    'mirror': 'live. The guest keeps running; its disk is copied meanwhile.',
    'pull': 'live. The guest keeps running; its disk is read as it is now.',
    'cold': 'cold. The guest is suspended while its disk is read: ',
    'read': 'cold. The disk is read, and the guest left as it is: ',
}

PULL = {'snapshot': {'live_method': 'pull', 'scratch_min_mb': '0'}}
COLD = {'workarounds': {'disable_libvirt_livesnapshot': 'true'}}


@dataclasses.dataclass(frozen=True)
class Image:
    """An image that was taken: its record, and the file with its data."""

    record: image_api.Image
    path: pathlib.Path

    @property
    def size(self) -> int:
        """Of the data, in bytes."""
        return self.path.stat().st_size

    @property
    def format(self) -> str:
        """What the record says that the data is."""
        assert self.record.disk_format is not None
        return self.record.disk_format


class ContentTestCase(base.SnapshotTestCase):
    """A test that takes images of guests and looks into them."""

    def take(self, guest: guest_lib.Guest, path: str) -> Image:
        """Take an image, and check that the guest is as it was found.

        :param path: ``mirror``, ``pull``, ``cold`` (suspended) or ``read``
            (it does not run); the command has to choose the same.
        """
        found = base.Found.of(guest)
        done = self.run_command(
            *('image-create', guest.uuid, 'image', '-f', 'value', '-c', 'id')
        )
        self.assertIn(SAYS[path], done.stderr)
        self.assert_as_found(guest, found)
        self.assert_nothing_left()
        return self.image(done.stdout.strip())

    def take_all(
        self, guest: guest_lib.Guest, path: str, *arguments: str
    ) -> dict[str, Image]:
        """Take images of all disks, and check that the guest is as found.

        Return them by the names of the disks, the root disk first.

        :param path: as for :meth:`take`.
        """
        found = base.Found.of(guest)
        done = self.run_command(
            *('image-create', guest.uuid, 'image', '--all-disks'),
            *('-f', 'json', *arguments),
        )
        self.assertIn(SAYS[path], done.stderr)
        self.assert_as_found(guest, found)
        self.assert_nothing_left()
        shown = json.loads(done.stdout)
        ids = {guest.target: shown['id'], **shown['further_images']}
        return {device: self.image(ids[device]) for device in ids}

    def image(self, image_id: str) -> Image:
        """Return an active, flat image of the embedded service."""
        image = Image(self.images.get(image_id), self.image_file(image_id))
        self.assertEqual('active', image.record.status)
        self.assertEqual(image.size, image.record.size)
        self.assert_flat(image)
        return image

    def assert_flat(self, image: Image) -> None:
        """Of the format that is recorded, whole, and on its own."""
        # Probing is what a stranger would do; a raw image is not probed.
        if image.format != 'raw':
            self.assertEqual(image.format, disk.probed_format(image.path))
        info = disk.info(image.path, image.format)
        self.assertNotIn('backing-filename', info)
        if image.format in CHECKED_FORMATS:
            self.assertEqual('', disk.check(image.path, image.format))

    def assert_equal_to_disk(
        self, image: Image, root: root_disk.RootDisk
    ) -> None:
        """Bit by bit what is on the disk of a guest that does not write."""
        self.assertEqual(
            '',
            disk.differences(image.path, image.format, root.path, root.format),
        )
        self.assertEqual(
            disk.info(root.path, root.format)['virtual-size'],
            disk.info(image.path, image.format)['virtual-size'],
        )

    def assert_boots(self, image: Image, least: int, **options: Any) -> None:
        """Check that a second guest boots from an image.

        :param least: the last tick that was seen before the snapshot.
        """
        boot = root_disk.RootDisk(root_disk.Kind.RAW, image.path, image.format)
        guest = self.make_guest(disk=boot, **options)
        guest.destroy()
        self.assertRegex(guest.console(), r'FOUND \d+ \d+')
        self.assertGreater(guest.ticks(), least)

    def assert_one_moment(self, image: Image, least: int) -> int:
        """Check that the image shows one moment, at or after ``least``.

        The guest writes its ticks in order, each durably, into a ring: the
        image may have no gap.  Return the last tick.
        """
        numbers = disk.ring_numbers(image.path, image.format)
        last = max(numbers)
        self.assertGreaterEqual(last, least)
        first = max(1, last - RING + 1)
        self.assertEqual(set(range(first, last + 1)), numbers)
        return last


@contextlib.contextmanager
def paused(guest: guest_lib.Guest) -> Iterator[None]:
    """Pause the guest for the block."""
    guest.suspend()
    try:
        yield
    finally:
        guest.resume()
