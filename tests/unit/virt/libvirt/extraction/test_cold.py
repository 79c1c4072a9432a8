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


"""The cold pipeline, with PCI devices of the host that nobody has here.

The disk and qemu-img are real; the guest is a double.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import os
import pathlib
import time

import libvirt

from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap.virt.libvirt import disk_xml
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import quiesce
from nova_snap.virt.libvirt import root_disk
from nova_snap.virt.libvirt.extraction import cold
from nova_snap.virt.libvirt.extraction import context as context_lib
from nova_snap.virt.libvirt.extraction import space
from tests.unit.virt.libvirt import base
from tests.unit.virt.libvirt import fake_libvirt
from tests.unit.virt.libvirt import samples

SIZE = 1 << 20


class ColdTestCase(base.GuestTestCase):
    """A guest with a real disk."""

    def setUp(self) -> None:
        super().setUp()
        self.content = os.urandom(SIZE)
        self.path = self.disk_with(self.content)
        self.target = self.folder()
        self.while_reading: Callable[[], None] = lambda: None

    def guest(self, *devices: str) -> guest_lib.Guest:
        """Make a running guest with these devices."""
        self.domain = fake_libvirt.Domain(
            samples.raw_disk(str(self.path)), *devices
        )
        return self.use(self.domain)

    def image(
        self,
        guest: guest_lib.Guest,
        suspends: bool = True,
        frozen: bool = False,
    ) -> bytes:
        """Return the image that the pipeline reads."""
        with self.begun(guest) as entry:
            snapshot = context_lib.Context(
                guest=guest,
                disks=(
                    context_lib.DiskToRead(
                        root_disk.choose(disk_xml.disks(guest.xml())).disk,
                        virtual_size=SIZE,
                        image_format='raw',
                        compress=False,
                        progress=self.progress,
                    ),
                ),
                quiesce=quiesce.Quiesce(frozen, False, 5),
                folder=self.target,
                space=space.Space(0, ()),
                entry=entry,
                progress=self.progress,
                disk_operation_slot=self.slot,
            )
            with cold.extracted(snapshot, suspends, 1) as disks:
                # Before anything is uploaded the guest runs again.
                self.state_while_uploading = self.domain.state_now
                with disks[0] as data:
                    return data.stream.read()

    @contextlib.contextmanager
    def slot(self, _progress: progress_lib.Progress) -> Iterator[None]:
        """Stand in for the slot that is held while the disk is read."""
        self.while_reading()
        yield

    def lose_disk(self) -> None:
        """Make qemu-img fail once the guest is suspended."""
        self.domain.save = lambda: pathlib.Path(self.path).unlink()


class SuspendTest(ColdTestCase):
    """Guests without such devices."""

    def test_running_guest_runs_again(self) -> None:
        self.assertEqual(self.content, self.image(self.guest()))
        self.assertEqual(base.RUNNING, self.state_while_uploading)
        self.assertEqual([], self.steps_left())

    def test_shut_off_guest_that_ran_meanwhile(self) -> None:
        """It has an overlay now; the old file lacks what is in that."""
        guest = self.guest()
        self.domain.state_now = base.SHUTOFF
        self.assertEqual(self.content, self.image(guest, suspends=False))
        overlay = samples.raw_disk(str(self.folder() / 'overlay'))
        self.while_reading = lambda: self.domain.change_disk(overlay)
        self.assertRaises(
            exception.GuestStarted, self.image, guest, suspends=False
        )

    def test_paused_guest_is_paused_again(self) -> None:
        guest = self.guest()
        self.domain.state_now = base.PAUSED
        self.assertEqual(self.content, self.image(guest))
        self.assertEqual(base.PAUSED, self.state_while_uploading)

    def test_guest_that_does_not_run_is_only_read(self) -> None:
        guest = self.guest(samples.hostdev(1))
        self.domain.state_now = base.SHUTOFF
        self.assertEqual(self.content, self.image(guest, suspends=False))
        self.assertEqual(base.SHUTOFF, self.domain.state_now)
        self.assertEqual(['0x01'], self.domain.slots)

    def test_running_guest_that_is_not_suspended(self) -> None:
        guest = self.guest()
        self.assertEqual(self.content, self.image(guest, suspends=False))
        self.assertEqual(base.RUNNING, self.domain.state_now)

    def test_is_started_again_when_reading_fails(self) -> None:
        guest = self.guest()
        self.lose_disk()
        self.assertRaises(exception.ProgramFailed, self.image, guest)
        self.assertEqual(base.RUNNING, self.domain.state_now)
        self.assertEqual([], self.steps_left())

    def test_is_left_running_when_it_can_not_be_saved(self) -> None:
        guest = self.guest()

        def refuse() -> None:
            raise fake_libvirt.error(
                libvirt.VIR_ERR_OPERATION_FAILED, 'no space for its memory'
            )

        self.domain.save = refuse
        error = self.assertRaises(exception.HypervisorError, self.image, guest)
        self.assertIn('no space for its memory', str(error))
        self.assertEqual(base.RUNNING, self.domain.state_now)
        self.assertEqual([], self.steps_left())

    def test_guest_that_somebody_else_shut_off_stays_so(self) -> None:
        guest = self.guest()

        def shut_off() -> None:
            self.domain.state_now = base.SHUTOFF
            raise fake_libvirt.error(
                libvirt.VIR_ERR_OPERATION_INVALID, 'domain is not running'
            )

        self.domain.save = shut_off
        self.assertRaises(exception.HypervisorError, self.image, guest)
        self.assertEqual(base.SHUTOFF, self.domain.state_now)

    def test_guest_that_somebody_starts_meanwhile(self) -> None:
        guest = self.guest()
        self.domain.state_now = base.SHUTOFF

        def start() -> None:
            self.domain.state_now = base.RUNNING

        self.while_reading = start
        self.assertRaises(
            exception.GuestStarted, self.image, guest, suspends=False
        )

    def test_is_frozen_when_it_is_saved_and_thawed_when_it_runs(self) -> None:
        guest = self.guest()
        frozen: list[bool] = []
        states: list[int] = []
        self.domain.save = lambda: frozen.append(self.domain.is_frozen)
        self.domain.thaw = lambda: states.append(self.domain.state_now)
        self.image(guest, frozen=True)
        self.assertEqual([True], frozen)
        self.assertEqual([base.RUNNING], states)
        self.assertFalse(self.domain.is_frozen)


class PassthroughTest(ColdTestCase):
    """Guests that have PCI devices of the host."""

    def both(self) -> guest_lib.Guest:
        """Make a guest with a PCI device and an SR-IOV interface."""
        return self.guest(samples.hostdev(1), samples.SRIOV_INTERFACE)

    def test_are_detached_and_attached_again(self) -> None:
        self.assertEqual(self.content, self.image(self.both()))
        self.assertEqual(base.RUNNING, self.domain.state_now)
        self.assertEqual(['0x01', '0x1f'], self.domain.slots)
        self.assertEqual([], self.steps_left())

    def test_are_attached_again_when_reading_fails(self) -> None:
        guest = self.both()
        self.lose_disk()
        self.assertRaises(exception.ProgramFailed, self.image, guest)
        self.assertEqual(base.RUNNING, self.domain.state_now)
        self.assertEqual(['0x01', '0x1f'], self.domain.slots)

    def test_are_attached_again_when_it_is_cancelled(self) -> None:
        guest = self.both()
        self.domain.save = lambda: self.progress.cancel('interrupted.')
        self.assertRaises(exception.SnapshotCancelled, self.image, guest)
        self.assertEqual(base.RUNNING, self.domain.state_now)
        self.assertEqual(['0x01', '0x1f'], self.domain.slots)

    def test_guest_that_does_not_let_go(self) -> None:
        guest = self.both()
        self.domain.stubborn = {'0x1f'}
        error = self.assertRaises(exception.HypervisorError, self.image, guest)
        self.assertIn('0001:af:1f.7', str(error))
        self.assertIn('in time', str(error))
        self.assertEqual(base.RUNNING, self.domain.state_now)
        self.assertEqual({'0x01', '0x1f'}, set(self.domain.slots))
        self.assertEqual([], self.steps_left())

    def test_guest_that_refuses(self) -> None:
        guest = self.guest(samples.hostdev(1))
        self.domain.refused = {'0x01'}
        error = self.assertRaises(exception.HypervisorError, self.image, guest)
        self.assertIn('0000:3b:01.1', str(error))
        self.assertIn('refuses', str(error))
        self.assertEqual(['0x01'], self.domain.slots)

    def test_guest_that_refuses_one_and_lets_go_of_the_other(self) -> None:
        guest = self.both()
        self.domain.refused = {'0x01'}
        self.assertRaises(exception.HypervisorError, self.image, guest)
        self.wait_for_late_departures()
        self.assertEqual({'0x01', '0x1f'}, set(self.domain.slots))

    def test_cancelled_while_it_lets_go(self) -> None:
        guest = self.both()
        self.domain.detaching = 0.2
        self.progress.cancel('interrupted.')
        self.assertRaises(exception.SnapshotCancelled, self.image, guest)
        self.wait_for_late_departures()
        self.assertEqual(['0x01', '0x1f'], self.domain.slots)

    def wait_for_late_departures(self) -> None:
        """Give the guest time for what it was asked to do."""
        time.sleep(self.domain.detaching)
        self.domain.XMLDesc()

    def test_one_that_can_not_be_attached_does_not_hold_up_the_rest(
        self,
    ) -> None:
        guest = self.both()
        self.domain.attach_errors = {'0x01'}
        self.assertEqual(self.content, self.image(guest))
        self.assertEqual(['0x1f'], self.domain.slots)
        self.assertEqual(['attach the devices again'], self.steps_left())
        self.assertIn('0000:3b:01.1 could not be attached', self.log.output)
        self.assertIn('in use elsewhere', self.log.output)

    def test_usb_devices_stay(self) -> None:
        guest = self.guest()
        self.domain.agent += samples.USB_HOSTDEV
        self.assertEqual(self.content, self.image(guest))
