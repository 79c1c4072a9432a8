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


def hard_disks(disks: Sequence[disk_xml.Disk]) -> list[disk_xml.Disk]:
    """Return the hard disks, the one that the guest boots from first.

    That is the one with the lowest boot order; if none has an order, it is
    the first of the definition, as for Nova.  libvirt passes this choice to
    the firmware: https://libvirt.org/formatdomain.html#bios-bootloader
    """
    hard = [disk for disk in disks if disk.kind in _HARD_DISKS]
    return sorted(
        hard,
        key=lambda disk: (disk.boot_order is None, disk.boot_order or 0),
    )


def choose(disks: Sequence[disk_xml.Disk]) -> Choice:
    """Choose the disk of which an image is made.

    :raises Unsupported: there is no disk, or the root disk can't be read.
    """
    hard = hard_disks(disks)
    if not hard:
        raise disk_xml.Unsupported('it has no disk.')
    disk = hard[0]
    _require_readable(disk)
    if disk.boot_order is not None:
        reason = 'the guest boots from it: it is the first in the boot order'
    elif len(hard) > 1:
        reason = 'it is the first disk, and no disk has a boot order'
    else:
        reason = 'it is the only disk'
    return Choice(disk, reason)


def _require_readable(disk: disk_xml.Disk) -> None:
    if disk.kind == 'lun':
        raise disk_xml.Unsupported(
            f'its root disk {disk.device} is a LUN that is passed through to '
            'it (device="lun"), and those are not read.'
        )
    if disk.readable is None:
        raise disk_xml.Unsupported(
            f'its root disk {disk.device} cannot be read: {disk.problem}'
        )
    if disk.source.format not in FORMATS:
        raise disk_xml.Unsupported(
            f'its root disk {disk.device} has the format '
            f'{disk.source.format!r}; {" and ".join(FORMATS)} are supported.'
        )
