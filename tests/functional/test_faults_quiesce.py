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

"""Guests that can't be frozen, and images that demand it."""

import io
import re
import subprocess
from typing import Any

from nova_snap import progress
from nova_snap.image import api as image_api
from tests.functional import base
from tests.functional import faults
from tests.lab import disk as disk_lib
from tests.lab import domain as domain_lib
from tests.lab import guest as guest_lib
from tests.lab import steps

BASE_IMAGE = '3b7c1d4e-52a4-4f0e-9d0c-6f5d8f0a1b2c'

FROZEN = r'were frozen for \d+ ms'


class QuiesceTestCase(faults.FaultTestCase):
    """Guests that were booted from an image with os_require_quiesce."""

    def setUp(self) -> None:
        super().setUp()
        self.configure(libvirt={'quiesce_timeout': '10'})

    def require(self, value: str = 'yes') -> None:
        """Let the base image say so."""
        self.images.create(
            image_api.Image(
                id=BASE_IMAGE,
                name='base',
                status='queued',
                disk_format='raw',
                container_format='bare',
                properties={'os_require_quiesce': value},
            )
        )
        self.images.upload(
            BASE_IMAGE, io.BytesIO(b'base'), 4, progress.Progress()
        )

    @property
    def snapshots_made(self) -> list[image_api.Image]:
        """The images besides the base image."""
        return [i for i in self.images.list() if i.id != BASE_IMAGE]

    def spec(self, **spec: Any) -> dict[str, Any]:
        metadata = domain_lib.NovaMetadata('quiet', image_id=BASE_IMAGE)
        return {'metadata': metadata, **spec}

    def guest_with_agent(self) -> guest_lib.Guest:
        return self.shared_guest(**self.spec(agent=True))

    def freeze(self, guest: guest_lib.Guest) -> None:
        """As another tool does; thawed when the test ends."""
        guest.agent('guest-fsfreeze-freeze')
        self.addCleanup(guest.agent, 'guest-fsfreeze-thaw')

    def assert_not_begun(self, guest: guest_lib.Guest, *patterns: str) -> None:
        found = base.Found.of(guest)
        ended = self.snapshot_fails(
            guest, 1, 'os_require_quiesce', guest.uuid, *patterns
        )
        self.assertNotIn('task state', ended.err)
        self.assertEqual([], self.snapshots_made)
        self.assert_nothing_left()
        self.assertEqual(found, base.Found.of(guest))


class TestKnownBefore(QuiesceTestCase):
    """What is found out before anything is copied."""

    def test_no_channel(self) -> None:
        self.require()
        self.assert_not_begun(
            self.shared_guest(**self.spec()), 'hw_qemu_guest_agent'
        )

    def test_no_agent_on_the_channel(self) -> None:
        self.require()
        guest = self.shared_guest(**self.spec(agent_channel=True))
        self.assert_not_begun(guest, 'agent does not answer')


