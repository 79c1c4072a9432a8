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


"""The holes of a disk in Ceph, where librbd has much or little to say."""

from collections.abc import Callable
from collections.abc import Iterator
import itertools
from typing import Any

import fixtures
from oslo_utils import units

from nova_snap import exception
from nova_snap.virt.libvirt.extraction import rbd_holes
from nova_snap.virt.storage import disk_source as storage
from nova_snap.virt.storage import qemu_img
from tests.unit import base

HOLE = qemu_img.HOLE
LOCATION = storage.RbdLocation('vms', 'disk')


class _Image:
    """An image in a Ceph that is too large, or too slow, to be had.

    :ivar asked: the parts that were asked about.
    """

    def __init__(self, size: int, *data: tuple[int, int]) -> None:
        self._size = size
        self._data = data
        self.asked: list[tuple[int, int]] = []

    def size(self, image: storage.RbdLocation) -> int:
        return self._size

    def mark_data(
        self,
        image: storage.RbdLocation,
        start: int,
        length: int,
        mark: Callable[[int, int], None],
    ) -> None:
        self.asked.append((start, length))
        for first, count in self._data:
            if start <= first < start + length:
                mark(first, count)


class FoundTest(base.TestCase):
    """What of an image is a hole."""

    def found(self, image: Any, check: Callable[[], None] = int) -> list[Any]:
        holes = rbd_holes.found(image, LOCATION, check)
        if holes is None:
            return []
        self.assertEqual(image.size(LOCATION), holes.size)
        return [(hole.start, hole.beyond) for hole in holes.extents]

    def test_only_what_is_a_hole_as_a_whole(self) -> None:
        size = 8 * HOLE + 512
        image = _Image(size, (3 * HOLE - 1, 2), (0, 1), (8 * HOLE - 1, 1))
        self.assertEqual(
            [(HOLE, 2 * HOLE), (4 * HOLE, 7 * HOLE), (8 * HOLE, size)],
            self.found(image),
        )

    def test_any_order(self) -> None:
        image = _Image(5 * HOLE, (4 * HOLE, HOLE), (0, HOLE), (HOLE, HOLE))
        self.assertEqual([(2 * HOLE, 4 * HOLE)], self.found(image))

    def test_no_hole(self) -> None:
        self.assertEqual([], self.found(_Image(2 * HOLE, (0, 2 * HOLE))))
        self.assertEqual([], self.found(_Image(0)))

    def test_size_that_qemu_rounds(self) -> None:
        self.assertEqual([], self.found(_Image(8 * HOLE + 1)))

    def test_asked_in_parts_and_cancelled_between(self) -> None:
        image = _Image(9 * units.Gi)

        def check() -> None:
            if len(image.asked) == 2:
                raise exception.SnapshotCancelled(server='it', reason='so.')

        self.assertRaises(
            exception.SnapshotCancelled, self.found, image, check
        )
        self.assertEqual(
            [(0, 4 * units.Gi), (4 * units.Gi, 4 * units.Gi)], image.asked
        )

    def test_no_time_left(self) -> None:
        """What was not asked about counts as data."""
        self.useFixture(
            fixtures.MonkeyPatch(
                'time.monotonic', itertools.count(step=40).__next__
            )
        )
        image = _Image(9 * units.Gi)
        self.assertEqual([(0, 4 * units.Gi)], self.found(image))

    def test_the_longest_of_too_many(self) -> None:
        def data() -> Iterator[tuple[int, int]]:
            for number in range(rbd_holes.MOST + 500):
                yield 2 * number * HOLE, HOLE

        size = (2 * rbd_holes.MOST + 2000) * HOLE
        found = self.found(_Image(size, *data()))
        self.assertEqual(rbd_holes.MOST, len(found))
        self.assertEqual(sorted(found), found)
        self.assertEqual(size, found[-1][1])
