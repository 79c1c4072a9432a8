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

"""The abstract class of the domain snapshots of one instance.

Open this file to make a driver keep domain snapshots.
"""

import abc
import dataclasses
import pathlib

from nova_snap import journal
from nova_snap import progress as progress_lib
from nova_snap.objects import domain_snapshot


@dataclasses.dataclass(frozen=True)
class Request:
    """The domain snapshot that a user asks for.

    :ivar name: None lets the time be the name, as virsh does.
    :ivar devices: target names of the disks; none: all that can be written.
    :ivar is_live: the guest runs on while its memory is written.
    :ivar is_internal: inside the qcow2 files of the disks.
    :ivar quiesces: the file systems have to be frozen at that moment.
    :ivar halts: the guest is stopped at that moment.
    :ivar forces: also a guest that Nova manages.
    :ivar directory: of new files; None: that of each disk.
    """

    kind: domain_snapshot.Kind = domain_snapshot.Kind.DISK
    name: str | None = None
    description: str = ''
    devices: tuple[str, ...] = ()
    is_live: bool = False
    is_internal: bool = False
    quiesces: bool = False
    halts: bool = False
    forces: bool = False
    directory: pathlib.Path | None = None

    @property
    def has_memory(self) -> bool:
        """True if the memory is kept."""
        return self.kind is not domain_snapshot.Kind.DISK

    @property
    def has_disks(self) -> bool:
        """True if disks are kept."""
        return self.kind is not domain_snapshot.Kind.MEMORY


class Creation(abc.ABC):
    """The plan of a domain snapshot, made from one reading of the guest."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """The name that it will have."""

    @abc.abstractmethod
    def described(self) -> dict[str, str]:
        """Return what would be done, for people, by what it is about."""

    @abc.abstractmethod
    def create(
        self, entry: journal.Entry, progress: progress_lib.Progress
    ) -> None:
        """Take the domain snapshot as planned.

        :param entry: takes the undo steps.
        :raises SnapshotCancelled: the operation was cancelled.
        :raises SnapshotFailed: or one of its subclasses; the guest is as it
            was, and no file is left.
        """


@dataclasses.dataclass(frozen=True)
class DeletionRequest:
    """The domain snapshot that a user wants to be deleted.

    :ivar with_children: all that come after it, too.
    :ivar rate: bytes a second at which data is moved; 0: as fast as it can.
    :ivar forces: also of a guest that Nova manages, and where it is not known
        which files other guests use.
    """

    name: str
    with_children: bool = False
    rate: int = 0
    forces: bool = False


class Deletion(abc.ABC):
    """The plan of a deletion, made from one reading of the host."""

    @property
    @abc.abstractmethod
    def names(self) -> tuple[str, ...]:
        """The names of what is deleted, in this order."""

    @abc.abstractmethod
    def described(self) -> dict[str, str]:
        """Return what would be done, for people, by what it is about."""

    @abc.abstractmethod
    def delete(
        self, entry: journal.Entry, progress: progress_lib.Progress
    ) -> None:
        """Delete them as planned.

        :param entry: takes the undo steps; what was begun with one of the
            domain snapshots when this fails stays in it.
        :raises SnapshotCancelled: the operation was cancelled.
        :raises NovaSnapError: it failed; the guest and its other domain
            snapshots are as they were.
        """


@dataclasses.dataclass(frozen=True)
class RevertRequest:
    """The domain snapshot that a user wants to go back to.

    :ivar keeps: the state before is kept as a domain snapshot.
    :ivar paused: the guest is started, paused or not; None: it is as it was
        then.
    :ivar forces: also a guest that Nova manages, and memory that may not fit
        the disks.
    """

    name: str
    keeps: bool = False
    paused: bool | None = None
    forces: bool = False


class Revert(abc.ABC):
    """The plan of going back, made from one reading of the host."""

    @abc.abstractmethod
    def described(self) -> dict[str, str]:
        """Return what would be done, for people, by what it is about."""

    @abc.abstractmethod
    def revert(
        self, entry: journal.Entry, progress: progress_lib.Progress
    ) -> None:
        """Go back as planned.

        :param entry: takes the undo steps.
        :raises SnapshotCancelled: the operation was cancelled.
        :raises NovaSnapError: it failed; the guest is as it was.
        """


class DomainSnapshots(abc.ABC):
    """The domain snapshots of one instance."""

    @abc.abstractmethod
    def tree(self) -> domain_snapshot.Tree:
        """Return all of them; nothing is changed.

        :raises GuestGone: the instance does not exist.
        """

    @abc.abstractmethod
    def plan_creation(self, request: Request) -> Creation:
        """Look for everything that could make a domain snapshot fail.

        Nothing is changed.

        :raises DomainSnapshotRefused: it can't be taken, or not safely.
        :raises NotEnoughSpace: there is no room.
        """

    @abc.abstractmethod
    def plan_deletion(self, request: DeletionRequest) -> Deletion:
        """Look for everything that could make a deletion fail or do harm.

        Nothing is changed.

        :raises DomainSnapshotNotFound: there is none of that name.
        :raises DomainSnapshotRefused: it can't be deleted, or not safely.
        :raises NotEnoughSpace: there is no room for what is merged.
        """

    @abc.abstractmethod
    def plan_revert(self, request: RevertRequest) -> Revert:
        """Look for everything that could make going back fail or do harm.

        Nothing is changed.

        :raises DomainSnapshotNotFound: there is none of that name.
        :raises DomainSnapshotRefused: it is not possible, or not safe.
        :raises NotEnoughSpace: there is no room for the memory of the guest.
        """
