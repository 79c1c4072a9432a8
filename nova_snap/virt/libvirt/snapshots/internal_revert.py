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

"""Going back to an internal domain snapshot.

libvirt does that, and what the disks have then is gone.  So an internal one of
the state before is taken first, which is gone back to if the guest does not
start.  Open this file for the order of the steps.
"""

import dataclasses

from oslo_log import log as logging

from nova_snap import exception
from nova_snap import journal
from nova_snap import progress as progress_lib
from nova_snap import undo
from nova_snap.virt import domain_snapshot
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import undo_steps
from nova_snap.virt.libvirt.snapshots import calls
from nova_snap.virt.libvirt.snapshots import creation
from nova_snap.virt.libvirt.snapshots import revert_steps

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class GoBackInside(
    undo.Step, kind='go back to the internal state before a revert'
):
    """Make a guest again what it was before a revert.

    :ivar name: the domain snapshot that was gone back to.
    :ivar before: the one that has the state before.
    :ivar keeps: it is to be kept.
    :ivar was: what the guest was.
    :ivar becomes: what it is to be; None: as it was then.
    :ivar run: of QEMU then, None if it did not run.
    :ivar has_begun: libvirt was asked to go back.
    """

    name: str
    before: str
    keeps: bool
    was: str
    becomes: str
    run: str | None
    has_begun: bool = False
    control: revert_steps.Control = dataclasses.field(
        default_factory=revert_steps.Control, metadata=undo.VOLATILE
    )

    def undo(self, resources: undo.Resources) -> None:
        """Make the guest what it was, unless it has gone back by now.

        :raises MayHaveMoved: another host may have the guest now.
        :raises NovaSnapError: that is not possible.
        """
        guest = resources.get(guest_lib.Guest)
        try:
            if undo_steps.has_left(guest, resources, guest.xml):
                return
            found = calls.xmls(guest)
            if self.before not in found:
                return  # nothing was begun, or all is done
            is_back = self.name in found and found[self.name][1]
            if self.has_begun:
                self._end(guest, is_back and not self.control.has_failed)
            else:
                calls.delete_internal(guest, self.before)
        except exception.GuestGone:
            LOG.warning(
                'Server %s is not there any more.',
                guest.uuid,
                instance_uuid=guest.uuid,
            )

    def _end(self, guest: guest_lib.Guest, is_back: bool) -> None:
        """Settle what libvirt was asked to do.

        :param is_back: libvirt (9.0) has made the domain snapshot the current
            one, which it does when the guest has been started; the guest may
            have been stopped since.
        """
        run = guest.run()
        if is_back:
            self.finish(guest)
        elif run is not None and run == self.run:
            calls.delete_internal(guest, self.before)  # it was never stopped
        elif run is not None and not self.control.has_failed:
            LOG.warning(
                'Server %(server)s was started since its revert was '
                'interrupted, and is left as it is; what it was before is in '
                'the domain snapshot %(before)s.',
                {'server': guest.uuid, 'before': self.before},
                instance_uuid=guest.uuid,
            )
        else:
            self._go_back(guest)
            calls.delete_internal(guest, self.before)

    def _go_back(self, guest: guest_lib.Guest) -> None:
        LOG.warning(
            'Server %s goes back to the state before its revert.',
            guest.uuid,
            instance_uuid=guest.uuid,
        )
        was_off = self.was == revert_steps.OFF
        paused = None if was_off else self.was == revert_steps.PAUSED
        calls.revert_internal(guest, self.before, paused)

    def finish(self, guest: guest_lib.Guest) -> None:
        """Delete the state before, unless it is to be kept."""
        if not self.keeps:
            calls.delete_internal(guest, self.before)


@dataclasses.dataclass(frozen=True)
class LibvirtInternalRevert(domain_snapshot.Revert):
    """The plan of going back to an internal domain snapshot.

    :ivar before: the plan of the one that has the state before.
    :ivar paused: the guest is started, paused or not; None: as it was then.
    """

    guest: guest_lib.Guest
    name: str
    was: str
    becomes: str
    paused: bool | None
    keeps: bool
    before: creation.LibvirtCreation

    def described(self) -> dict[str, str]:
        """Return what would be done."""
        return {
            'name': self.name,
            'guest': f'is {self.was}, will be {self.becomes}',
            'before': f'domain snapshot {self.before.name}'
            + ('' if self.keeps else ', deleted afterwards'),
        }

    def revert(
        self, entry: journal.Entry, progress: progress_lib.Progress
    ) -> None:
        """Keep the state before, let libvirt go back, and forget it."""
        step = GoBackInside(
            name=self.name,
            before=self.before.name,
            keeps=self.keeps,
            was=self.was,
            becomes=self.becomes,
            run=self.guest.run(),
        )
        with entry.undoing(step):
            self.before.create(entry, progress)
            progress.check()
            begun = dataclasses.replace(step, has_begun=True)
            with entry.replacing(step, begun):
                begun.control.has_failed = True
                calls.revert_internal(self.guest, self.name, self.paused)
                self._require_well()
                begun.control.has_failed = False
                begun.finish(self.guest)
                entry.drop(begun)

    def _require_well(self) -> None:
        is_active = self.guest.run() is not None
        if is_active is (self.becomes == revert_steps.OFF):
            raise exception.HypervisorError(
                action=f'revert to domain snapshot {self.name}',
                reason='the guest is not what it was then; the log of its '
                'QEMU may say why',
            )
