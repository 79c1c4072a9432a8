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

"""Deleting domain snapshots.

libvirt forgets a domain snapshot first, so that nobody goes back to it; then
its files are merged or removed.  When that is interrupted, the disks of the
guest and of the other domain snapshots read as before, and a recovery goes on.
Open this file for the order of the steps; what becomes of the files is decided
in ``deletion_plan.py``.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
from typing import Any
from typing import ClassVar

from oslo_log import log as logging

from nova_snap import exception
from nova_snap import journal
from nova_snap import progress as progress_lib
from nova_snap import undo
from nova_snap.virt import domain_snapshot
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import undo_steps
from nova_snap.virt.libvirt.snapshots import calls
from nova_snap.virt.libvirt.snapshots import firmware_state
from nova_snap.virt.libvirt.snapshots import merging
from nova_snap.virt.libvirt.snapshots import rewriting
from nova_snap.virt.libvirt.snapshots import usage
from nova_snap.virt.storage import backing_chain
from nova_snap.virt.storage import layers
from nova_snap.virt.storage import open_files
from nova_snap.virt.storage import qemu_img

LOG = logging.getLogger(__name__)


class Control:
    """Tells a step that the running process has tried it."""

    is_tried = False


@dataclasses.dataclass(frozen=True)
class FinishDeletion(
    undo.Step, kind='finish the deletion of a domain snapshot'
):
    """Merge and remove the files of a domain snapshot that is forgotten.

    :ivar name: of the domain snapshot.
    :ivar children: those that come after it, by their names.
    :ivar merges: fields of :class:`.merging.Merge`.
    :ivar inside: files that have it in themselves, fields of
        :class:`.usage.Layer`.
    :ivar files: that nothing needs any more, the same.
    """

    # Whatever comes next finds disks that can be read, as they are.
    is_blocking: ClassVar[bool] = False

    name: str
    children: Sequence[str]
    merges: Sequence[Mapping[str, Any]]
    inside: Sequence[Mapping[str, Any]]
    files: Sequence[Mapping[str, Any]]
    control: Control = dataclasses.field(
        default_factory=Control, metadata=undo.VOLATILE
    )

    @classmethod
    def of(cls, deletion: 'Single') -> 'FinishDeletion':
        """Make the step of a deletion that is about to begin."""
        return cls(
            deletion.name,
            list(deletion.children),
            [dataclasses.asdict(merge) for merge in deletion.merges],
            [dataclasses.asdict(layer) for layer in deletion.inside],
            [dataclasses.asdict(layer) for layer in deletion.files],
        )

    def undo(self, resources: undo.Resources) -> None:
        """Finish the deletion, if libvirt has forgotten the domain snapshot.

        As fast as it can: a guest that writes faster than its layers are
        merged would never be done with.

        :raises MayHaveMoved: another host may have the guest now.
        :raises NovaSnapError: that is not possible now.
        """
        if self.control.is_tried:
            # Neither what was cancelled, nor what has no room, is tried again
            # at once.
            raise exception.SnapshotFailed(
                'it was interrupted; "nova-snap recover" goes on with it'
            )
        guest = resources.get(guest_lib.Guest)
        with contextlib.suppress(exception.GuestGone):
            if undo_steps.has_left(guest, resources, guest.xml):
                return
        self.finish(
            guest,
            resources.get(backing_chain.Reader),
            progress_lib.Progress(),
        )
        prune(guest, resources.find(firmware_state.Store))

    def finish(
        self,
        guest: guest_lib.Guest,
        reader: backing_chain.Reader,
        progress: progress_lib.Progress,
        rate: int = 0,
    ) -> None:
        """Finish the deletion; the same may be done once more.

        :param rate: bytes a second; 0: as fast as it can.
        :raises SnapshotCancelled: a part is left.
        """
        try:
            if self.name in calls.names(guest):
                set_parent(guest, self.children, self.name)
                return  # it was not begun
        except exception.GuestGone:
            LOG.warning(
                'Server %(server)s is not there any more. Files of its domain '
                'snapshot %(name)s, whose deletion was interrupted, are left.',
                {'server': guest.uuid, 'name': self.name},
                instance_uuid=guest.uuid,
            )
            return
        merger = merging.Merger(guest, reader, rate)
        for data in self.merges:
            merger.merge(merging.Merge.from_data(data), progress)
        merger.name_overlays()
        for layer in map(usage.Layer.from_data, self.inside):
            self._delete_inside(layer)
        files = list(map(usage.Layer.from_data, self.files))
        merging.remove(guest, reader, files)

    def _delete_inside(self, layer: usage.Layer) -> None:
        if open_files.identity(layer.path) != layer.identity:
            return
        if self.name in qemu_img.info(layer.source).internal_snapshots:
            layers.delete_internal(layer.source, self.name)


def set_parent(
    guest: guest_lib.Guest, children: Sequence[str], parent: str | None
) -> None:
    """Let domain snapshots come after another one; None: after none."""
    found = calls.xmls(guest)
    for child in children:
        xml, is_current = found.get(child, ('', False))
        new = rewriting.with_parent(xml, parent) if xml else None
        if new is not None:
            calls.redefine(guest, new, is_current)


def prune(guest: guest_lib.Guest, store: firmware_state.Store | None) -> None:
    """Remove what is kept of domain snapshots that are deleted."""
    if store is not None:
        with contextlib.suppress(exception.GuestGone):
            store.prune(guest, calls.created(guest))


@dataclasses.dataclass(frozen=True)
class Single:
    """What is done to delete one domain snapshot.

    :ivar parent: its parent, None if it is a root.
    :ivar children: those that come after it.
    :ivar by_libvirt: it is internal, and libvirt deletes all of it.
    """

    name: str
    by_libvirt: bool = False
    parent: str | None = None
    children: tuple[str, ...] = ()
    merges: tuple[merging.Merge, ...] = ()
    inside: tuple[usage.Layer, ...] = ()
    files: tuple[usage.Layer, ...] = ()

    @property
    def described(self) -> str:
        """What is done, for people, a line for each file."""
        lines = [f'{self.name}:']
        if self.by_libvirt:
            lines.append('  libvirt deletes it from the files of the disks')
        lines += [
            f'  the data of {merge.top.path} goes into {merge.base.path}'
            for merge in self.merges
        ]
        lines += [f'  is deleted from {layer.path}' for layer in self.inside]
        removed = (*(merge.top for merge in self.merges), *self.files)
        lines += [
            f'  {layer.path} is '
            + ('not needed any more' if layer.type == 'block' else 'removed')
            for layer in removed
        ]
        return '\n'.join(lines)


@dataclasses.dataclass(frozen=True)
class LibvirtDeletion(domain_snapshot.Deletion):
    """The plan of deleting domain snapshots of a guest of libvirt.

    :ivar singles: in their order, children first.
    :ivar rate: bytes a second; 0: as fast as it can.
    :ivar store: of the state of firmware and TPMs.
    """

    guest: guest_lib.Guest
    reader: backing_chain.Reader
    singles: tuple[Single, ...]
    rate: int
    store: firmware_state.Store | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of what is deleted, in this order."""
        return tuple(single.name for single in self.singles)

    def described(self) -> dict[str, str]:
        """Return what would be done."""
        return {
            'names': ' '.join(self.names),
            'files': '\n'.join(single.described for single in self.singles),
        }

    def delete(
        self, entry: journal.Entry, progress: progress_lib.Progress
    ) -> None:
        """Delete them, one after another."""
        for single in self.singles:
            progress.check()
            if single.by_libvirt:
                calls.delete_internal(self.guest, single.name)
            else:
                self._delete(single, entry, progress)

    def _delete(
        self,
        single: Single,
        entry: journal.Entry,
        progress: progress_lib.Progress,
    ) -> None:
        step = FinishDeletion.of(single)
        with entry.undoing(step):
            # libvirt (9.0) takes it for merged, and names other files for
            # what the children of one have that it forgets.
            set_parent(self.guest, single.children, single.parent)
            calls.forget(self.guest, single.name)
            step.control.is_tried = True
            step.finish(self.guest, self.reader, progress, self.rate)
            prune(self.guest, self.store)
            entry.drop(step)
