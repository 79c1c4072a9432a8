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

CINDER = 'nova_snap.volume.cinder:CinderVolumeService'
GLANCE = 'nova_snap.image.glance:GlanceImageService'
SNAPSHOTS = 'nova_snap.compute.volume_backed.snapshots:VolumeSnapshots'

#: Moments at which there is something to clean up.
MOMENTS = (
    ('after', 'nova_snap.virt.libvirt.guest:Guest.freeze'),
    ('after', f'{CINDER}.create_snapshot'),
    ('after', f'{SNAPSHOTS}.wait_until_available'),
    ('before', f'{GLANCE}.upload'),
)


class KillTest(base.VolumeTestCase):
    """Kill, recover, look."""

    def setUp(self) -> None:
        super().setUp()
        self.guest, self.disks = self.volume_guest(agent=True)
        self.found = functional_base.Found.of(self.guest)

    def kill_at(self, moment: str, step: str) -> None:
        """Let a snapshot die at a step; it has to have come that far."""
        done = subprocess.run(
            [
                *(sys.executable, '-m', 'tests.functional.die_at'),
                *(moment, step, '--config-file', str(self.config)),
                *('image-create', self.guest.uuid, 'killed'),
            ],
            capture_output=True,
            text=True,
            timeout=functional_base.TIMEOUT,
        )
        self.assertEqual(-signal.SIGKILL, done.returncode, done.stderr)

    def test_moments(self) -> None:
        for moment, step in MOMENTS:
            self.kill_at(moment, step)
            self.run_command('recover')
            self.assertEqual(
                'thawed', self.guest.agent('guest-fsfreeze-status'), step
            )
            self.assert_as_found(self.guest, self.found)
            self.assert_nothing_made(*self.disks)

    def test_login_of_another_project(self) -> None:
        self.kill_at('after', f'{CINDER}.create_snapshot')
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
        self.kill_at('after', f'{GLANCE}.upload')
        self.run_command('recover')
        made = [i for i in self.glance.list() if i.id not in before]
        self.assertEqual(['active'], [image.status for image in made])
        self.assertEqual(2, len(self.mapping(made[0])))
        self.assertEqual(2, len(self.lab.snapshots(*self.disks)))
        self.assert_as_found(self.guest, self.found)
        self.run_command('image-delete', '--with-snapshots', made[0].id)
        self.assert_nothing_made(*self.disks)
