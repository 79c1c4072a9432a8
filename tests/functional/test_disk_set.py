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

"""All disks of a guest at one moment: ``--all-disks``, and several --disk."""

from collections.abc import Mapping
import os
import re

from tests.functional import content
from tests.lab import disk as disk_lib
from tests.lab import guest as guest_lib
from tests.lab import root_disk

#: The kinds of the guest's further disks: vdc and vdd.
KINDS = (root_disk.Kind.RAW, root_disk.Kind.QCOW2)


WAYS = (('pull', content.PULL), ('cold', content.COLD))

#: The names of all disks, in the order of the writes of a numbered guest.
DEVICES = ('vda', 'vdc', 'vdd')


class DiskSetTestCase(content.ContentTestCase):
    """A test of a guest with two more disks."""

    def data_disks(
        self, files: Mapping[str, bytes] | None = None
    ) -> tuple[root_disk.RootDisk, ...]:
        folder = guest_lib.disks_directory(self.libvirtd)
        return tuple(
            root_disk.make(
                folder,
                kind,
                name=f'data-{os.urandom(4).hex()}',
                size=16 * root_disk.MIB,
                files=files,
            )
            for kind in KINDS
        )


class TestDiskSet(DiskSetTestCase):
    """A running guest that does not write to its further disks."""

    def test_live_and_cold(self) -> None:
        data = self.data_disks({'/data': os.urandom(1 << 20)})
        guest = self.make_guest(extra_disks=data)
        for way, options in WAYS:
            with self.subTest(way):
                self.configure(**options)
                least = guest.ticks()
                root, *further = self.take_all(guest, way).items()
                self.assert_one_moment(root[1], least)
                self.assertEqual(DEVICES[1:], tuple(d for d, _ in further))
                for (device, image), disk in zip(further, data, strict=True):
                    self.assertEqual(f'image-{device}', image.record.name)
                    self.assert_equal_to_disk(image, disk)


class TestNumbered(DiskSetTestCase):
    """A guest that numbers its writes across its disks.

    A number is durable on one disk before it is written to the next; see
    tests/lab/tick.c.
    """

    def test_each_number_after_its_predecessors(self) -> None:
        guest = self.make_guest(
            extra_disks=self.data_disks(), numbered=True, agent=True, tick_ms=5
        )
        for way, options in WAYS:
            with self.subTest(way, frozen=True):
                self.configure(**options)
                self.check_frozen(guest, way)
        self.end_agent(guest)
        for way, options in WAYS:
            with self.subTest(way, frozen=False):
                self.configure(**options)
                images, last = self.check_not_frozen(guest, way)
        self.check_boots(images, last)

    def end_agent(self, guest: guest_lib.Guest) -> None:
        guest.agent(
            'guest-exec',
            path='/bin/busybox',
            arg=['killall', '-9', 'qemu-ga'],
        )
        guest.wait_for(
            lambda: not guest.agent_answers(), 'end of the agent', 30
        )

    def last_numbers(
        self, images: Mapping[str, content.Image], least: int
    ) -> list[int]:
        """Return the last number of each disk; none has a gap before it."""
        self.assertEqual(DEVICES, tuple(images))
        return [
            self.assert_one_moment(image, least) for image in images.values()
        ]

    def check_frozen(self, guest: guest_lib.Guest, way: str) -> None:
        """All images end with one number: none was under way."""
        least = guest.ticks()
        images = self.take_all(guest, way)
        last = self.last_numbers(images, least)
        self.assertEqual([last[0]] * len(last), last)
        for image in images.values():
            found = disk_lib.file_system(image.path, image.format)
            self.assertTrue(found.clean, found.report)

    def check_not_frozen(
        self, guest: guest_lib.Guest, way: str
    ) -> tuple[dict[str, content.Image], list[int]]:
        """One number may be under way: the last disks may not have it."""
        least = guest.ticks()
        images = self.take_all(guest, way)
        last = self.last_numbers(images, least)
        self.assertEqual(sorted(last, reverse=True), last)
        self.assertLessEqual(last[0] - last[-1], 1)
        return images, last

    def check_boots(
        self, images: Mapping[str, content.Image], last: list[int]
    ) -> None:
        """Check that a new guest has all disks, with what was written."""
        root, *further = (
            root_disk.RootDisk(root_disk.Kind.RAW, image.path, image.format)
            for image in images.values()
        )
        guest = self.make_guest(
            disk=root, extra_disks=tuple(further), numbered=True
        )
        guest.destroy()
        console = guest.console()
        self.assertRegex(console, r'FOUND \d+ \d+')
        found = re.findall(r'^ring \S+ (\d+)\r?$', console, re.MULTILINE)
        self.assertEqual(last[1:], list(map(int, found)))
        self.assertGreater(guest.ticks(), last[0])
