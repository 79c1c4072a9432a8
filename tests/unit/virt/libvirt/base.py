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


"""A real Guest on a libvirt whose faults come at will."""

import contextlib
import pathlib

import fixtures
import libvirt

from nova_snap import journal as journal_lib
from nova_snap import progress as progress_lib
from nova_snap import undo
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import hooks as hooks_lib
from nova_snap.virt.libvirt import host as host_lib
from tests.unit import base
from tests.unit.virt.libvirt import fake_libvirt
from tests.unit.virt.libvirt import samples

RUNNING = libvirt.VIR_DOMAIN_RUNNING
PAUSED = libvirt.VIR_DOMAIN_PAUSED
SHUTOFF = libvirt.VIR_DOMAIN_SHUTOFF


class GuestTestCase(base.TestCase):
    """A guest with a domain, and a journal."""

    def setUp(self) -> None:
        super().setUp()
        self.useFixture(
            fixtures.MonkeyPatch(
                'nova_snap.virt.libvirt.undo_steps.DETACH_GRACE', 0.4
            )
        )
        self.journal = journal_lib.Journal(self.folder() / 'journal')
        self.progress = progress_lib.Progress(samples.UUID)

    def use(self, domain: fake_libvirt.Domain) -> guest_lib.Guest:
        """Make the guest of a domain."""
        connection = fake_libvirt.Connection(domain)
        self.useFixture(
            fixtures.MonkeyPatch('libvirt.open', lambda _uri: connection)
        )
        self.useFixture(
            fixtures.MonkeyPatch(
                'libvirt_qemu.qemuAgentCommand', fake_libvirt.agent_command
            )
        )
        host = host_lib.Host('fake:///system')
        return guest_lib.Guest(host, samples.UUID, samples.NAME)

    def steps_left(self) -> list[str]:
        """Return the kinds of the steps that are on disk."""
        return [
            kind for entry in self.journal.entries() for kind in entry.kinds
        ]

    def begun(
        self, guest: guest_lib.Guest
    ) -> contextlib.AbstractContextManager[journal_lib.Entry]:
        """Begin an entry of the journal, for operations on the guest."""
        return self.journal.begun(
            samples.UUID, samples.NAME, undo.Resources(guest, hooks_lib.NONE)
        )

    def disk_with(self, content: bytes) -> pathlib.Path:
        """Write a raw disk to a file."""
        path = self.folder() / 'disk'
        path.write_bytes(content)
        return path
