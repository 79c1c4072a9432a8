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

"""Planning the deletion of domain snapshots.

Open this file to see what is looked at before anything is changed; what
becomes of the files follows in ``deletion_policy.py``.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import os
import pathlib

from nova_snap import exception
from nova_snap.objects import domain_snapshot as domain_snapshot_objects
from nova_snap.virt import domain_snapshot
from nova_snap.virt.libvirt import disk_xml
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import inspection as inspection_lib
from nova_snap.virt.libvirt import plan as plan_lib
from nova_snap.virt.libvirt.snapshots import calls
from nova_snap.virt.libvirt.snapshots import creation_plan
from nova_snap.virt.libvirt.snapshots import deletion
from nova_snap.virt.libvirt.snapshots import deletion_policy
from nova_snap.virt.libvirt.snapshots import merging
from nova_snap.virt.libvirt.snapshots import metadata
from nova_snap.virt.libvirt.snapshots import policy
from nova_snap.virt.libvirt.snapshots import tree as tree_lib
from nova_snap.virt.libvirt.snapshots import usage
from nova_snap.virt.storage import disk_source as storage
from nova_snap.virt.storage import open_files
from nova_snap.virt.storage import qemu_img


def plan(
    guest: guest_lib.Guest,
    options: plan_lib.Options,
    request: domain_snapshot.DeletionRequest,
) -> deletion.LibvirtDeletion:
    """Read a host, and plan the deletion of domain snapshots of a guest.

    :raises DomainSnapshotNotFound: there is none of that name.
    :raises DomainSnapshotRefused: with all reasons.
    :raises NotEnoughSpace: there is no room.
    """
    found = inspection_lib.inspect(guest)
    look = tree_lib.read(guest, options.chain_reader)
    wanted = look.tree.get(request.name)
    if wanted is None:
        raise exception.DomainSnapshotNotFound(
            server=guest.uuid, name=request.name
        )
    victims = [wanted]
    if request.with_children:
        victims += look.tree.descendants(request.name)
    planner = _Planner(found, look)
    singles = tuple(planner.single(victim) for victim in reversed(victims))
    reasons = dict.fromkeys(
        (
            *_of_guest(found, request, look, singles),
            *planner.refusals,
            *_of_programs(guest, singles),
            *_of_sizes(singles),
        )
    )
    if reasons:
        raise exception.DomainSnapshotRefused(
            action='delete',
            name=request.name,
            server=guest.uuid,
            reason='; '.join(reasons) + '.',
        )
    _require_room(options, singles)
    return deletion.LibvirtDeletion(
        guest, options.chain_reader, singles, request.rate, options.firmware
    )


class _Planner:
    """Plans one deletion after another, as if those before were done.

    :ivar refusals: phrases.
    """

    def __init__(
        self, found: inspection_lib.Inspection, look: tree_lib.Look
    ) -> None:
        self.refusals: list[str] = []
        self._found = found
        self._deleted: set[str] = set()
        self._metadata = {s.name: s for s in look.own.snapshots}
        self._layers = {
            layer.identity: layer
            for chain in look.chains
            for layer in chain.layers
        }
        own = {
            layer.identity
            for chain in look.chains
            if chain.uuid == look.own.uuid
            for layer in chain.layers
        }
        self._current = {
            chain.device: chain
            for chain in reversed(look.chains)
            if chain.uuid == look.own.uuid and chain.snapshot is None
        }
        self._host = deletion_policy.Host(
            own_uuid=look.own.uuid,
            needs=[
                deletion_policy.Need.of(chain, look.own.uuid)
                for chain in look.chains
            ],
            internal=frozenset(
                identity
                for identity in own
                if _has_internal(self._layers[identity])
            ),
            names={i: layer.path for i, layer in self._layers.items()},
        )

    def single(
        self, victim: domain_snapshot_objects.DomainSnapshot
    ) -> deletion.Single:
        """Plan the deletion of a domain snapshot, and note it as done."""
        found = self._metadata[victim.name]
        self._deleted.add(victim.name)
        before = len(self.refusals)
        self.refusals += (
            f'{problem.rstrip(".")} (domain snapshot {victim.name}; "virsh '
            'snapshot-delete --metadata" lets libvirt forget it)'
            for problem in victim.problems
            if not _is_gone_anyway(problem, found)
        )
        self.refusals += unfit_disks(found)
        if len(self.refusals) > before:
            return deletion.Single(found.name)
        inside = self._files(found, metadata.INTERNAL)
        if self._is_for_libvirt(found, inside):
            self._host.delete(deletion_policy.Snapshot(found.name, {}, {}, {}))
            return deletion.Single(found.name, by_libvirt=True)
        return self._by_ourselves(found, inside)

    def _by_ourselves(
        self,
        found: metadata.Metadata,
        inside: Mapping[str, open_files.Identity],
    ) -> deletion.Single:
        files = self._host.delete(
            deletion_policy.Snapshot(
                name=found.name,
                frozen=self._files(found, metadata.EXTERNAL),
                overlays=self._overlays(found),
                inside=inside,
            )
        )
        self.refusals += files.refusals
        self.refusals += self._of_inside(inside)
        return deletion.Single(
            name=found.name,
            parent=found.parent,
            children=self._children(found.name),
            merges=tuple(
                merging.Merge(
                    merge.device,
                    self._layers[merge.top],
                    self._layers[merge.base],
                )
                for merge in files.merges
            ),
            inside=tuple(self._layers[i] for i in inside.values()),
            files=(
                *(self._layers[identity] for identity in files.remove),
                *self._memory(found),
            ),
        )

    def _children(self, name: str) -> tuple[str, ...]:
        """Return the names of what comes right after, by then."""
        return tuple(
            other.name
            for other in self._metadata.values()
            if other.parent == name and other.name not in self._deleted
        )

    def _files(
        self, found: metadata.Metadata, mode: str
    ) -> dict[str, open_files.Identity]:
        return {
            disk.device: identity
            for disk in found.disks
            if disk.mode == mode
            and (identity := _identity(disk.frozen)) is not None
        }

    def _overlays(
        self, found: metadata.Metadata
    ) -> dict[str, open_files.Identity]:
        return {
            disk.device: identity
            for disk in found.disks
            if disk.is_in and (identity := _identity(disk.overlay)) is not None
        }

    def _is_for_libvirt(
        self,
        found: metadata.Metadata,
        inside: Mapping[str, open_files.Identity],
    ) -> bool:
        """Return True if the disks now are the files that have it inside.

        libvirt (9.0) looks into no other file, and is content when there is
        nothing to delete.
        """
        return (
            bool(inside)
            and found.memory != metadata.EXTERNAL
            and all(d.mode != metadata.EXTERNAL for d in found.disks)
            and all(
                device in self._current
                and self._current[device].layers[:1]
                == (self._layers[identity],)
                for device, identity in inside.items()
            )
        )

    def _of_inside(
        self, inside: Mapping[str, open_files.Identity]
    ) -> Iterator[str]:
        if not self._found.power_state.is_active:
            return
        for device, identity in inside.items():
            chain = self._current.get(device)
            if chain is not None and identity in chain.files:
                yield (
                    f'{self._layers[identity].path}, which has it inside, is '
                    'in use; stop the server, or delete what came after it '
                    'first'
                )

    def _memory(self, found: metadata.Metadata) -> Iterator[usage.Layer]:
        """Yield the file of the memory, if it is its own.

        The path is that which libvirt wrote to; what else may be there is no
        memory of a guest.
        """
        path = found.memory_file
        if path is None or not os.path.isfile(path) or os.path.islink(path):
            return
        identity = open_files.identity(path)
        others = {
            other.memory_file
            for other in self._metadata.values()
            if other.name != found.name
        }
        if (
            identity is not None
            and identity not in self._layers
            and path not in others
            and _is_memory(path)
        ):
            yield usage.Layer(identity, path, 'file', 'raw')


def _is_gone_anyway(problem: str, found: metadata.Metadata) -> bool:
    """Return True if something is missing that a deletion removes.

    That is its memory, or what a disk had inside: a libvirtd that is killed
    while it deletes one leaves it in some of the disks.
    """
    memory = found.memory_file
    is_memory = memory is not None and memory in problem
    return is_memory or tree_lib.NOT_INSIDE in problem


def _is_memory(path: str) -> bool:
    """Return True if libvirt has written a guest's memory to a file."""
    with open(path, 'rb') as file:
        return file.read(len(MAGICS[0])) in MAGICS


