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

"""The undo steps of power actions.

Open this file for what becomes of a reboot or of a suspension that fails, or
whose process ends.  The steps of snapshots are in ``undo_steps.py``.
"""

from collections.abc import Mapping
import contextlib
import dataclasses
import os

from oslo_log import log as logging

from nova_snap import exception
from nova_snap import this_host
from nova_snap import undo
from nova_snap.objects import power_state
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import shutdown
from nova_snap.virt.libvirt import undo_steps

LOG = logging.getLogger(__name__)

#: Seconds after the longest wait for the guest in which a later process
#: finishes a reboot.  After that, an operator may have stopped the guest.
FINISH_WITHIN = 600


@dataclasses.dataclass(frozen=True)
class EndSave(undo.Step, kind='end the suspension'):
    """End a managed save that a user has asked for."""

    def undo(self, resources: undo.Resources) -> None:
        """Wait until the save has ended; remove what a failed one left.

        A guest that was saved stays suspended.
        """
        guest = resources.get(guest_lib.Guest)
        with contextlib.suppress(exception.GuestGone):
            undo_steps.wait_for_save(guest, self.kind)
            if guest.power_state().is_active:
                undo_steps.remove_broken_save(guest)


@dataclasses.dataclass(frozen=True)
class FinishReboot(undo.Step, kind='finish the reboot'):
    """Finish a reboot: a guest that was asked to shut down has to start.

    :ivar run: of QEMU, which is to end; None if the guest did not run.
    :ivar timeout: seconds that the guest gets to shut down; 0: it is not
        asked.
    :ivar had_saved_memory: the reboot drops memory that was saved before.
    :ivar begun_at: seconds since the boot of the host.
    :ivar disks: all that the guest may start with, and the time of the last
        change of each since it was off; empty if that is not known.
    """

    run: str | None
    timeout: int
    had_saved_memory: bool
    begun_at: float
    disks: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, guest: guest_lib.Guest, timeout: int) -> 'FinishReboot':
        """Make the step of a reboot that is about to begin."""
        saved = guest.saved_memory()
        return cls(
            guest.run(),
            timeout,
            saved is not guest_lib.SavedMemory.NONE,
            this_host.uptime(),
        )

    def is_saved_since(self, guest: guest_lib.Guest) -> bool:
        """Return True if another program has saved memory meanwhile."""
        return (
            not self.had_saved_memory
            and guest.saved_memory() is guest_lib.SavedMemory.WHOLE
        )

    def _hindrance(
        self, guest: guest_lib.Guest, origin: this_host.Origin
    ) -> str | None:
        """Return why a recovery does nothing, or None."""
        age = this_host.uptime()
        if origin.boot == this_host.boot_id():
            age -= self.begun_at
        # Otherwise the host was down: who wanted the guest to be off could say
        # so only since its boot.
        is_late = age > self.timeout + FINISH_WITHIN
        if is_late and not self._has_been_off():
            return f'it was interrupted at least {age:.0f} s ago'
        if (
            guest.run() == self.run is not None
            and guest.power_state() is not power_state.PowerState.RUNNING
        ):
            return 'it was paused meanwhile'
        return None

    def _has_been_off(self) -> bool:
        """Return True if nobody can have stopped the guest since.

        It has not run: nothing was written to its disks.
        """
        return bool(self.disks) and all(
            os.path.exists(path) and os.stat(path).st_mtime_ns == time
            for path, time in self.disks.items()
        )

    def _start(
        self, guest: guest_lib.Guest, resources: undo.Resources
    ) -> None:
        try:
            if self.is_saved_since(guest):
                _log_unfinished(
                    guest, 'another program has saved its memory meanwhile'
                )
                return
            undo_steps.start(
                guest, False, resources, anew=self.had_saved_memory
            )
        except exception.HypervisorError as error:
            LOG.error(
                'Server %(server)s does not run after its reboot: %(error)s',
                {'server': guest.uuid, 'error': error},
                instance_uuid=guest.uuid,
            )

    def undo(self, resources: undo.Resources) -> None:
        """Start the guest, unless it runs.

        A recovery does not know whether the guest was asked to shut down: it
        asks, and waits as long as the reboot would have.  What another
        program has done meanwhile stays: memory that it saved, a pause, and,
        some minutes later, that the guest is off.

        A guest that can't be started stays off, since nobody would expect it
        to start later.

        :raises HypervisorError: the guest was asked to shut down, and runs.
        :raises MayHaveMoved: another host may run the guest now.
        """
        guest = resources.get(guest_lib.Guest)
        origin = resources.find(this_host.Origin)
        try:
            if origin is not None:
                hindrance = self._hindrance(guest, origin)
                if hindrance is not None:
                    _log_unfinished(guest, hindrance)
                    return
                if self.timeout and self.run is not None:
                    shutdown.end(guest, self.run, self.timeout)
            run = guest.run()
            if run is None:
                self._start(guest, resources)
            elif self.timeout and run == self.run:
                raise exception.HypervisorError(
                    action='finish its reboot',
                    reason='it was asked to shut down, and still runs',
                )
        except exception.GuestGone:
            _log_unfinished(guest, 'it was undefined meanwhile')


def _log_unfinished(guest: guest_lib.Guest, reason: str) -> None:
    LOG.warning(
        'The reboot of server %(server)s, which was interrupted, is not '
        'finished: %(reason)s.',
        {'server': guest.uuid, 'reason': reason},
        instance_uuid=guest.uuid,
    )
