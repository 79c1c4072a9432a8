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

"""Choosing the disks that are read at one moment: pure functions.

Open this file to change which disks ``--all-disks`` takes, leaves out and
refuses.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses

from nova_snap.objects import instance as instance_lib
from nova_snap.virt.libvirt import disk_xml
from nova_snap.virt.libvirt import root_disk

_ADVICE = 'Name the disks to take with --disk.'


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """A disk of which no image is made, and why."""

    disk: disk_xml.Disk
    reason: str


@dataclasses.dataclass(frozen=True)
class DiskSet:
    """The disks of one request.

    :ivar further: the disks of the same moment as the root disk.
    :ivar is_set: Cinder takes snapshots of its volumes; otherwise a root disk
        that is a volume is read.
    """

    root: root_disk.Choice
    further: tuple[disk_xml.Disk, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    is_set: bool = False

    @property
    def wanted(self) -> tuple[disk_xml.Disk, ...]:
        """All disks that the request is about, the root disk first."""
        return (self.root.disk, *self.further)

    @property
    def disks(self) -> tuple[disk_xml.Disk, ...]:
        """All disks that are read, the root disk first if it is."""
        return tuple(disk for disk in self.wanted if not self._is_apart(disk))

    @property
    def volumes(self) -> tuple[disk_xml.Disk, ...]:
        """The volumes of which Cinder takes snapshots."""
        return tuple(disk for disk in self.wanted if self._is_apart(disk))

    def _is_apart(self, disk: disk_xml.Disk) -> bool:
        return self.is_set and disk.volume_id is not None


def choose(
    disks: Sequence[disk_xml.Disk], choice: instance_lib.DiskChoice
) -> DiskSet:
    """Choose the disks that a request is about.

    :param disks: all of the guest.
    :raises Unsupported: no image can be made of one of them.
    """
    root = root_disk.choose(
        disks, choice.root, reads_volumes=not choice.is_several
    )
    hard = root_disk.hard_disks(disks, choice.root)
    for device in choice.named:
        root_disk.require_device(hard, device)
    named = [
        disk
        for device in choice.named
        for disk in hard
        if disk.device == device
    ]
    further = list(dict.fromkeys(named[1:]))
    left_out: list[LeftOut] = []
    if choice.is_every:
        left_out += _drives(disks)
        for disk in hard:
            if disk == root.disk or disk in further:
                continue
            if disk.is_readonly:
                reason = 'it is read-only, so the guest does not change it'
                left_out.append(LeftOut(disk, reason))
                continue
            if disk.is_shareable:
                raise disk_xml.Unsupported(
                    f'other guests may write to its disk {disk.device} '
                    '(<shareable/>), so it cannot be read as of one moment. '
                    f'{_ADVICE}'
                )
            further.append(disk)
    found = DiskSet(root, tuple(further), tuple(left_out), choice.is_several)
    _require_set(found)
    return found


def _drives(disks: Sequence[disk_xml.Disk]) -> Iterator[LeftOut]:
    for disk in disks:
        if disk.kind in ('cdrom', 'floppy'):
            yield LeftOut(disk, f'it is a {disk.kind}')


def _require_set(found: DiskSet) -> None:
    """Raise Unsupported if the disks can't be read together."""
    names: dict[str, str] = {}
    for disk in found.further:
        if disk not in found.volumes:
            root_disk.require_readable(disk)
    if not found.further:
        return
    for disk in found.wanted:
        if disk in found.volumes:
            name = f'volume {disk.volume_id}'
        else:
            name = disk.source.describe()
        if name in names:
            raise disk_xml.Unsupported(
                f'its disks {names[name]} and {disk.device} are the same: '
                f'{name}.'
            )
        names[name] = disk.device
