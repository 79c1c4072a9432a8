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

"""A snapshot process that is killed with -9, and the recovery after it."""

import random
import signal
import subprocess
import time
from typing import ClassVar

from tests.functional import base

LIBVIRT = 'nova_snap.virt.libvirt'
GUEST = f'{LIBVIRT}.guest:Guest'
MIRROR = f'{LIBVIRT}.mirror:_Mirror'
QEMU_IMG = 'nova_snap.virt.storage.qemu_img'
IMAGES = 'nova_snap.image.filesystem:FilesystemImageService'

#: The steps of each pipeline, in their order, with the function of each.
LIVE_STEPS = {
    'create the record': f'{IMAGES}.create',
    'create the delta': f'{QEMU_IMG}:create_delta',
    'end an old block job': f'{LIBVIRT}.block_device:BlockDevice.abort_job',
    'save the XML': f'{GUEST}.definition',
    'undefine': f'{GUEST}.undefine',
    'blockRebase': f'{LIBVIRT}.block_device:BlockDevice.rebase',
    'poll until ready': f'{MIRROR}.wait_until_ready',
    'freeze': f'{GUEST}.freeze',
    'end the mirror': f'{MIRROR}.end',
    'thaw': f'{GUEST}.thaw',
    'define': f'{GUEST}.restore_definition',
    'convert': f'{QEMU_IMG}:flatten',
    'upload': f'{IMAGES}.upload',
}
COLD_STEPS = {
    'create the record': f'{IMAGES}.create',
    'freeze': f'{GUEST}.freeze',
    'managed save': f'{GUEST}.managed_save',
    'convert': f'{QEMU_IMG}:convert',
    'start': f'{GUEST}.start',
    'thaw': f'{GUEST}.thaw',
    'upload': f'{IMAGES}.upload',
}
COLD = {'workarounds': {'disable_libvirt_livesnapshot': 'true'}}


class KillTestCase(base.SnapshotTestCase):
    """Kill, recover, look; with a guest that writes all the time."""

    STEPS: ClassVar[dict[str, str]]

    def setUp(self) -> None:
        super().setUp()
        self.guest = self.class_guest(
            agent=True, autostart=True, vnc_password='secret'
        )
        self.found = base.Found.of(self.guest)
        self.assertTrue(self.found.is_persistent)
        self.assertIn('secret', self.found.definition)

    def kill_at(self, moment: str, step: str) -> None:
        """Let a snapshot die at a step; it has to have come that far."""
        command = self.command('image-create', self.guest.uuid, 'killed')
        shell = command.index('nova_snap.cmd.shell')
        command[shell : shell + 1] = ['tests.functional.die_at', moment, step]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=base.TIMEOUT
        )
        self.assertEqual(-signal.SIGKILL, done.returncode, done.stderr)

    def recover(self) -> None:
        """Recover and check; a second time there is nothing to do."""
        self.run_command('recover')
        self.assert_as_found(self.guest, self.found)
        self.assert_nothing_left()
        again = self.run_command('recover')
        self.assertIn('Nothing was left behind', again.stderr)

    def check_all_steps(self, moment: str) -> None:
        for name, step in self.STEPS.items():
            with self.subTest(f'{moment} {name}'):
                self.kill_at(moment, step)
                self.recover()


class TestKilledLive(KillTestCase):
    """The mirror pipeline."""

    STEPS = LIVE_STEPS

    def test_before_each_step(self) -> None:
        self.check_all_steps('before')

    def test_after_each_step(self) -> None:
        self.check_all_steps('after')

    def test_the_next_snapshot_recovers_by_itself(self) -> None:
        self.kill_at('after', LIVE_STEPS['blockRebase'])
        self.assertFalse(self.guest.is_persistent())
        self.image_create(self.guest)
        self.assert_as_found(self.guest, self.found)
        self.assert_nothing_left()

    def test_guest_powered_off_before_recovery(self) -> None:
        guest = self.make_guest(vnc_password='secret')
        definition = guest.inactive_xml()
        self.guest = guest
        self.kill_at('after', LIVE_STEPS['blockRebase'])
        guest.destroy()
        self.assertFalse(guest.exists())
        self.run_command('recover')
        self.assertTrue(guest.exists())
        self.assertEqual('shut off', guest.state())
        self.assertEqual(definition, guest.inactive_xml())
        self.assert_nothing_left()

    def test_libvirtd_restarted_before_recovery(self) -> None:
        self.kill_at('after', LIVE_STEPS['blockRebase'])
        self.libvirtd.restart()
        self.recover()

    def test_at_any_moment(self) -> None:
        # A fixed seed: what fails can be run again.
        moments = random.Random(20261124)  # noqa: S311
        for _ in range(6):
            process = self.start('image-create', self.guest.uuid, 'killed')
            time.sleep(moments.uniform(0.5, 2.5))
            process.kill()
            process.wait()
            self.recover()


class TestKilledCold(KillTestCase):
    """The cold pipeline."""

    STEPS = COLD_STEPS
    OPTIONS = COLD

    def test_before_each_step(self) -> None:
        self.check_all_steps('before')

    def test_after_each_step(self) -> None:
        self.check_all_steps('after')

    def test_in_the_middle_of_the_managed_save(self) -> None:
        process = self.start('image-create', self.guest.uuid, 'killed')
        self.guest.wait_for(
            lambda: self.guest.state() != 'running', 'suspension', 60
        )
        process.kill()
        process.wait()
        self.recover()

    def test_paused_guest_stays_paused(self) -> None:
        self.guest.suspend()
        self.addCleanup(self.guest.resume)
        self.found = base.Found.of(self.guest)
        self.kill_at('after', COLD_STEPS['managed save'])
        self.recover()

    def test_running_snapshot_is_left_alone(self) -> None:
        process = self.start('image-create', self.guest.uuid, 'running')
        self.guest.wait_for(
            lambda: self.guest.state() != 'running', 'suspension', 60
        )
        # Else it may be over before the other command has even started.
        process.send_signal(signal.SIGSTOP)
        done = self.run_command('recover')
        process.send_signal(signal.SIGCONT)
        self.assertIn('running', done.stdout)
        self.assertEqual(0, self.finish(process).returncode)
        self.assert_as_found(self.guest, self.found)
        self.assert_nothing_left()
