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


"""Undoing, as recovery does it: later, twice, or for what never happened."""

from typing import Any

from nova_snap import exception
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt import duties
from tests.unit.virt.libvirt import base
from tests.unit.virt.libvirt import fake_libvirt
from tests.unit.virt.libvirt import samples


class UndoingTestCase(base.GuestTestCase):
    """The undoing for a guest with two devices of the host."""

    def setUp(self) -> None:
        super().setUp()
        self.domain = fake_libvirt.Domain(
            samples.raw_disk(), samples.hostdev(1), samples.hostdev(2)
        )
        self.guest = self.use(self.domain)
        self.undoing = duties.Undoing(self.guest)


class AttachDevicesTest(UndoingTestCase):
    """Devices that a guest had."""

    def setUp(self) -> None:
        super().setUp()
        devices = domain_xml.passthrough_devices(self.guest.xml())
        self.data: dict[str, Any] = {'devices': duties.device_data(devices)}

    def attach(self) -> None:
        """Do what recovery does."""
        self.undoing.attach_devices(self.data)

    def test_only_missing_ones_are_attached(self) -> None:
        del self.domain.devices[0]
        self.attach()
        self.assertEqual({'0x01', '0x02'}, set(self.domain.slots))

    def test_twice(self) -> None:
        self.domain.devices.clear()
        self.attach()
        self.attach()
        self.assertEqual(['0x01', '0x02'], self.domain.slots)

    def test_guest_that_does_not_run_gets_them_when_it_starts(self) -> None:
        self.domain.state_now = base.SHUTOFF
        self.domain.devices.clear()
        self.attach()
        self.assertEqual([], self.domain.slots)
        self.assertIn('gets them when it starts', self.log.output)

    def test_guest_that_is_gone(self) -> None:
        self.domain.exists = False
        self.attach()

    def test_failure_is_raised_after_all_were_tried(self) -> None:
        self.domain.devices.clear()
        self.domain.attach_errors = {'0x01'}
        error = self.assertRaises(exception.HypervisorError, self.attach)
        self.assertIn('in use elsewhere', str(error))
        self.assertEqual(['0x02'], self.domain.slots)


class ResumeTest(UndoingTestCase):
    """A guest whose memory was saved."""

    def resume(self, paused: bool = False) -> int:
        """Do what recovery does, and say what state that makes."""
        self.undoing.resume({'paused': paused})
        state: int = self.domain.state_now
        return state

    def test_running(self) -> None:
        self.domain.state_now, self.domain.is_saved = base.SHUTOFF, True
        self.assertEqual(base.RUNNING, self.resume())
        self.assertFalse(self.domain.is_saved)

    def test_paused(self) -> None:
        self.domain.state_now, self.domain.is_saved = base.SHUTOFF, True
        self.assertEqual(base.PAUSED, self.resume(paused=True))

    def test_that_was_never_saved(self) -> None:
        self.assertEqual(base.RUNNING, self.resume(paused=True))

    def test_whose_save_ends_while_it_is_looked_at(self) -> None:
        def end_save() -> None:
            self.domain.state_now, self.domain.is_saved = base.SHUTOFF, True

        self.domain.ask_for_job = end_save
        self.assertEqual(base.RUNNING, self.resume())

    def test_that_was_shut_off_by_somebody_else(self) -> None:
        self.domain.state_now = base.SHUTOFF
        self.assertEqual(base.SHUTOFF, self.resume())


class RemoveFolderTest(base.GuestTestCase):
    """Temporary files."""

    def test_with_all_that_is_in_it(self) -> None:
        folder = self.folder() / 'a'
        (folder / 'b').mkdir(parents=True)
        (folder / 'b' / 'delta').write_bytes(b'x')
        duties.remove_folder({'folder': str(folder)})
        self.assertFalse(folder.exists())

    def test_twice(self) -> None:
        folder = self.folder() / 'a'
        folder.mkdir()
        for _number in range(2):
            duties.remove_folder({'folder': str(folder)})
        self.assertFalse(folder.exists())
