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

"""nova-compute is killed at every step of a snapshot, and started again.

What Nova itself leaves broken then (an undefined domain, a frozen guest, a
record in ``saving``, files) has to be whole before Nova looks at its servers.
"""

from tests.functional import base as functional_base
from tests.lab import steps
from tests.openstack import base
from tests.openstack import mode
from tests.openstack import server as server_lib


class KillTestCase(base.CloudTestCase):
    """Kill, start, look; with one server for all the steps."""

    def check(self, point: steps.Point, image: str = 'gone') -> None:
        """Die at a point; all is as it was after the next start.

        :param image: what becomes of it.
        """
        server = self.shared_server()
        with self.as_found(server):
            image_id = self.kill(server, point)
            self.compute.start()
            self.wait_until_idle(server)
            self.assertEqual('ACTIVE', server.status(), point)
            self.assertEqual(image, self.image_status(image_id))

    def kill(self, server: server_lib.Server, point: steps.Point) -> str:
        """Let nova-compute die in the middle of a snapshot; the image."""
        self.gates.die(point.step, point.moment)
        image_id = self.begin(server)
        server.wait_until(lambda: self.compute.daemon.pid is None, str(point))
        self.gates.clear()
        self.compute.kill()
        return image_id

    def check_manageable(self, server: server_lib.Server) -> None:
        """Pause, reboot, delete: all that a domain is needed for."""
        server.act('pause', 'PAUSED')
        server.act('unpause', 'ACTIVE')
        server.act('reboot', 'ACTIVE', reboot_type='HARD')
        server.wait_for_ticks(5, 240)
        server.delete()
        self.assertFalse(server.exists())
        self.assertFalse(server.folder.exists())


class TestKilledMirror(KillTestCase):
    """The mirror pipeline."""

    MODE = mode.Mode(method='mirror')

    def test_each_step(self) -> None:
        for point in steps.NOVA_MIRROR:
            self.check(point)

    def test_image_that_is_complete_stays(self) -> None:
        self.check(steps.after('upload'), 'active')

    def test_server_is_manageable(self) -> None:
        server = self.make_server()
        found = functional_base.Found.of(server)
        self.kill(server, steps.after('rebase'))
        self.assertFalse(server.is_persistent())
        self.compute.start()
        self.wait_until_idle(server)
        self.assertEqual(found, functional_base.Found.of(server))
        self.check_manageable(server)

    def test_server_powered_off_before_the_start(self) -> None:
        server = self.make_server()
        self.kill(server, steps.after('poll'))
        server.destroy()
        self.assertTrue(server.exists())
        self.compute.start()
        server.wait_for_status('SHUTOFF')
        server.act('start', 'ACTIVE')
        server.wait_for_ticks(5, 240)
        self.assert_nothing_left(server)


class TestKilledPull(KillTestCase):
    """The pull pipeline, under eventlet."""

    MODE = mode.Mode(method='pull', backend='eventlet')

    def test_each_step(self) -> None:
        for point in steps.NOVA_PULL:
            self.check(point)

    def test_image_that_is_complete_stays(self) -> None:
        for step in ('send', 'end-export'):
            self.check(steps.after(step), 'active')
