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

"""Checks before a snapshot begins: of what would make it fail later.

Open this file to see why a guest is refused.
"""

from nova_snap import exception
from nova_snap.objects import power_state
from nova_snap.virt import decision as decision_lib
from nova_snap.virt.libvirt import disk_xml
from nova_snap.virt.libvirt import inspection as inspection_lib
from nova_snap.virt.libvirt import requirements
from nova_snap.virt.storage import qemu_img

#: States in which QEMU has the disk open and can't be suspended.
_UNREADABLE_STATES = {
    power_state.PowerState.NOSTATE: 'its state is not known.',
    power_state.PowerState.CRASHED: 'it has crashed; stop or reset it first.',
    power_state.PowerState.SUSPENDED: (
        'it is suspended to memory; wake it up first.'
    ),
}


def require_suspendable(
    found: inspection_lib.Inspection,
    decision: decision_lib.Decision,
) -> None:
    """Raise UnsupportedGuest if the disks of a guest can't be read.

    Its state may not allow that; or the decision is to suspend it, and that
    would fail, or it could not be started again.
    """
    reason = _UNREADABLE_STATES.get(found.power_state)
    if reason is None and decision.suspends:
        reason = _why_not_suspended(found, decision)
    if reason is not None:
        raise exception.UnsupportedGuest(
            server=found.guest.uuid, reason=reason
        )
    if decision.suspends:
        requirements.require(
            found.guest, found.xml, _without_suspending(decision)
        )


def require_no_backup(found: inspection_lib.Inspection) -> None:
    """Raise Conflict if another program's backup of the guest runs.

    blockJobAbort before a mirror would end a backup, too (libvirt 9.0), and
    so would suspending the guest.
    """
    if found.has_backup_job:
        raise exception.Conflict(
            'Another program takes a backup of server '
            f'{found.guest.uuid} (see "virsh domjobinfo"); wait until it has '
            'ended, then try again.'
        )


def require_no_data_file(
    disk: disk_xml.Disk, decision: decision_lib.Decision
) -> None:
    """Raise now if qemu-img would refuse a layer later; see ``qemu_img``."""
    match decision.method:
        case decision_lib.Method.PULL | decision_lib.Method.RBD_DIRECT:
            return  # QEMU reads all of the disk, or nobody does
        case decision_lib.Method.MIRROR:
            source = disk.source.backing
        case _:
            source = disk.source
    if source is not None:
        qemu_img.require_no_data_file(source, is_in_use=True)


def _why_not_suspended(
    found: inspection_lib.Inspection, decision: decision_lib.Decision
) -> str | None:
    """Return a sentence on why a guest can't be suspended, or None."""
    for disk in found.disks:
        if disk.is_transient:
            return (
                f'libvirt neither copies a transient disk ({disk.device}, '
                '<transient/>) of a running guest, nor suspends such a guest; '
                'shut it off first.'
            )
    if not found.is_persistent:
        return (
            'it would have to be suspended, and libvirt suspends only '
            'persistent guests; define it first ("virsh define").'
        )
    if found.has_saved_memory:
        advice = _without_suspending(decision)
        return (
            'it would have to be suspended, which would overwrite the memory '
            'of an earlier run that libvirt keeps. If nobody needs that, '
            f'remove it ("virsh managedsave-remove {found.guest.uuid}"). '
            f'{advice}'
        ).rstrip()
    return None


def _without_suspending(decision: decision_lib.Decision) -> str:
    """Return a sentence that names live methods to configure, or ''."""
    methods = sorted(decision.alternatives)
    if not methods:
        return ''
    return (
        f'With [snapshot] live_method = {" or ".join(methods)} it would keep '
        'running.'
    )
