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


"""Checks before the disks of a guest are replaced.

Open this file to see why a guest is not rebuilt.
"""

from collections.abc import Collection
from collections.abc import Sequence
import pathlib

from nova_snap import exception
from nova_snap.objects import power_state
from nova_snap.virt.libvirt import disk_xml
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import inspection as inspection_lib
from nova_snap.virt.libvirt import power
from nova_snap.virt.libvirt import rebuild_xml
from nova_snap.virt.libvirt import requirements
from nova_snap.virt.libvirt import root_disk

_REFUSED_STATES = {
    power_state.PowerState.NOSTATE: 'its state is not known.',
    power_state.PowerState.PAUSED: 'it is paused; resume or stop it first.',
    power_state.PowerState.SUSPENDED: (
        'it is suspended to memory; wake it up first.'
    ),
}

_OF_NOVA = (
    'it is a server of Nova, which does not know of the new disks: its next '
    'hard reboot boots the old ones. With --force, it is done all the same.'
)


def require(
    found: inspection_lib.Inspection,
    definition: str,
    devices: Collection[str],
    directory: pathlib.Path,
    includes_nova: bool,
) -> None:
    """Raise Conflict if the disks of a guest can't be replaced.

    :param definition: the persistent one.
    :param devices: target names of the disks that are replaced.
    :param directory: block jobs that copy into a folder in it are ours.
    :raises RebuildRefused: or another Conflict.
    """
    reason = _why_not(found, definition, devices, includes_nova)
    if reason is not None:
        raise exception.RebuildRefused(server=found.guest.uuid, reason=reason)
    power.require_no_job(found, directory)


def _why_not(
    found: inspection_lib.Inspection,
    definition: str,
    devices: Collection[str],
    includes_nova: bool,
) -> str | None:
    root = domain_xml.parse(found.xml)
    if domain_xml.nova_element(root) is not None and not includes_nova:
        return _OF_NOVA
    if not found.is_persistent:
        return (
            'libvirt forgets a transient guest that ends; define it first '
            '("virsh define").'
        )
    if found.power_state in _REFUSED_STATES:
        return _REFUSED_STATES[found.power_state]
    if found.guest.saved_memory() is guest_lib.SavedMemory.WHOLE:
        return (
            'its memory is saved, and belongs to the disks that it has. Start '
            'it, or remove the memory ("virsh managedsave-remove").'
        )
    if found.has_metadata:
        return (
            'it has snapshots or checkpoints of libvirt, which are of the '
            'disks that it has; delete them first ("virsh snapshot-list", '
            '"virsh checkpoint-list").'
        )
    for device in power.other_disks(found, definition):
        return (
            f'it runs with another disk {device} than its definition has '
            '("virsh dumpxml --inactive").'
        )
    rest = rebuild_xml.without_disks(definition, devices)
    missing = requirements.missing(found.guest, rest)
    if missing:
        return f'it could not be started again: {"; ".join(missing)}.'
    return None


def chosen(
    found: inspection_lib.Inspection,
    disks: Sequence[disk_xml.Disk],
    wanted: Sequence[str | None],
) -> list[disk_xml.Disk]:
    """Return the disks of a guest that are to be replaced.

    :param disks: all of its definition.
    :param wanted: target names; None is the root disk.
    :raises Invalid: it has no such disk.
    :raises RebuildRefused: a disk is not replaced.
    """
    known = {disk.device: disk for disk in root_disk.hard_disks(disks)}
    names = [name or next(iter(known), '') for name in wanted]
    for name in names:
        if name not in known:
            has = ', '.join(known) or 'none'
            raise exception.Invalid(
                f'The image is of a disk {name}, and server '
                f'{found.guest.uuid} has no such disk; it has {has}.'
            )
        reason = _why_not_replaced(known[name])
        if reason is not None:
            raise exception.RebuildRefused(
                server=found.guest.uuid, reason=f'its disk {name} {reason}'
            )
    return [known[name] for name in names]


def _why_not_replaced(disk: disk_xml.Disk) -> str | None:
    if disk.volume_id is not None:
        return 'is a volume of Cinder.'
    if disk.readable is None or disk.readable.type not in ('file', 'block'):
        return 'is neither a file nor a block device of this host.'
    if disk.kind != 'disk':
        return 'is passed through to it.'
    if disk.readable.is_encrypted:
        return 'is encrypted, and the new one would not be.'
    if disk.is_shareable or disk.is_readonly or disk.is_transient:
        return 'is shared, read-only or transient.'
    return None
