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

"""The domain snapshots of a guest, with their files and who needs these.

Open this file when a field of a domain snapshot is wrong, though libvirt has
it right.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import datetime
import os

from nova_snap import exception
from nova_snap.objects import domain_snapshot
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import inspection as inspection_lib
from nova_snap.virt.libvirt.snapshots import calls
from nova_snap.virt.libvirt.snapshots import metadata
from nova_snap.virt.libvirt.snapshots import usage as usage_lib
from nova_snap.virt.storage import backing_chain
from nova_snap.virt.storage import disk_source as storage
from nova_snap.virt.storage import open_files
from nova_snap.virt.storage import qemu_img

Role = domain_snapshot.Role
NeededBy = domain_snapshot.NeededBy

#: A part of the problem of an internal one that is not in a file any more.
NOT_INSIDE = 'has no internal snapshot'

_EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC)


@dataclasses.dataclass(frozen=True)
class Look:
    """What was read at one moment.

    :ivar own: the domain whose domain snapshots they are.
    :ivar chains: of all domains of the host.
    """

    own: calls.Domain
    chains: tuple[usage_lib.Chain, ...]
    tree: domain_snapshot.Tree


def read(guest: guest_lib.Guest, reader: backing_chain.Reader) -> Look:
    """Read the domain snapshots of a guest.

    :raises GuestGone: the guest does not exist.
    """
    domains = calls.domains(guest.host)
    own = next((d for d in domains if d.uuid == guest.uuid), None)
    if own is None:
        raise exception.GuestGone(
            server=guest.uuid, action='asked for its domain snapshots'
        )
    if not own.snapshots:
        return Look(own, (), domain_snapshot.Tree(()))
    chains = usage_lib.Chains(reader)
    found = chains.of(domains, inspection_lib.volume_finder(guest.host))
    reading = _Reading(own, domains, found)
    ordered = tuple(_ordered(own.snapshots))
    tree = domain_snapshot.Tree(
        tuple(reading.snapshot(snapshot) for snapshot in ordered),
        chains.unknown,
    )
    return Look(own, found, tree)


def _ordered(
    snapshots: Sequence[metadata.Metadata],
) -> Iterator[metadata.Metadata]:
    """Yield each domain snapshot before its children, siblings by age."""
    by_parent: dict[str | None, list[metadata.Metadata]] = {}
    names = {snapshot.name for snapshot in snapshots}
    for snapshot in sorted(snapshots, key=_age):
        parent = snapshot.parent if snapshot.parent in names else None
        by_parent.setdefault(parent, []).append(snapshot)
    waiting = list(reversed(by_parent.get(None, [])))
    while waiting:
        snapshot = waiting.pop()
        yield snapshot
        waiting += reversed(by_parent.get(snapshot.name, []))


def _age(snapshot: metadata.Metadata) -> tuple[datetime.datetime, str]:
    return snapshot.created_at or _EPOCH, snapshot.name


class _Reading:
    """What was read at one moment, from which each domain snapshot is made."""

    def __init__(
        self,
        own: calls.Domain,
        domains: Sequence[calls.Domain],
        chains: Sequence[usage_lib.Chain],
    ) -> None:
        self._own = own
        self._servers = {domain.uuid: domain.name for domain in domains}
        self._chains = chains
        self._internal: dict[str, Mapping[str, int] | None] = {}
        self._openers = open_files.openers(
            {
                identity: [path]
                for snapshot in own.snapshots
                for path in _frozen_paths(snapshot)
                if (identity := _identity(path)) is not None
            }
        )

    def snapshot(
        self, found: metadata.Metadata
    ) -> domain_snapshot.DomainSnapshot:
        """Return a domain snapshot by its metadata."""
        dependents = dict.fromkeys(self._dependents(found))
        return domain_snapshot.DomainSnapshot(
            name=found.name,
            description=found.description,
            kind=found.kind,
            is_internal=found.is_internal,
            state=found.state,
            created_at=found.created_at,
            parent=found.parent,
            children=tuple(
                child.name
                for child in sorted(self._own.snapshots, key=_age)
                if child.parent == found.name
            ),
            is_current=found.is_current,
            files=tuple(self._files(found)),
            dependents=tuple(dependents),
            problems=tuple(self._problems(found)),
        )

    def _files(
        self, found: metadata.Metadata
    ) -> Iterator[domain_snapshot.File]:
        for disk in found.disks:
            frozen, overlay = _path(disk.frozen), _path(disk.overlay)
            if disk.mode == metadata.INTERNAL and frozen is not None:
                sizes = self._internal_snapshots(disk.frozen) or {}
                yield domain_snapshot.File(
                    Role.INTERNAL, disk.device, frozen, sizes.get(found.name)
                )
            if disk.mode == metadata.EXTERNAL and frozen is not None:
                yield domain_snapshot.File(
                    Role.FROZEN, disk.device, frozen, _size(frozen)
                )
            if disk.mode == metadata.EXTERNAL and overlay is not None:
                yield domain_snapshot.File(
                    Role.OVERLAY, disk.device, overlay, _size(overlay)
                )
        if found.memory_file:
            path = found.memory_file
            yield domain_snapshot.File(Role.MEMORY, '', path, _size(path))

    def _dependents(
        self, found: metadata.Metadata
    ) -> Iterator[domain_snapshot.Dependent]:
        files = {
            identity
            for path in _frozen_paths(found)
            if (identity := _identity(path)) is not None
        }
        users = set()
        for chain in self._chains:
            if not files & chain.files:
                continue
            users.add(chain.uuid)
            if chain.uuid != self._own.uuid:
                yield _dependent(NeededBy.SERVER, chain.server)
            elif chain.snapshot is None:
                yield _dependent(NeededBy.DISK, chain.device)
            elif chain.snapshot != found.name and not chain.is_overlay:
                yield _dependent(NeededBy.DOMAIN_SNAPSHOT, chain.snapshot)
        for opener in self._all_openers(files):
            uuid = self._uuid_of(opener)
            if uuid is None:
                yield _dependent(NeededBy.PROGRAM, opener.name)
            elif uuid not in users:
                yield _dependent(NeededBy.SERVER, self._servers[uuid])

    def _all_openers(
        self, files: set[open_files.Identity]
    ) -> Iterator[open_files.Opener]:
        for file in sorted(files):
            yield from self._openers.get(file, ())

    def _uuid_of(self, opener: open_files.Opener) -> str | None:
        """Return the uuid of the guest whose QEMU a program is, or None."""
        uuid = opener.guest_uuid
        return uuid if uuid in self._servers else None

    def _problems(self, found: metadata.Metadata) -> Iterator[str]:
        """Yield why it is not possible to go back, or not safe."""
        for disk in found.disks:
            if not disk.is_in:
                continue
            path = _path(disk.frozen)
            if disk.frozen is None or path is None:
                yield (
                    f'libvirt does not say which file has disk {disk.device}.'
                )
            elif disk.mode == metadata.INTERNAL:
                yield from self._internal_problem(found, disk.frozen)
            else:
                yield from self._file_problem(path)
        if found.memory_file and _is_missing(found.memory_file):
            yield f'{found.memory_file}, with its memory, does not exist.'

    def _internal_problem(
        self, found: metadata.Metadata, source: storage.DiskSource
    ) -> Iterator[str]:
        path = source.describe()
        if _is_missing(path):
            yield f'{path} does not exist.'
            return
        names = self._internal_snapshots(source)
        if names is None:
            yield f'{path} cannot be read.'
        elif found.name not in names:
            yield f'{path} {NOT_INSIDE} {found.name} any more.'

    def _file_problem(self, path: str) -> Iterator[str]:
        if _is_missing(path):
            yield f'{path} does not exist.'
        identity = _identity(path)
        if identity is None:
            return
        for opener in self._openers.get(identity, ()):
            if opener.writes:
                yield f'{opener.name} has {path} open to write to it.'

    def _internal_snapshots(
        self, source: storage.DiskSource | None
    ) -> Mapping[str, int] | None:
        """Return sizes of a file's internal snapshots; None: unreadable."""
        path = _path(source)
        if source is None or path is None:
            return None
        if path not in self._internal:
            try:
                found = qemu_img.info(source).internal_snapshots
                self._internal[path] = found
            except (exception.ProgramFailed, exception.UnsafeDisk):
                self._internal[path] = None
        return self._internal[path]


def _dependent(what: NeededBy, name: str) -> domain_snapshot.Dependent:
    return domain_snapshot.Dependent(what, name)


def _frozen_paths(snapshot: metadata.Metadata) -> Iterator[str]:
    for disk in snapshot.disks:
        path = _path(disk.frozen)
        if disk.mode == metadata.EXTERNAL and path is not None:
            yield path


def _path(source: storage.DiskSource | None) -> str | None:
    if source is None or not isinstance(source.location, str):
        return None
    return source.location


def _identity(path: str) -> open_files.Identity | None:
    try:
        return open_files.identity(path)
    except OSError:
        return None


def _is_missing(path: str) -> bool:
    """Return True if a file certainly does not exist."""
    try:
        return open_files.identity(path) is None
    except OSError:
        return False  # this user may not look


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_blocks * 512
    except OSError:
        return None