#: How libvirt's files of saved memory begin (qemu_saveimage.h): a whole one,
#: and one that is not complete.
MAGICS = (b'LibvirtQemudSave', b'LibvirtQemudPart')


def unfit_disks(found: metadata.Metadata) -> Iterator[str]:
    """Yield why disks of a domain snapshot cannot be worked with."""
    for disk in found.disks:
        if disk.is_in and disk.frozen is not None and disk.frozen.is_encrypted:
            yield (
                f'disk {disk.device} of domain snapshot {found.name} is '
                'encrypted'
            )
        if disk.is_in and _identity(disk.frozen) is None:
            yield (
                f'disk {disk.device} of domain snapshot {found.name} is no '
                'file or block device that is there'
            )


def _identity(
    source: storage.DiskSource | None,
) -> open_files.Identity | None:
    if source is None or not isinstance(source.location, str):
        return None
    return open_files.identity(source.location)


def _has_internal(layer: usage.Layer) -> bool:
    return layer.format == 'qcow2' and bool(
        qemu_img.info(layer.source).internal_snapshots
    )


def _of_guest(
    found: inspection_lib.Inspection,
    request: domain_snapshot.DeletionRequest,
    look: tree_lib.Look,
    singles: Sequence[deletion.Single],
) -> Iterator[str]:
    """Yield what of the guest is against it, as phrases."""
    guest, state = found.guest, found.power_state
    is_of_nova = domain_xml.nova_element(domain_xml.parse(found.xml))
    if is_of_nova is not None and not request.forces:
        yield policy.OF_NOVA
    if not request.forces:
        for sentence in look.tree.unknown:
            yield f'{sentence.rstrip(".")} (--force goes on all the same)'
    if state not in policy.STATES:
        yield f'the guest is {state.name.lower()}'
    if found.has_backup_job or (state.is_active and guest.job() is not None):
        yield policy.HAS_JOB
    merges = [merge for single in singles for merge in single.merges]
    if not merges:
        return
    if guest.has_managed_save() or found.has_saved_memory:
        yield policy.HAS_SAVED_MEMORY
    if not state.is_active and calls.has_checkpoints(guest):
        yield (
            'it has checkpoints, and what these recorded would be lost while '
            'it does not run (start it first)'
        )
    devices = {merge.device for merge in merges}
    for disk in found.disks:
        if disk.device in devices:
            yield from (
                f'disk {disk.device} {reason}'
                for reason in _of_disk(found, disk)
            )


