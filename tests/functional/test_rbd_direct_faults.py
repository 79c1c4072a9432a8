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


"""Images inside Ceph: killed at each step, and each request failing once."""

from typing import ClassVar

from tests.functional import base
from tests.functional import rbd_base
from tests.functional import test_kill
from tests.functional import test_rbd_direct
from tests.lab import exhaustive
from tests.lab import guest as guest_lib
from tests.lab import steps


class TestKilled(rbd_base.RbdDirectTestCase, test_kill.KillTestCase):
    """Kill, recover, look: an active image is whole, and else none is left."""

    POINTS = steps.RBD_DIRECT

    def guest_to_kill(self) -> guest_lib.Guest:
        return self.shared_guest()

    def recover(self) -> None:
        self.run_command('recover')
        self.assert_as_found(self.guest, self.found)
        active = [image.id for image in self.glance.list()]
        self.assert_nothing_left_in_ceph(self.guest, *active)
        for image_id in active:
            self.assertEqual('active', self.glance.get(image_id).status)
            self.assertFalse(self.has_parent(image_id))
            self.export(self.image_path(image_id))
        self.remove_images()

    def test_each_point(self) -> None:
        self.check_all_points()


class FailTestCase(rbd_base.RbdDirectTestCase):
    """A test in which the command fails at a point."""

    #: The command of the test fails at this point.
    point: steps.Point | None = None

    def command(self, *arguments: str) -> list[str]:
        argv = super().command(*arguments)
        if self.point is not None:
            shell = argv.index('nova_snap.cmd.shell')
            argv[shell : shell + 1] = [
                'tests.functional.fail_at',
                self.point.moment,
                self.point.function,
            ]
        return argv


class TestFailed(FailTestCase, test_rbd_direct.FallbackTestCase):
    """Each request fails once, before or after Ceph has done it."""

    REQUESTS: ClassVar[tuple[str, ...]] = (
        'rbd-snapshot',
        'rbd-read',
        'rbd-clone',
        'rbd-offer',
    )
    POINTS = exhaustive.choose(
        (
            cut(step)
            for step in REQUESTS
            for cut in (steps.before, steps.after)
        ),
        (
            steps.after('rbd-snapshot'),
            steps.before('rbd-clone'),
            steps.after('rbd-offer'),
        ),
    )

    def test_each_request(self) -> None:
        guest = self.shared_guest()
        for point in self.POINTS:
            with self.subTest(str(point)):
                self.point = point
                self.check_pulled(guest, 'rbd_direct')
                self.remove_images()

    def test_removal(self) -> None:
        """What can't be removed now is removed by a recovery."""
        guest = self.shared_guest()
        found = base.Found.of(guest)
        self.point = steps.before('rbd-remove-snapshot')
        image_id = self.image_create(guest)
        self.assert_as_found(guest, found)
        self.assertNotEqual('', self.lab.snapshots(guest.spec.disk.path))
        self.point = None
        self.run_command('recover')
        self.assert_nothing_left_in_ceph(guest, image_id)
