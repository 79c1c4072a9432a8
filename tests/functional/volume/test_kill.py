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

"""A process that is killed with -9 while Cinder takes snapshots."""

import signal
import subprocess
import sys

from tests.functional import base as functional_base
from tests.functional.volume import base
from tests.lab import steps


class KillTest(base.VolumeTestCase):
    """Kill, recover, look."""

    def setUp(self) -> None:
        super().setUp()
        self.guest, self.disks = self.volume_guest(agent=True)
        self.found = functional_base.Found.of(self.guest)

    def kill_at(self, point: steps.Point) -> None:
        """Let a snapshot die at a point; it has to have come that far."""
        done = subprocess.run(
            [
                *(sys.executable, '-m', 'tests.functional.die_at'),
                *(point.moment, point.function),
                *('--config-file', str(self.config)),
                *('image-create', self.guest.uuid, 'killed'),
            ],
            capture_output=True,
            text=True,
            timeout=functional_base.TIMEOUT,
        )
        self.assertEqual(-signal.SIGKILL, done.returncode, done.stderr)

    def test_each_point(self) -> None:
        for point in steps.VOLUMES:
            self.kill_at(point)
            self.run_command('recover')
            self.assertEqual(
                'thawed', self.guest.agent('guest-fsfreeze-status'), point
            )
            self.assert_as_found(self.guest, self.found)
            self.assert_nothing_made(*self.disks)

    def test_login_of_another_project(self) -> None:
        self.kill_at(steps.after('snapshot-volume'))
        other = self.lab.keystone.credentials('admin', 'admin')
        self.configure(cinder=other)
        done = self.run_command('recover', status=1)
        self.assertIn('recover with a login to the former', done.stderr)
        self.assertEqual('thawed', self.guest.agent('guest-fsfreeze-status'))
        self.assertNotEqual([], self.lab.snapshots(*self.disks))
        self.configure()
        self.run_command('recover')
        self.assert_as_found(self.guest, self.found)
        self.assert_nothing_made(*self.disks)

    def test_active_image_keeps_its_snapshots(self) -> None:
        before = {image.id for image in self.glance.list()}
        self.kill_at(steps.after('send'))
        self.run_command('recover')
        made = [i for i in self.glance.list() if i.id not in before]
        self.assertEqual(['active'], [image.status for image in made])
        self.assertEqual(2, len(self.mapping(made[0])))
        self.assertEqual(2, len(self.lab.snapshots(*self.disks)))
        self.assert_as_found(self.guest, self.found)
        self.run_command('image-delete', '--with-snapshots', made[0].id)
        self.assert_nothing_made(*self.disks)
