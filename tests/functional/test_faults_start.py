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

"""What a guest needs to start again, and what becomes of it without that.

A guest that is suspended for its snapshot has to come back.
"""

import pathlib

from tests.functional import base
from tests.functional import faults
from tests.lab import guest as guest_lib
from tests.lab import root_disk
from tests.lab import steps

#: A libvirt network that needs neither a firewall nor a server of names.
NETWORK = """<network>
  <name>nova-snap-test</name>
  <forward mode='open'/>
  <bridge name='nsnaptest0' stp='off'/>
  <dns enable='no'/>
  <ip address='192.0.2.1' prefix='30'/>
</network>"""

INTERFACE = """<interface type='network'>
  <source network='nova-snap-test'/>
  <model type='virtio'/>
</interface>"""


class StartTestCase(faults.FaultTestCase):
    """The cold pipeline."""

    OPTIONS = faults.COLD

    def guest_with_cdrom(self, policy: str = '') -> guest_lib.Guest:
        """Start a guest with a medium in its CD-ROM drive."""
        self.iso = self.directory() / 'medium.iso'
        self.iso.write_bytes(bytes(1 << 20))
        return self.own_guest(
            agent=True,
            devices_xml=f"""<disk type='file' device='cdrom'>
              <source file='{self.iso}' {policy}/>
              <target dev='hdc' bus='ide'/>
              <readonly/>
            </disk>""",
        )

    def assert_refused(self, guest: guest_lib.Guest, *patterns: str) -> None:
        """Check that a snapshot fails before the guest is suspended."""
        found = base.Found.of(guest)
        self.snapshot_fails(guest, 2, guest.uuid, *patterns)
        done = self.run_command('explain', guest.uuid, status=2)
        self.assertIn('could not be started again', done.stderr)
        self.assert_as_found(guest, found)
        self.assertEqual([], list(self.images.list()))
        self.assert_nothing_left()


class TestBefore(StartTestCase):
    """Refused by name, before anything is touched."""

    def test_medium_was_deleted(self) -> None:
        guest = self.guest_with_cdrom()
        self.iso.unlink()
        self.assert_refused(guest, 'hdc', str(self.iso))

    def test_medium_that_libvirt_does_without(self) -> None:
        guest = self.guest_with_cdrom("startupPolicy='optional'")
        self.iso.unlink()
        found = base.Found.of(guest)
        self.assert_ended(self.begin(guest, speed=None), 0)
        self.assertTrue(guest.is_ticking())
        self.assertEqual(found.definition, guest.inactive_xml())

    def test_base_image_was_renamed(self) -> None:
        guest = self.own_guest(kind=root_disk.Kind.OVERLAY)
        assert guest.spec.disk.backing is not None
        lost = guest.spec.disk.backing.rename(
            guest.spec.disk.backing.with_suffix('.away')
        )
        self.assert_refused(guest, 'vda', str(guest.spec.disk.backing))
        lost.rename(guest.spec.disk.backing)
        self.assert_ended(self.begin(guest, speed=None), 0)

    def test_pull_does_without_a_base_image_that_was_renamed(self) -> None:
        guest = self.own_guest(kind=root_disk.Kind.OVERLAY)
        assert guest.spec.disk.backing is not None
        lost = guest.spec.disk.backing.rename(
            guest.spec.disk.backing.with_suffix('.away')
        )
        self.addCleanup(lost.unlink)
        found = base.Found.of(guest)
        ticks = guest.ticks()
        self.configure(
            snapshot={'live_method': 'pull'},
            workarounds={'disable_libvirt_livesnapshot': 'false'},
        )
        self.assert_ended(self.begin(guest, speed=None), 0)
        self.assert_image_right(self.the_image(), ticks)
        self.assert_as_found(guest, found)

    def test_network_was_stopped(self) -> None:
        with self.libvirtd.connection() as connection:
            network = connection.networkDefineXML(NETWORK)
            self.addCleanup(self.remove_network)
            network.create()
        guest = self.own_guest(devices_xml=INTERFACE)
        with self.libvirtd.connection() as connection:
            connection.networkLookupByName('nova-snap-test').destroy()
        self.assert_refused(guest, 'nova-snap-test')

    def remove_network(self) -> None:
        """Remove the network, which may be active."""
        with self.libvirtd.connection() as connection:
            network = connection.networkLookupByName('nova-snap-test')
            if network.isActive():
                network.destroy()
            network.undefine()


class TestMeanwhile(StartTestCase):
    """Lost while the guest is suspended."""

    def test_start_fails_and_recovery_repeats_it(self) -> None:
        guest = self.guest_with_cdrom()
        away = pathlib.Path(f'{self.iso}.away')
        with self.held_at(steps.after('managed-save'), guest) as process:
            self.iso.rename(away)
        self.assert_ended(
            process, 1, guest.uuid, 'start the guest again', 'recover'
        )
        self.assert_image_right(self.the_image(), 0)
        self.assertEqual('shut off', guest.state())
        self.run_command('recover', status=1)
        away.rename(self.iso)
        self.run_command('recover')
        self.assertTrue(guest.is_ticking())
        # It was saved with its file systems frozen.
        self.assertEqual('thawed', guest.agent('guest-fsfreeze-status'))
        self.assert_nothing_left()
