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

"""Planning to go back to a domain snapshot.

Open this file to see what is looked at before anything is changed.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import itertools
import os
import pathlib
import time
import uuid

from nova_snap import exception
from nova_snap import journal
from nova_snap import progress as progress_lib
from nova_snap.objects import domain_snapshot as objects
from nova_snap.virt import domain_snapshot
from nova_snap.virt.libvirt import disk_xml
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import inspection as inspection_lib
from nova_snap.virt.libvirt import plan as plan_lib
from nova_snap.virt.libvirt import requirements
from nova_snap.virt.libvirt import root_disk
from nova_snap.virt.libvirt.snapshots import calls
from nova_snap.virt.libvirt.snapshots import creation_plan
from nova_snap.virt.libvirt.snapshots import deletion_plan
from nova_snap.virt.libvirt.snapshots import deletion_policy
from nova_snap.virt.libvirt.snapshots import firmware_state
from nova_snap.virt.libvirt.snapshots import internal_revert
from nova_snap.virt.libvirt.snapshots import metadata
from nova_snap.virt.libvirt.snapshots import new_files
from nova_snap.virt.libvirt.snapshots import policy
from nova_snap.virt.libvirt.snapshots import revert
from nova_snap.virt.libvirt.snapshots import revert_steps
from nova_snap.virt.libvirt.snapshots import rewriting
from nova_snap.virt.libvirt.snapshots import tree as tree_lib
from nova_snap.virt.libvirt.snapshots import usage
from nova_snap.virt.storage import disk_source as storage
from nova_snap.virt.storage import qemu_img


def plan(
    guest: guest_lib.Guest,
    options: plan_lib.Options,
    request: domain_snapshot.RevertRequest,
    memory_fits: bool = False,
) -> revert.LibvirtRevert | internal_revert.LibvirtInternalRevert:
    """Read a host, and plan to go back to a domain snapshot of a guest.

    :param memory_fits: that was looked at already.
    :raises DomainSnapshotNotFound: there is none of that name.
    :raises DomainSnapshotRefused: with all reasons.
    :raises NotEnoughSpace: there is no room.
    """
    seen = revert.Seen.of(guest)
    found = inspection_lib.inspect(guest)
    look = tree_lib.read(guest, options.chain_reader)
    wanted = look.tree.get(request.name)
    kept = {snapshot.name: snapshot for snapshot in look.own.snapshots}
    if wanted is None or request.name not in kept:
        raise exception.DomainSnapshotNotFound(
            server=guest.uuid, name=request.name
        )
    target = kept[request.name]
    reasons = [*_of_guest(found, request, wanted, target)]
    if target.is_internal:
        reasons += _of_inside(look, target)
        _refuse(guest, request.name, reasons)
        return _internal(found, options, request, target)
    return _External(found, seen, look, options, request, target).plan(
        reasons, memory_fits
    )


def _refuse(guest: guest_lib.Guest, name: str, reasons: list[str]) -> None:
    if reasons:
        raise exception.DomainSnapshotRefused(
            action='revert to',
            name=name,
            server=guest.uuid,
            reason='; '.join(dict.fromkeys(reasons)) + '.',
        )


def _of_guest(
    found: inspection_lib.Inspection,
    request: domain_snapshot.RevertRequest,
    wanted: objects.DomainSnapshot,
    target: metadata.Metadata,
) -> Iterator[str]:
    guest, state = found.guest, found.power_state
    if (
        domain_xml.nova_element(domain_xml.parse(found.xml)) is not None
        and not request.forces
    ):
        yield policy.OF_NOVA
    yield from (problem.rstrip('.') for problem in wanted.problems)
    if state not in policy.STATES:
        yield f'the guest is {state.name.lower()}'
    if not found.is_persistent:
        yield 'it is transient (define it first: "virsh define")'
    if found.has_backup_job or (state.is_active and guest.job() is not None):
        yield policy.HAS_JOB
    if guest.has_managed_save() or found.has_saved_memory:
        yield policy.HAS_SAVED_MEMORY
    if state.is_active:
        for device in domain_xml.passthrough_devices(found.xml):
            yield (
                f'it has the device {device.address} of this host, and its '
                'memory cannot be kept until then (stop it first)'
            )
        for what in requirements.missing(guest, found.xml):
            yield (
                f'{what}, and it could not be started again if the revert '
                'failed (stop it first)'
            )
    if any(creation_plan.has_job(found, disk) for disk in found.disks):
        yield f'a disk {policy.DISK_HAS_JOB}'
    if calls.has_checkpoints(guest):
        yield (
            'it has checkpoints, which would not fit its disks any more '
            '("virsh checkpoint-delete")'
        )


def _becomes(
    request: domain_snapshot.RevertRequest, target: metadata.Metadata
) -> str:
    """Return what the guest is to be."""
    if request.paused is not None:
        return revert_steps.PAUSED if request.paused else revert_steps.RUNNING
    has_memory = target.memory in (metadata.EXTERNAL, metadata.INTERNAL)
    states = revert_steps.RUNNING, revert_steps.PAUSED
    if has_memory and target.state in states:
        return target.state
    return revert_steps.OFF


def _name() -> str:
    return f'before-revert-{time.time_ns() // 10**6}'


# Internal ones ---------------------------------------------------------------


def _of_inside(
    look: tree_lib.Look, target: metadata.Metadata
) -> Iterator[str]:
    current = {
        chain.device: chain.layers[0]
        for chain in reversed(look.chains)
        if chain.uuid == look.own.uuid
        and chain.snapshot is None
        and chain.layers
    }
    for disk in target.disks:
        if not disk.is_in or disk.frozen is None:
            continue
        path = disk.frozen.describe()
        layer = current.get(disk.device)
        if layer is None or layer.identity != revert.identity_of(path):
            yield (
                f'{path}, which has it inside, is not the disk '
                f'{disk.device} any more; delete the external ones that were '
                'taken since first'
            )
            continue
        header = qemu_img.info(layer.source)
        if header.has_bitmaps:
            yield (
                f'{path} has persistent bitmaps, and QEMU would leave the '
                'guest shut off'
            )
        if header.internal_ids.get(target.name, target.name) != target.name:
            yield (
                f'{target.name} is the number of another internal snapshot in '
                f'{path}, and QEMU would go back to that'
            )


def _internal(
    found: inspection_lib.Inspection,
    options: plan_lib.Options,
    request: domain_snapshot.RevertRequest,
    target: metadata.Metadata,
) -> internal_revert.LibvirtInternalRevert:
    before = creation_plan.plan(
        found.guest,
        options,
        domain_snapshot.Request(
            kind=objects.Kind.SYSTEM,
            name=_name(),
            description=f'Before the revert to {request.name}.',
            is_internal=True,
            forces=request.forces,
        ),
    )
    return internal_revert.LibvirtInternalRevert(
        guest=found.guest,
        name=request.name,
        was=revert_steps.STATES[found.power_state],
        becomes=_becomes(request, target),
        paused=request.paused,
        keeps=request.keeps,
        before=before,
    )


# External ones, and memory alone ---------------------------------------------


class _External:
    """Plans to go back to new files over those of a domain snapshot."""

    def __init__(
        self,
        found: inspection_lib.Inspection,
        seen: revert.Seen,
        look: tree_lib.Look,
        options: plan_lib.Options,
        request: domain_snapshot.RevertRequest,
        target: metadata.Metadata,
    ) -> None:
        self._found = found
        self._seen = seen
        self._guest = found.guest
        self._look = look
        self._options = options
        self._request = request
        self._target = target
        self._definition = rewriting.domain_of(
            calls.xmls(found.guest)[target.name][0]
        )
        self._now = {
            disk.device: disk
            for disk in disk_xml.disks(found.guest.definition().xml)
        }

    def plan(
        self, reasons: list[str], memory_fits: bool
    ) -> revert.LibvirtRevert:
        """Return the plan."""
        reasons += self._refusals(memory_fits)
        _refuse(self._guest, self._target.name, reasons)
        overlays = dict(self._overlays())
        sources = {
            device: storage.DiskSource('file', 'qcow2', str(path))
            for device, (path, _overlay) in overlays.items()
        }
        new = self._new(sources, dict(overlays.values()))
        saved = self._folder / f'{uuid.uuid4()}.memory'
        self._require_room(saved)
        becomes = _becomes(self._request, self._target)
        return revert.LibvirtRevert(
            guest=self._guest,
            name=self._target.name,
            was=revert_steps.STATES[self._found.power_state],
            becomes=becomes,
            saved=saved,
            seen=self._seen,
            new=new,
            left=tuple(self._left(overlays)),
            notes=tuple(self._notes(becomes, new.firmware)),
            keep=self._keep if self._request.keeps else None,
        )

    @property
    def _external(self) -> dict[str, storage.DiskSource]:
        """The disks that the domain snapshot has."""
        return {
            disk.device: disk.frozen
            for disk in self._target.disks
            if disk.is_in and disk.frozen is not None
        }

    @property
    def _kept(self) -> dict[str, disk_xml.Disk]:
        """The hard disks that go on as they are."""
        then = disk_xml.disks(self._definition or '<domain/>')
        return {
            disk.device: self._now[disk.device]
            for disk in root_disk.hard_disks(then)
            if disk.device not in self._external
            and disk.device in self._now
            and self._now[disk.device].readable is not None
            and isinstance(self._now[disk.device].source.location, str)
        }

    def _refusals(self, memory_fits: bool) -> Iterator[str]:
        target = self._target
        if self._definition is None:
            yield 'libvirt does not have the definition of then'
            return
        for disk in root_disk.hard_disks(disk_xml.disks(self._definition)):
            if disk.device not in (*self._external, *self._now):
                yield (
                    f'the server has no disk {disk.device} any more, and the '
                    'domain snapshot does not have it'
                )
        yield from deletion_plan.unfit_disks(target)
        if not self._paths:
            yield 'no disk is a file, beside which new ones could be made'
        for device, source in self._external.items():
            if not isinstance(source.location, str):
                yield f'disk {device} is neither a file nor a block device'
            yield from self._strangers(device, source)
        if target.memory_file is None:
            return
        if (
            calls.saved_definition(self._guest.host, target.memory_file)
            is None
        ):
            yield f'{target.memory_file} has no whole memory of a guest'
        if not memory_fits and not self._request.forces:
            yield from self._changed(target.memory_file)

    def _strangers(
        self, device: str, source: storage.DiskSource
    ) -> Iterator[str]:
        """Yield which other guest writes to a file of the domain snapshot."""
        wanted = revert.identity_of(source.describe())
        for chain in self._look.chains:
            if (
                chain.uuid != self._guest.uuid
                and chain.snapshot is None
                and chain.layers
                and chain.layers[0].identity == wanted
            ):
                yield (
                    f'{source.describe()} is the disk of server {chain.server}'
                )

    def _changed(self, memory: str) -> Iterator[str]:
        """Yield the disks that do not fit the memory any more."""
        written = os.stat(memory).st_mtime
        for device, disk in self._kept.items():
            if disk.is_readonly:
                continue
            path = disk.source.describe()
            if disk.type != 'file':
                yield (
                    f'it is not known whether disk {device} has changed since '
                    'its memory was kept (--force goes back all the same)'
                )
            elif os.stat(path).st_mtime > written + revert_steps.CLOSING:
                yield (
                    f'disk {device} was written to since its memory was kept, '
                    'which does not fit it any more (--force goes back all '
                    'the same)'
                )

    def _overlays(
        self,
    ) -> Iterator[tuple[str, tuple[pathlib.Path, new_files.Overlay]]]:
        taken: set[pathlib.Path] = set()
        for device, source in self._external.items():
            base = pathlib.Path(source.describe())
            folder = base.parent if source.type == 'file' else self._folder
            # Of the time, as libvirt does; it takes seconds, and would refuse
            # a revert of its own in the same one.
            path = next(
                path
                for number in itertools.count(time.time_ns() // 10**6)
                if (path := folder / f'{base.stem}.{number}') not in taken
                and not os.path.lexists(path)
            )
            taken.add(path)
            size = qemu_img.info(source).virtual_size
            yield device, (path, new_files.Overlay(size, source))

    @property
    def _folder(self) -> pathlib.Path:
        """The folder of a file of the domain snapshot, or of a disk."""
        return pathlib.Path(self._paths[0]).parent

    @property
    def _paths(self) -> list[str]:
        """The files beside which new ones may be made, the best first."""
        then = disk_xml.disks(self._definition or '<domain/>')
        sources = [
            *(disk.overlay for disk in self._target.disks),
            *self._external.values(),
            *(disk.readable for disk in root_disk.hard_disks(then)),
        ]
        files = [s.describe() for s in sources if s and s.type == 'file']
        return [*files, *filter(None, (self._target.memory_file,))]

    def _new(
        self,
        new: Mapping[str, storage.DiskSource],
        overlays: Mapping[pathlib.Path, new_files.Overlay],
    ) -> revert.New:
        memory = self._target.memory_file
        memory_xml = None
        kept = {device: disk.source for device, disk in self._kept.items()}
        sources = {**kept, **new}
        if memory is not None:
            saved = calls.saved_definition(self._guest.host, memory)
            memory_xml = saved and rewriting.with_disks(saved, sources)
        return revert.New(
            definition=rewriting.with_name(
                rewriting.with_disks(self._definition or '', sources),
                domain_xml.parse(self._found.xml).findtext('name', ''),
            ),
            overlays=overlays,
            snapshot_xml=rewriting.reverted(
                calls.xmls(self._guest)[self._target.name][0],
                new,
                has_children=any(
                    other.parent == self._target.name
                    for other in self._look.own.snapshots
                ),
            ),
            memory=memory,
            memory_xml=memory_xml,
            firmware=firmware_state.kept(
                self._options.firmware, self._guest, self._target
            ),
        )

    def _left(self, overlays: Mapping[str, object]) -> Iterator[usage.Layer]:
        """Yield the files that the guest leaves, and that were made for it."""
        chains = self._look.chains
        host = deletion_policy.Host(
            own_uuid=self._guest.uuid,
            needs=[
                deletion_policy.Need.of(chain, self._guest.uuid)
                for chain in chains
            ],
            internal=frozenset(),
            names={},
        )
        for chain in chains:
            if (
                chain.uuid == self._guest.uuid
                and chain.snapshot is None
                and chain.device in overlays
                and chain.layers
                and host.is_made(chain.device, chain.layers[0].identity)
            ):
                yield chain.layers[0]

    def _notes(
        self, becomes: str, kept: firmware_state.State
    ) -> Iterator[str]:
        ran = self._target.state == metadata.DISK_STATE
        if becomes == revert_steps.OFF and ran:
            yield 'The guest is shut off, since its memory was not kept.'
        if self._target.memory_file is not None:
            return
        if (
            domain_xml.has_uefi(self._found.xml)
            and firmware_state.NVRAM not in kept
        ):
            yield 'The variables of its UEFI firmware stay as they are.'
        if (
            domain_xml.has_tpm(self._found.xml)
            and firmware_state.TPM not in kept
        ):
            yield 'The state of its emulated TPM stays as it is.'

    def _require_room(self, saved: pathlib.Path) -> None:
        size = creation_plan.OVERLAY_SIZE * len(self._external)
        if self._found.power_state.is_active:
            size += domain_xml.memory_size(self._found.xml)
        self._options.space().require_to_begin(saved.parent, size)

    def _keep(
        self, entry: journal.Entry, progress: progress_lib.Progress
    ) -> revert.LibvirtRevert:
        """Keep the state before; return the plan that goes on from there."""
        is_active = self._found.power_state.is_active
        kinds = objects.Kind
        creation_plan.plan(
            self._guest,
            self._options,
            domain_snapshot.Request(
                kind=kinds.SYSTEM if is_active else kinds.DISK,
                name=_name(),
                description=f'Before the revert to {self._target.name}.',
                forces=self._request.forces,
            ),
        ).create(entry, progress)
        found = plan(
            self._guest,
            self._options,
            dataclasses.replace(self._request, keeps=False),
            memory_fits=True,
        )
        if not isinstance(found, revert.LibvirtRevert):
            raise TypeError(found)
        return found
