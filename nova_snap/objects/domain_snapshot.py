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

"""Domain snapshots: what libvirt keeps of a guest's earlier states.

Plain data, without libvirt; made in ``virt/libvirt/snapshots``.
"""

from collections.abc import Iterator
import dataclasses
import datetime
import enum


class Kind(enum.StrEnum):
    """What of a guest a domain snapshot keeps; ``SYSTEM`` is all of it."""

    DISK = 'disk'
    SYSTEM = 'system'
    MEMORY = 'memory'


class Role(enum.StrEnum):
    """What a file is to a domain snapshot.

    ``FROZEN`` has a disk as it was then; ``OVERLAY`` took what was written to
    the disk next; ``INTERNAL`` is a qcow2 file that has the disk in itself;
    ``MEMORY`` has the memory.
    """

    FROZEN = 'frozen disk'
    OVERLAY = 'overlay'
    INTERNAL = 'internal'
    MEMORY = 'memory'


@dataclasses.dataclass(frozen=True)
class File:
    """A file of a domain snapshot.

    ``device`` is the target name of the disk, '' for memory; ``size`` is in
    bytes on disk, that of an internal snapshot is the memory in the file;
    None if it is not known.
    """

    role: Role
    device: str
    path: str
    size: int | None


class NeededBy(enum.StrEnum):
    """What can need a frozen file."""

    DISK = 'disk'
    DOMAIN_SNAPSHOT = 'domain snapshot'
    SERVER = 'server'
    PROGRAM = 'program'


@dataclasses.dataclass(frozen=True)
class Dependent:
    """Something whose data is partly in the frozen files.

    ``name`` is that of a disk or a domain snapshot of the same server, of
    another server, or of a program.
    """

    what: NeededBy
    name: str

    def __str__(self) -> str:
        return f'{self.what} {self.name}'


@dataclasses.dataclass(frozen=True)
class DomainSnapshot:
    """A domain snapshot of a guest.

    ``state`` is libvirt's word for the guest's then; ``problems`` are
    sentences on why it can't be gone back to, or not safely.
    """

    name: str
    description: str
    kind: Kind
    is_internal: bool
    state: str
    created_at: datetime.datetime | None
    parent: str | None = None
    children: tuple[str, ...] = ()
    is_current: bool = False
    files: tuple[File, ...] = ()
    dependents: tuple[Dependent, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def kind_text(self) -> str:
        """The kind for people; a snapshot of disks is external by itself."""
        if self.kind is Kind.SYSTEM or self.is_internal:
            return (
                f'{self.kind} {"internal" if self.is_internal else "external"}'
            )
        return str(self.kind)

    @property
    def size(self) -> int:
        """The bytes that the host has because of this domain snapshot.

        Of its memory, and of what was written to the disks after it, until
        the next one.
        """
        return sum(
            file.size or 0
            for file in self.files
            if file.role is not Role.FROZEN
        )


@dataclasses.dataclass(frozen=True)
class Tree:
    """All domain snapshots of a guest.

    :ivar snapshots: parents before their children, siblings by age.
    :ivar unknown: sentences on what could not be read, and may need a file.
    """

    snapshots: tuple[DomainSnapshot, ...]
    unknown: tuple[str, ...] = ()

    def get(self, name: str) -> DomainSnapshot | None:
        """Return the domain snapshot with a name, or None."""
        return next((s for s in self.snapshots if s.name == name), None)

    @property
    def current(self) -> DomainSnapshot | None:
        """The one that the guest runs on from, or None."""
        return next((s for s in self.snapshots if s.is_current), None)

    def ancestors(self, name: str) -> Iterator[DomainSnapshot]:
        """Yield the parent of a domain snapshot, its parent, and so on."""
        found = self.get(name)
        while found is not None and found.parent is not None:
            found = self.get(found.parent)
            if found is not None:
                yield found

    def descendants(self, name: str) -> Iterator[DomainSnapshot]:
        """Yield what comes after a domain snapshot, parents first."""
        names = {name}
        for snapshot in self.snapshots:
            if snapshot.parent in names:
                names.add(snapshot.name)
                yield snapshot
