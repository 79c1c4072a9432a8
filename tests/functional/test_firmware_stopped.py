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

"""Domain snapshots of guests with UEFI firmware and a TPM that do not run.

QEMU, which saves both with the memory, does not run either: so they come from
the files of libvirt.
"""

import os
import pathlib
import shutil
from typing import Any

from tests.functional import domain_snapshot_base
from tests.lab import firmware as firmware_lib
from tests.lab import guest as guest_lib
from tests.lab import root_disk
from tests.lab import steps

#: What is said of what is not kept, and of what is not gone back to.
NOT_KEPT = 'not kept'
STAYS = 'as they are'


class TestStopped(domain_snapshot_base.DomainSnapshotTestCase):
    """Guests that do not run: what is kept comes from the files."""

    def command(self, *arguments: str) -> list[str]:
        """Return a command line that sees the files as libvirtd does."""
        return firmware_lib.beside(self.libvirtd, super().command(*arguments))

    def firmware(self, guest: guest_lib.Guest) -> firmware_lib.Firmware:
        """Return what a guest has besides its disks."""
        return firmware_lib.Firmware(guest, self.libvirtd.state)

    def stopped(self, **spec: Any) -> guest_lib.Guest:
        """Return a guest for which libvirt has made the files."""
        guest = self.guest(start=False, uefi=True, tpm=True, **spec)
        firmware_lib.start_once(guest)
        return guest

    def change(self, guest: guest_lib.Guest) -> None:
        """Give a guest other variables, and another TPM."""
        firmware = self.firmware(guest)
        shutil.rmtree(firmware.tpm.parents[1])
        with firmware.nvram.open('r+b') as file:
            file.write(os.urandom(4096))
        firmware_lib.start_once(guest)

    def look(self, guest: guest_lib.Guest) -> tuple[bytes, ...]:
        """Return the variables, and the state of the TPM."""
        return self.firmware(guest).content()

    def kept(self) -> list[pathlib.Path]:
        """Return the files in which state is kept."""
        return list((self.state_path / 'firmware').glob('*/*'))

    def test_there_and_back(self) -> None:
        guest = self.stopped()
        owners = self.firmware(guest).owners()
        first = self.look(guest)
        done = self.run_command('snapshot-create', guest.uuid, 'a')
        self.assertNotIn(NOT_KEPT, done.stderr)
        self.change(guest)
        second = self.look(guest)
        self.assertNotIn(second[0], first)
        self.assertNotIn(second[1], first)
        done = self.run_command('snapshot-revert', guest.uuid, 'a', '--keep')
        self.assertNotIn(STAYS, done.stderr)
        self.assertEqual(first, self.look(guest))
        (before,) = set(self.listed(guest)) - {'a'}
        self.run_command('snapshot-revert', guest.uuid, before)
        self.assertEqual(second, self.look(guest))
        self.assertEqual(owners, self.firmware(guest).owners())
        self.assertEqual(2, len(self.kept()))
        for name in ('a', before):
            self.run_command('snapshot-delete', guest.uuid, name)
        self.assertEqual([], self.kept())
        self.assertEqual(second, self.look(guest))
        self.assert_nothing_left()

    def test_killed_when_taken(self) -> None:
        guest = self.stopped()
        first = self.look(guest)
        for point in steps.KEEP_FIRMWARE:
            with self.subTest(str(point)):
                self.kill_at(point, 'snapshot-create', guest.uuid, 'a')
                self.run_command('recover')
                self.assert_nothing_left()
                self.assertEqual(first, self.look(guest))
                names = set(self.listed(guest))
                self.assertEqual(len(names), len(self.kept()))
                if names:
                    self.change(guest)
                    self.run_command('snapshot-revert', guest.uuid, 'a')
                    self.assertEqual(first, self.look(guest))
                    self.run_command('snapshot-delete', guest.uuid, 'a')

    def test_killed_when_gone_back_to(self) -> None:
        for point in steps.SET_FIRMWARE:
            with self.subTest(str(point)):
                guest = self.stopped()
                first = self.look(guest)
                self.run_command('snapshot-create', guest.uuid, 'a')
                self.run_command('snapshot-create', guest.uuid, 'b')
                self.change(guest)
                second = self.look(guest)
                self.kill_at(point, 'snapshot-revert', guest.uuid, 'a')
                self.run_command('recover')
                self.assert_nothing_left()
                is_back = self.listed(guest)['a']['Current']
                found = self.look(guest)
                self.assertEqual(first if is_back else second, found)
                firmware_lib.start_once(guest)

    def test_guest_that_does_not_start(self) -> None:
        iso = self.directory() / 'cd.iso'
        iso.write_bytes(bytes(root_disk.MIB))
        cdrom = (
            f"<disk type='file' device='cdrom'><source file='{iso}'/>"
            "<target dev='sdc' bus='sata'/><readonly/></disk>"
        )
        guest = self.stopped(devices_xml=cdrom)
        self.run_command('snapshot-create', guest.uuid, 'a')
        with self.libvirtd.connection() as connection:
            connection.defineXML(
                guest.inactive_xml().replace(f"<source file='{iso}'/>", '')
            )
        self.change(guest)
        second = self.look(guest)
        iso.unlink()
        done = self.run_command('snapshot-revert', guest.uuid, 'a', status=1)
        self.assertIn('cd.iso', done.stderr)
        self.assertEqual(second, self.look(guest))
        self.assertEqual(1, len(self.kept()))
        self.assert_nothing_left()
