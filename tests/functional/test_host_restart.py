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

"""Recovery of a host that died, when other hosts may have its guests now.

A death of the host is a killed snapshot, a guest that is destroyed, and an
entry of the journal that names another boot.
"""

import json
import uuid

from tests.functional import test_kill
from tests.lab import guest as guest_lib
from tests.lab import root_disk
from tests.lab import steps


class RestartTestCase(test_kill.KillTestCase):
    """A guest that was being copied, or saved, when its host died."""

    KIND = root_disk.Kind.OVERLAY

    def guest_to_kill(self) -> guest_lib.Guest:
        """Return a guest that may be destroyed."""
        return self.make_guest(
            kind=self.KIND, autostart=True, vnc_password='secret'
        )

    def change_origin(self, **origin: str | None) -> None:
        """Change where the interrupted snapshot was begun."""
        (path,) = (self.state_path / 'journal').glob('*.json')
        content = json.loads(path.read_text())
        for key, value in origin.items():
            self.assertTrue(content['origin'][key])
            content['origin'][key] = value
        path.write_text(json.dumps(content))

    def restart_host(self) -> None:
        """Let the entry be of the boot before."""
        self.change_origin(boot=str(uuid.uuid4()))

    def kill_with_host(self) -> None:
        """Let a snapshot die with the host while the guest is transient."""
        self.kill_at(steps.after('rebase'))
        self.guest.destroy()
        self.assertFalse(self.guest.exists())
        self.restart_host()

    def assert_defined(self) -> None:
        """Check that the definition is as it was."""
        self.assertTrue(self.guest.exists())
        self.assertEqual(self.found.definition, self.guest.inactive_xml())
        with self.guest.domain() as domain:
            self.assertEqual(self.found.autostart, bool(domain.autostart()))


class TestLocalDisk(RestartTestCase):
    """A disk that no other host can reach."""

    def test_mirror(self) -> None:
        self.kill_with_host()
        self.run_command('recover')
        self.assert_defined()
        # Nothing tells whether the guest wrote to it.
        (kept,) = self.snapshots.glob('kept-*.delta')
        kept.unlink()
        self.assert_nothing_left()


class TestDetachedDisk(RestartTestCase):
    """A disk on storage that the host has not attached again yet."""

    def test_mirror(self) -> None:
        self.kill_with_host()
        disk = self.guest.spec.disk.path
        away = disk.rename(disk.with_name('away'))
        done = self.run_command('recover', status=1)
        self.assertFalse(self.guest.exists())
        self.assertIn('may have been moved to another host', done.stderr)
        self.assertIn('--none-moved', done.stderr)
        away.rename(disk)
        done = self.run_command('recover')
        self.assertIn('recovered', done.stdout)
        self.assert_defined()


class TestSharedDisk(RestartTestCase):
    """A block device, of which nothing says that it is in this host.

    The memory of its guest is saved, so the disk must not have changed.
    """

    KIND = root_disk.Kind.BLOCK
    OPTIONS = test_kill.COLD

    def setUp(self) -> None:
        super().setUp()
        self.kill_at(steps.after('managed-save'))
        self.restart_host()
        done = self.run_command('recover', status=1)
        self.assertIn('--none-moved', done.stderr)
        self.assertEqual('shut off', self.guest.state())
        self.assertTrue(self.guest.has_managed_save())

    def test_somebody_has_made_sure(self) -> None:
        self.run_command('recover', '--none-moved')
        self.assert_as_found(self.guest, self.found)
        self.assert_nothing_left()

    def test_somebody_starts_it(self) -> None:
        with self.guest.domain() as domain:
            domain.create()
        self.run_command('recover')
        self.assert_as_found(self.guest, self.found)
        self.assert_nothing_left()


class TestAnotherHost(RestartTestCase):
    """A journal that two hosts share, or two libvirts of one host."""

    def test_its_entries_are_left_to_it(self) -> None:
        for changed in ('machine', 'uri'):
            with self.subTest(changed):
                self.kill_at(steps.after('rebase'))
                self.change_origin(**{changed: 'another'})
                done = self.run_command('recover')
                self.assertIn('left to the host', done.stdout)
                self.assertFalse(self.guest.is_persistent())
                # As the host that has begun the snapshot.
                self.change_origin(**{changed: None})
                self.recover()
