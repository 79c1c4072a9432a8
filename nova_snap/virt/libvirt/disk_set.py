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
from nova_snap.virt.storage import disk_source as storage


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """A disk of which no image is made, and why."""

    disk: disk_xml.Disk
    reason: str


@dataclasses.dataclass(frozen=True)
class DiskSet:
    """The disks of one request.

    :ivar further: the disks of the same moment as the root disk.
    :ivar left_out: the other disks, if the request is about several.
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

    @property
    def is_set_in_ceph(self) -> bool:
        """True if there are several disks, and all that is wanted is in Ceph.

        Volumes are not: Cinder would have to take its snapshots again if no
        image could be made inside Ceph.
        """
        return bool(self.further) and all(
            not self._is_apart(disk)
            and isinstance(disk.source.location, storage.RbdLocation)
            for disk in self.wanted
        )

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
    if not choice.is_several:
        return DiskSet(root)
    for device in choice.named:
        root_disk.require_device(disks, device)
    named = [_find(disks, device) for device in choice.named]
    wanted = dict.fromkeys(named)  # in the order of the request
    if choice.is_every:
        others = root_disk.hard_disks(disks, choice.root)
        wanted |= dict.fromkeys(
            disk for disk in others if _why_left_out(disk, choice) is None
        )
    wanted.pop(root.disk, None)
    further = tuple(wanted)
    left_out = tuple(_left_out(disks, (root.disk, *further), choice))
    found = DiskSet(root, further, left_out, is_set=True)
    _require_set(found, choice)
    return found


def _find(disks: Sequence[disk_xml.Disk], device: str) -> disk_xml.Disk:
    return next(disk for disk in disks if disk.device == device)


def _why_left_out(
    disk: disk_xml.Disk, choice: instance_lib.DiskChoice
) -> str | None:
    """Return why no image is made of a disk unless it is named, or None."""
    if not root_disk.is_hard_disk(disk):
        return f'it is a drive for removable media ({disk.kind})'
    if disk.is_config_drive:
        return 'it is the config drive, which Nova makes for each server'
    if choice.without_volumes and disk.volume_id is not None:
        return f'it is volume {disk.volume_id} of Cinder'
    if disk.is_readonly:
        return 'it is read-only, so the guest does not change it'
    return None


def _left_out(
    disks: Sequence[disk_xml.Disk],
    taken: Sequence[disk_xml.Disk],
    choice: instance_lib.DiskChoice,
) -> Iterator[LeftOut]:
    """Yield the disks of which no image is made."""
    for disk in disks:
        if disk not in taken:
            reason = _why_left_out(disk, choice)
            yield LeftOut(disk, reason or 'the request does not name it')


def _require_set(found: DiskSet, choice: instance_lib.DiskChoice) -> None:
    """Raise Unsupported if the disks can't be read together.

    The error names every disk that can't, so that a user who names the others
    has to do so once.
    """
    problems: dict[disk_xml.Disk, str] = {}
    for disk in found.further:
        problem = _problem(
            disk,
            is_read=disk not in found.volumes,
            is_named=disk.device in choice.named,
        )
        if problem is not None:
            problems[disk] = problem
    first: dict[str, disk_xml.Disk] = {}
    for disk in found.wanted:
        if disk in problems:
            continue
        if disk in found.volumes:
            name = f'volume {disk.volume_id}'
        else:
            name = disk.source.describe()
        if name in first:
            other = first[name].device
            problems[disk] = (
                f'its disks {other} and {disk.device} are the same: {name}.'
            )
        first.setdefault(name, disk)
    if problems:
        others = [d.device for d in found.wanted if d not in problems]
        advice = ' '.join(f'--disk {device}' for device in others)
        raise disk_xml.Unsupported(
            f'{" Also, ".join(problems.values())} To take the other disks '
            f'only, name them: {advice}.'
        )


def _problem(disk: disk_xml.Disk, is_read: bool, is_named: bool) -> str | None:
    """Return why a disk can't be of a set, a sentence, or None."""
    if disk.is_shareable and not is_named:
        return (
            f'other guests may write to its disk {disk.device} '
            '(<shareable/>), so it cannot be read as of one moment.'
        )
    if is_read:
        try:
            root_disk.require_readable(disk)
        except disk_xml.Unsupported as error:
            return str(error)
    return None
