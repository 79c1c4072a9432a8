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

    That is the first of the definition, as for Nova.
    """
    return [disk for disk in disks if disk.kind in _HARD_DISKS]


def choose(disks: Sequence[disk_xml.Disk]) -> Choice:
    """Choose the disk of which an image is made.

    A LUN, which is passed through to the guest, is not chosen.

    :raises Unsupported: there is no disk, or the root disk can't be read.
    """
    for disk in hard_disks(disks):
        if disk.kind == 'disk':
            _require_readable(disk)
            return Choice(disk, f'{disk.device} is the first disk.')
    raise disk_xml.Unsupported('it has no disk.')


def _require_readable(disk: disk_xml.Disk) -> None:
    if disk.readable is None:
        raise disk_xml.Unsupported(
            f'its root disk {disk.device} cannot be read: {disk.problem}'
        )
    if disk.source.format not in FORMATS:
        raise disk_xml.Unsupported(
            f'its root disk {disk.device} has the format '
            f'{disk.source.format!r}; {" and ".join(FORMATS)} are supported.'
        )