class TestFrozenByAnother(QuiesceTestCase):
    """Guests that another program has frozen, and has to thaw."""

    def setUp(self) -> None:
        super().setUp()
        self.require()
        self.guest = self.guest_with_agent()
        self.found = base.Found.of(self.guest)

    def is_frozen(self) -> bool:
        """Return True if the guest's agent says so."""
        return bool(self.guest.agent('guest-fsfreeze-status') == 'frozen')

    def assert_left(self) -> None:
        """Check that the guest is still frozen, and nothing else is left."""
        self.assertTrue(self.is_frozen())
        self.assertEqual(self.found, base.Found.of(self.guest))
        self.assert_nothing_left()

    def assert_right(self, process: subprocess.Popen[str]) -> None:
        """Check that the image shows the frozen file systems."""
        ended = self.assert_ended(process, 0)
        self.assertRegex(ended.err, 'another program has frozen')
        (image,) = self.snapshots_made
        system = disk_lib.file_system(self.image_file(image.id), 'qcow2')
        self.assertTrue(system.clean, system.report)
        self.assertFalse(system.needs_recovery)

    def test_mirror(self) -> None:
        self.freeze(self.guest)
        self.assert_right(self.begin(self.guest, speed=None))
        self.assert_left()

    def test_pull(self) -> None:
        self.configure(snapshot={'live_method': 'pull', 'scratch_min_mb': '0'})
        self.freeze(self.guest)
        self.assert_right(self.begin(self.guest, speed=None))
        self.assert_left()

    def test_cold(self) -> None:
        self.configure(**faults.COLD)
        self.freeze(self.guest)
        self.assert_right(self.begin(self.guest, speed=None))
        self.assert_left()

    def test_cold_with_an_agent_that_is_slow(self) -> None:
        """As on a busy host, right after the guest is started again."""
        self.configure(**faults.COLD)
        self.freeze(self.guest)
        with self.held_at(steps.after('start'), self.guest) as process:
            self.guest.suspend()
        self.wait_until(
            process,
            lambda: 'whether its file systems' in self.log_file.read_text(),
        )
        self.guest.resume()
        self.assert_right(process)
        self.assert_left()

    def test_while_its_disk_is_copied(self) -> None:
        process = self.begin(self.guest)
        self.wait_for_copying(process, self.guest)
        self.freeze(self.guest)
        self.hurry(self.guest)
        self.assert_right(process)
        self.assert_left()

    def test_thawed_before_the_point_in_time(self) -> None:
        self.freeze(self.guest)
        with self.held_at(steps.before('end-mirror'), self.guest) as process:
            self.guest.agent('guest-fsfreeze-thaw')
        self.assert_ended(
            *(process, 1, 'os_require_quiesce', self.guest.uuid),
            'another program has thawed',
        )
        self.assertEqual([], self.snapshots_made)
        self.assert_as_found(self.guest, self.found)
        self.assert_nothing_left()

    def test_recovery(self) -> None:
        self.freeze(self.guest)
        with self.held_at(steps.before('end-mirror'), self.guest) as process:
            process.kill()
            process.wait()
        self.run_command('recover')
        self.assert_left()


class TestInTheMiddle(QuiesceTestCase):
    """What goes wrong when the time has come."""

    def test_frozen(self) -> None:
        self.require()
        guest = self.guest_with_agent()
        found = base.Found.of(guest)
        with guest.domain() as domain:
            domain.agentSetResponseTimeout(17, 0)
        process = self.begin(guest, speed=None)
        ended = self.assert_ended(process, 0)
        self.assertRegex(ended.err, FROZEN)
        self.assertEqual('17', self.agent_timeout(guest))
        (image,) = self.snapshots_made
        system = disk_lib.file_system(self.image_file(image.id), 'qcow2')
        self.assertTrue(system.clean, system.report)
        self.assertFalse(system.needs_recovery)
        self.assert_as_found(guest, found)
        self.assert_nothing_left()

    def agent_timeout(self, guest: guest_lib.Guest) -> str:
        """Return what "virsh guest-agent-timeout" has set, in seconds.

        Only the file that libvirtd keeps for its own restart shows that.
        """
        status = self.libvirtd.qemu_pid_file(guest.name).with_suffix('.xml')
        (found,) = re.findall(r'<agentTimeout>(.*)<', status.read_text())
        return str(found)

    def kill_agent(self, guest: guest_lib.Guest) -> None:
        command = 'kill -9 $(pidof qemu-ga)'
        guest.agent('guest-exec', path='/bin/sh', arg=['-c', command])
        guest.wait_for(lambda: not guest.agent_answers(), 'dead agent', 20)

    def test_agent_dies_and_is_required(self) -> None:
        self.require()
        guest = self.own_guest(**self.spec(agent=True))
        found = base.Found.of(guest)
        process = self.begin(guest, speed=3)
        self.wait_for_copying(process, guest)
        self.kill_agent(guest)
        self.hurry(guest)
        ended = self.assert_ended(process, 1, 'os_require_quiesce', guest.uuid)
        self.assertEqual([], ended.errors)
        self.assertEqual([], self.snapshots_made)
        self.assert_as_found(guest, found)
        self.assert_nothing_left()

    def test_agent_dies_and_is_not_required(self) -> None:
        guest = self.own_guest(**self.spec(agent=True))
        found = base.Found.of(guest)
        ticks = guest.ticks()
        process = self.begin(guest, speed=3)
        self.wait_for_copying(process, guest)
        self.kill_agent(guest)
        self.hurry(guest)
        ended = self.assert_ended(process, 0)
        self.assertEqual([], ended.errors)
        self.assert_image_right(self.the_image(), ticks)
        self.assert_as_found(guest, found)
        self.assert_nothing_left()
