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

"""Guests with UEFI firmware and an emulated TPM.

Each stores numbers in its firmware and its TPM, which are outside of its
disks.  Which numbers are there afterwards says of which moment both are.
"""

from typing import Any

from tests.functional import content
from tests.functional import domain_snapshot_base
from tests.lab import exhaustive
from tests.lab import firmware as firmware_lib
from tests.lab import guest as guest_lib
from tests.lab import root_disk

METHODS = {
    'mirror': {},
    'pull': content.PULL,
    'cold': content.COLD,
}

#: What a guest has besides its disks.
GUESTS = exhaustive.choose(
    (
        {'uefi': True, 'tpm': True},
        {'uefi': True},
        {'tpm': True},
    ),
    ({'uefi': True, 'tpm': True},),
)

#: How domain snapshots with memory are taken.
KINDS = {
    'paused': ('--system',),
    'live': ('--system', '--live'),
    'inside': ('--system', '--internal'),
}

#: What is said of what is not kept, and of what is not gone back to.
NOT_KEPT = 'not kept'
STAYS = 'as they are'
WORDS = ('UEFI firmware', 'emulated TPM')


class FirmwareTestCase(
    content.ContentTestCase, domain_snapshot_base.DomainSnapshotTestCase
):
    """Guests that the tests of a class share."""

    def firmware(self, guest: guest_lib.Guest) -> firmware_lib.Firmware:
        """Return what a guest has besides its disks."""
        return firmware_lib.Firmware(guest, self.libvirtd.state)

    def shared(self, **has: Any) -> guest_lib.Guest:
        """Return a guest that runs, and has an agent."""
        return self.class_guest(kind=root_disk.Kind.QCOW2, agent=True, **has)

    def store(self, firmware: firmware_lib.Firmware) -> set[int]:
        """Store the next number; return all that are there."""
        numbers = firmware.asked()
        firmware.store(max(numbers, default=0) + 1)
        found = firmware.asked()
        self.assertEqual(len(numbers) + 1, len(found))
        self.assertEqual(found, firmware.stored())
        return found


class TestRunning(FirmwareTestCase):
    """Guests that run; all tests share one of each kind."""

    def test_images(self) -> None:
        for has in GUESTS:
            for method, options in METHODS.items():
                with self.subTest(method, **has):
                    self.configure(**options)
                    self.check_image(self.shared(**has), method)

    def check_image(self, guest: guest_lib.Guest, method: str) -> None:
        firmware = self.firmware(guest)
        numbers = self.store(firmware)
        owners = firmware.owners()
        before = guest.ticks()
        image = self.take(guest, method)
        self.assert_one_moment(image, before)
        self.assertEqual(numbers, firmware.asked())
        self.assertEqual(numbers, firmware.stored())
        self.assertEqual(owners, firmware.owners())

    def test_memory_has_it(self) -> None:
        for has in GUESTS:
            with self.subTest(**has):
                self.check_memory(self.shared(**has))

    def check_memory(self, guest: guest_lib.Guest) -> None:
        firmware = self.firmware(guest)
        kept = {}
        for name, options in KINDS.items():
            if '--internal' in options and guest.spec.uefi:
                continue
            kept[name] = self.store(firmware)
            done = self.run_command(
                'snapshot-create', guest.uuid, name, *options
            )
            self.assertNotIn(NOT_KEPT, done.stderr)
        self.store(firmware)
        owners = firmware.owners()
        # An internal one is in the file that the guest leaves first.
        names = list(reversed(kept))
        for name in names:
            done = self.run_command('snapshot-revert', guest.uuid, name)
            self.assertNotIn(STAYS, done.stderr)
            guest.wait_until_up()
            self.assertEqual(kept[name], firmware.asked())
            self.assertEqual(kept[name], firmware.stored())
            self.assertEqual(owners, firmware.owners())
        for name in names:
            self.run_command('snapshot-delete', guest.uuid, name)
        self.assertEqual(kept[names[-1]], firmware.asked())
        self.assertEqual(kept[names[-1]], firmware.stored())
        self.assert_nothing_left()

    def test_told(self) -> None:
        for has in GUESTS:
            with self.subTest(**has):
                self.check_told(self.shared(**has), *WORDS)

    def check_told(self, guest: guest_lib.Guest, uefi: str, tpm: str) -> None:
        if guest.spec.uefi:
            done = self.run_command(
                *('snapshot-create', guest.uuid, 'i'),
                *('--system', '--internal'),
                status=domain_snapshot_base.CONFLICT,
            )
            self.assertIn(uefi, done.stderr)
            self.assertEqual({}, self.listed(guest))
        done = self.run_command('snapshot-create', guest.uuid, 'd', '--print')
        for word, has in ((uefi, guest.spec.uefi), (tpm, guest.spec.tpm)):
            self.assertEqual(has, word in done.stdout)
        self.assertIn(NOT_KEPT, done.stdout)
