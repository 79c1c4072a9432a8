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

"""Choosing the root disk among the disks of a guest: pure functions.

Open this file to change which disk an image is made of.
"""

from collections.abc import Sequence
import dataclasses

from nova_snap.virt.libvirt import disk_xml

FORMATS = ('qcow2', 'raw')

#: Kinds of disks that a guest boots from; a drive has no root disk in it.
_HARD_DISKS = ('disk', 'lun')


@dataclasses.dataclass(frozen=True)
class Choice:
    """The root disk; ``reason`` is a phrase for people."""

    disk: disk_xml.Disk
    reason: str


def hard_disks(
    disks: Sequence[disk_xml.Disk], root_device: str | None = None
) -> list[disk_xml.Disk]:
    """Return the hard disks, the one that the guest boots from first.

    That is the one with the lowest boot order; if none has an order, it is
    the first of the definition, as for Nova.  libvirt passes this choice to
    the firmware: https://libvirt.org/formatdomain.html#bios-bootloader

    :param root_device: the target name of the disk that comes first instead.
    :raises Unsupported: there is no such disk.
    """
    if root_device is not None:
        require_device(disks, root_device)
    return sorted(
        filter(is_hard_disk, disks),
        key=lambda disk: (
            disk.device != root_device,
            disk.boot_order is None,
            disk.boot_order or 0,
        ),
    )


def choose(
    disks: Sequence[disk_xml.Disk],
    root_device: str | None = None,
    reads_volumes: bool = True,
) -> Choice:
    """Choose the disk of which an image is made.

    :param root_device: as of :func:`hard_disks`.
    :param reads_volumes: False if a volume of Cinder need not be readable.
    :raises Unsupported: there is no disk, or the root disk can't be read.
    """
    hard = hard_disks(disks, root_device)
    if not hard:
        raise disk_xml.Unsupported('it has no disk.')
    disk, *others = hard
    try:
        if reads_volumes or disk.volume_id is None:
            require_readable(disk, 'root disk')
    except disk_xml.Unsupported as error:
        raise disk_xml.Unsupported(f'{error}{_hint(others)}') from None
    if root_device is not None:
        reason = 'the request names it'
    elif disk.boot_order is not None:
        reason = 'the guest boots from it: it is the first in the boot order'
    elif len(hard) > 1:
        reason = 'it is the first disk, and no disk has a boot order'
    else:
        reason = 'it is the only disk'
    return Choice(disk, reason)


def require_readable(disk: disk_xml.Disk, role: str = 'disk') -> None:
    """Raise Unsupported if no image can be made of a hard disk.

    :param role: what the disk is for the request, for people.
    """
    name = f'its {role} {disk.device}'
    if disk.kind == 'lun':
        raise disk_xml.Unsupported(
            f'{name} is a LUN that is passed through to it (device="lun"), '
            'and those are not read.'
        )
    if disk.readable is None:
        raise disk_xml.Unsupported(f'{name} cannot be read: {disk.problem}')
    if disk.source.format not in FORMATS:
        raise disk_xml.Unsupported(
            f'{name} has the format {disk.source.format!r}; '
            f'{" and ".join(FORMATS)} are supported.'
        )


def is_hard_disk(disk: disk_xml.Disk) -> bool:
    """Return True if a disk is not a drive for removable media."""
    return disk.kind in _HARD_DISKS


def require_device(disks: Sequence[disk_xml.Disk], device: str) -> None:
    """Raise Unsupported if a request names no hard disk of a guest.

    :param disks: all of the guest.
    """
    names = [disk.device for disk in filter(is_hard_disk, disks)]
    if device in names:
        return
    found = ', '.join(names) or 'none'
    for disk in disks:
        if disk.device == device:
            raise disk_xml.Unsupported(
                f'its {device} is a drive for removable media ({disk.kind}), '
                f'of which no image is made; its disks are {found}.'
            )
    raise disk_xml.Unsupported(f'it has no disk {device}; it has {found}.')


def _hint(others: Sequence[disk_xml.Disk]) -> str:
    """Return a sentence that names the disks to choose instead, or ''."""
    names = ', '.join(disk.device for disk in others if _is_readable(disk))
    if not names:
        return ''
    return (
        f' With --disk, nova-snap takes an image of another of its disks: '
        f'{names}.'
    )


def _is_readable(disk: disk_xml.Disk) -> bool:
    try:
        require_readable(disk)
    except disk_xml.Unsupported:
        return False
    return True
