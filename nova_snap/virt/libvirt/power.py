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

"""Power actions on a guest of libvirt.

Open this file for what is done to a guest that is paused, suspended, stopped
or rebooted, and for what is looked at before.
"""

from collections.abc import Callable
import dataclasses
import pathlib

from nova_snap import exception
from nova_snap import journal
from nova_snap.objects import power_state
from nova_snap.virt import power
from nova_snap.virt.libvirt import block_device
from nova_snap.virt.libvirt import disk_xml
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import inspection as inspection_lib
from nova_snap.virt.libvirt import plan_checks
from nova_snap.virt.libvirt import power_steps
from nova_snap.virt.libvirt import quiesce
from nova_snap.virt.libvirt import requirements
from nova_snap.virt.libvirt import root_disk
from nova_snap.virt.libvirt import shutdown

#: Actions after which QEMU has ended, at least for a moment.
_ENDING = (
    power.Action.SUSPEND,
    power.Action.STOP,
    power.Action.SOFT_REBOOT,
    power.Action.HARD_REBOOT,
)

_REBOOTS = (power.Action.SOFT_REBOOT, power.Action.HARD_REBOOT)


@dataclasses.dataclass(frozen=True)
class Timeouts:
    """Seconds that a guest gets to shut down; 0 does not ask the guest."""

    stop: int = 60
    soft_reboot: int = 120


DEFAULT = Timeouts()


class LibvirtPower(power.Power):
    """The power of one guest.

    :param directory: block jobs that copy into a folder in it are ours.
    """

    def __init__(
        self,
        guest: guest_lib.Guest,
        timeouts: Timeouts,
        directory: pathlib.Path,
    ) -> None:
        self._guest = guest
        self._timeouts = timeouts
        self._directory = directory

    def require(self, action: power.Action) -> None:
        """Raise Conflict if the guest could not come back as it is."""
        if action not in _ENDING:
            return
        found = inspection_lib.inspect(self._guest)
        reason = _why_not_ended(found, action)
        if reason is not None:
            raise exception.PowerActionRefused(
                action=action.value, server=self._guest.uuid, reason=reason
            )
        require_no_job(found, self._directory)

    def act(
        self,
        action: power.Action,
        entry: journal.Entry,
        control: power.Control,
    ) -> None:
        """Carry out an action."""
        guest = self._guest
        actions: dict[power.Action, Callable[[], None]] = {
            power.Action.PAUSE: guest.pause,
            power.Action.UNPAUSE: guest.resume,
            power.Action.SUSPEND: lambda: self._suspend(entry),
            power.Action.RESUME: self._resume,
            power.Action.START: lambda: guest.start(paused=False),
            power.Action.STOP: lambda: self._stop(control),
            power.Action.SOFT_REBOOT: lambda: self._reboot(
                entry, control, self._timeouts.soft_reboot
            ),
            power.Action.HARD_REBOOT: lambda: self._reboot(entry, control, 0),
        }
        actions[action]()

    def _suspend(self, entry: journal.Entry) -> None:
        with entry.undoing(power_steps.EndSave()):
            self._guest.managed_save()

    def _resume(self) -> None:
        """Start the guest from its saved memory, or wake it up."""
        if self._guest.power_state() is power_state.PowerState.SUSPENDED:
            self._guest.wake_up()
            return
        self._guest.start(paused=False)
        if self._guest.power_state() is power_state.PowerState.PAUSED:
            # Another program has paused it, and then suspended it.
            self._guest.resume()

    def _stop(self, control: power.Control) -> None:
        run = self._guest.run()
        if run is not None:
            shutdown.end(self._guest, run, self._timeouts.stop, control)

    def _reboot(
        self, entry: journal.Entry, control: power.Control, timeout: int
    ) -> None:
        """End the guest if it runs, and start it without saved memory."""
        step = power_steps.FinishReboot.of(self._guest, timeout)
        with entry.undoing(step):
            if step.run is not None:
                shutdown.end(self._guest, step.run, timeout, control)
            if step.is_saved_since(self._guest):
                raise exception.PowerActionRefused(
                    action='reboot',
                    server=self._guest.uuid,
                    reason='another program has saved its memory meanwhile, '
                    'which would be lost.',
                )
            self._guest.start(paused=False, anew=step.had_saved_memory)


def require_no_job(
    found: inspection_lib.Inspection, directory: pathlib.Path
) -> None:
    """Raise Conflict if another program's work on a guest would be ended.

    :param directory: block jobs that copy into a folder in it are ours.
    """
    if not found.power_state.is_active:
        return
    plan_checks.require_no_backup(found)
    quiesce.require_no_job(found.guest)
    for disk in root_disk.hard_disks(found.disks):
        device = block_device.BlockDevice(found.guest, disk.device)
        device.require_no_foreign_job(directory)


def _why_not_ended(
    found: inspection_lib.Inspection, action: power.Action
) -> str | None:
    """Return why a guest would not come back as it is, or None."""
    if not found.is_persistent:
        return (
            'libvirt forgets a transient guest that ends; define it first '
            '("virsh define").'
        )
    if action is power.Action.SUSPEND:
        return _why_not_suspended(found)
    definition = found.guest.definition().xml
    for device in other_disks(found, definition):
        return (
            f'it runs with another disk {device} than its definition has '
            '("virsh dumpxml --inactive"), and would start with old data.'
        )
    if action in _REBOOTS:
        return _missing(found, definition)
    return None


def _why_not_suspended(found: inspection_lib.Inspection) -> str | None:
    for device in domain_xml.passthrough_devices(found.xml):
        return (
            f'it has the device {device.address} of this host, and memory is '
            'not saved with one.'
        )
    for disk in found.disks:
        if disk.is_transient:
            return (
                f'libvirt suspends no guest with a transient disk '
                f'({disk.device}).'
            )
    if found.has_saved_memory:
        return (
            'that would overwrite the memory of an earlier run that libvirt '
            'keeps ("virsh managedsave-remove" removes it).'
        )
    return _missing(found, found.xml)


def _missing(found: inspection_lib.Inspection, xml: str) -> str | None:
    missing = requirements.missing(found.guest, xml)
    if not missing:
        return None
    return f'it could not be started again: {"; ".join(missing)}.'


def other_disks(
    found: inspection_lib.Inspection, definition: str
) -> list[str]:
    """Return the disks that run with another file than is defined.

    A disk that is not defined at all was added until the guest ends.
    """
    if not found.power_state.is_active:
        return []
    finder = inspection_lib.volume_finder(found.guest.host)
    defined = {
        disk.device: _place(disk)
        for disk in root_disk.hard_disks(disk_xml.disks(definition, finder))
    }
    return [
        disk.device
        for disk in root_disk.hard_disks(found.disks)
        if defined.get(disk.device, _place(disk)) != _place(disk)
    ]


def _place(disk: disk_xml.Disk) -> object:
    """Return where the data of a disk are, as far as libvirt says."""
    return None if disk.readable is None else disk.readable.location
