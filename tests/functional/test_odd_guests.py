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


"""Odd states of guests that run, and of the host around them.

An image can be taken, or is refused before anything is begun.
"""

from collections.abc import Iterator
import contextlib
import pathlib
import subprocess

import libvirt

from tests.functional import base
from tests.functional import content
from tests.lab import disk as disk_lib
from tests.lab import guest as guest_lib
from tests.lab import root_disk

#: How a killed libvirtd leaves a save: its mark of an incomplete file.
INCOMPLETE_SAVE = b'LibvirtQemudPart'.ljust(4096, b'\0')

AUTO = {'snapshot': {'live_method': 'auto', 'scratch_min_mb': '0'}}

#: Runs a command with a directory that no other process has.
WITH_MOUNT = 'mount -t tmpfs none "$0" && exec "$@"'


class TestOddState(content.ContentTestCase):
    """One guest, which every test leaves as it was."""

    def guest(self) -> guest_lib.Guest:
        return self.class_guest(agent=True, agent_without='guest-get-time')

    def test_agent_without_the_time(self) -> None:
        guest = self.guest()
        done = self.run_command('image-create', guest.uuid, 'i')
        self.assertNotIn('is not frozen', done.stderr)

    def test_directory_with_a_space(self) -> None:
        guest = self.guest()
        space = self.state_path / 'a b+c'
        for path, options in (('mirror', {}), ('pull', content.PULL)):
            with self.subTest(path=path):
                self.configure(
                    **{**options, 'libvirt': {'snapshots_directory': space}}
                )
                self.take(guest, path)
        self.assertEqual([], list(space.iterdir()))

    def test_refused_backup_becomes_a_mirror(self) -> None:
        """QEMU does not see a file system that only nova-snap has."""
        guest = self.guest()
        found = base.Found.of(guest)
        scratch = self.directory()
        self.configure(
            snapshot={**AUTO['snapshot'], 'scratch_directory': scratch}
        )
        exported = self.state_path / 'exported.qcow2'
        for words in (
            ('image-create', guest.uuid, 'i'),
            ('export', guest.uuid, '-o', str(exported)),
        ):
            done = self.run_apart(scratch, *words)
            self.assertEqual(0, done.returncode, done.stderr)
            self.assertIn(content.SAYS['pull'], done.stderr)
            self.assertIn('could not begin the backup', done.stderr)
            self.assertIn(content.SAYS['mirror'], done.stderr)
            self.assert_as_found(guest, found)
            self.assert_nothing_left()
        self.assertEqual('', disk_lib.check(exported))
        (image,) = self.images.list()
        self.image(image.id)
        self.configure(
            snapshot={
                **content.PULL['snapshot'],
                'scratch_directory': str(scratch),
            }
        )
        done = self.run_apart(scratch, 'image-create', guest.uuid, 'i')
        self.assertEqual(1, done.returncode)
        self.assertIn('could not begin the backup', done.stderr)
        self.assert_nothing_left()

    def run_apart(
        self, directory: pathlib.Path, *words: str
    ) -> subprocess.CompletedProcess[str]:
        """Run nova-snap with a file system of its own in a directory."""
        return self.finish(
            self.start_process(
                ['unshare', '--mount', '--propagation', 'private']
                + ['sh', '-c', WITH_MOUNT, str(directory)]
                + self.command(*words)
            )
        )

    def test_incomplete_save(self) -> None:
        guest = self.guest()
        save = self.libvirtd.save_file(guest.name)
        save.write_bytes(INCOMPLETE_SAVE)
        self.addCleanup(save.unlink, missing_ok=True)
        self.take(guest, 'mirror')
        self.assertFalse(save.exists())

    def test_save_of_an_earlier_run(self) -> None:
        guest = self.guest()
        with self.running_beside_its_save(guest):
            found = base.Found.of(guest)
            self.assertTrue(found.has_managed_save)
            for options in ({}, content.COLD):
                self.configure(**options)
                done = self.run_command(
                    'image-create', guest.uuid, 'i', status=2
                )
                self.assertRegex(
                    done.stderr.splitlines()[-1],
                    f'managedsave-remove {guest.uuid}',
                )
                self.assert_nothing_left()
            self.assert_as_found(guest, found)
            self.configure(**AUTO)
            self.take(guest, 'pull')
            self.assertTrue(self.libvirtd.save_file(guest.name).exists())

    @contextlib.contextmanager
    def running_beside_its_save(
        self, guest: guest_lib.Guest
    ) -> Iterator[None]:
        """Save the guest, and boot it without its saved memory."""
        with guest.domain() as domain:
            domain.managedSave()
            try:
                domain.connect().createXML(guest.inactive_xml())
                guest.wait_until_up()
                yield
            finally:
                domain.managedSaveRemove()


class TestPausedByAnError(content.ContentTestCase):
    """A guest that an I/O error had paused before we came."""

    def test_every_live_path(self) -> None:
        small = self.tmpfs(48 * root_disk.MIB)
        root = root_disk.make(small, root_disk.Kind.RAW)
        guest = self.make_guest(
            disk=root, cache='writeback', write=16, wait=False
        )
        guest.wait_for(
            lambda: (
                self.state(guest)
                == [
                    libvirt.VIR_DOMAIN_PAUSED,
                    libvirt.VIR_DOMAIN_PAUSED_IOERROR,
                ]
            ),
            *('I/O error', 180),
        )
        for path, options in (('pull', content.PULL), ('mirror', {})):
            with self.subTest(path=path):
                self.configure(**options)
                self.assert_equal_to_disk(self.take(guest, path), root)

    @staticmethod
    def state(guest: guest_lib.Guest) -> list[int]:
        """Return the state and its reason."""
        with guest.domain() as domain:
            return list(domain.state())