def _of_disk(
    found: inspection_lib.Inspection, disk: disk_xml.Disk
) -> Iterator[str]:
    if creation_plan.has_job(found, disk):
        yield policy.DISK_HAS_JOB
    if creation_plan.runs_elsewhere(found, disk):
        yield policy.DISK_RUNS_ELSEWHERE


def _of_programs(
    guest: guest_lib.Guest, singles: Sequence[deletion.Single]
) -> Iterator[str]:
    """Yield which other programs have one of the files open."""
    touched = {
        layer.identity: layer.path
        for single in singles
        for layer in (
            *(layer for m in single.merges for layer in (m.top, m.base)),
            *single.inside,
            *single.files,
        )
    }
    opened = open_files.openers({i: [path] for i, path in touched.items()})
    for identity, openers in opened.items():
        for opener in openers:
            if opener.guest_uuid != guest.uuid:
                yield f'{opener.name} has {touched[identity]} open'


def _of_sizes(singles: Sequence[deletion.Single]) -> Iterator[str]:
    """Yield the devices that are too small for what would be merged.

    :raises UnsafeDisk: only a header says where the data of a layer is.
    """
    for single in singles:
        for merge in single.merges:
            for layer in (merge.top, merge.base):
                qemu_img.require_no_data_file(layer.source)
            if merge.base.type == 'block' and (
                qemu_img.info(merge.top.source).virtual_size
                > qemu_img.info(merge.base.source).virtual_size
            ):
                yield f'{merge.base.path} is smaller than the disk is by now'


def _require_room(
    options: plan_lib.Options, singles: Sequence[deletion.Single]
) -> None:
    """Raise NotEnoughSpace; each merge may take what its upper layer has."""
    for single in singles:
        for merge in single.merges:
            if merge.base.type == 'file':
                options.space().require_to_begin(
                    pathlib.Path(merge.base.path).parent,
                    os.stat(merge.top.path).st_blocks * 512,
                )
