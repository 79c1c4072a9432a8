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

"""The undo steps of a guest that is being made."""

from collections.abc import Sequence
import contextlib
import dataclasses
import os
import pathlib
import re

from nova_snap import durable
from nova_snap import exception
from nova_snap import undo
from nova_snap.virt.libvirt import guest as guest_lib

PREFIX = '.nova-snap-disk-'
_PART = re.compile(
    re.escape(PREFIX) + r'[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}-[a-z0-9]+'
)


@dataclasses.dataclass(frozen=True)
class RemoveDisks(undo.Step, kind='remove the unfinished disks'):
    """Remove the files of disks, unless a guest has them.

    Each file is written under a name of ours, and gets that of the disk as a
    second one.  So a file with the name of the disk is known to be ours.

    :ivar parts: the files that are written.
    :ivar paths: the names of the disks, in the same order.
    """

    parts: Sequence[str]
    paths: Sequence[str]

    def undo(self, resources: undo.Resources) -> None:
        """Remove all files that no guest has.

        :raises UnsafeDisk: a file is not one that is written here.
        """
        host = resources.get(guest_lib.Guest).host
        for part, path in zip(self.parts, self.paths, strict=True):
            written = pathlib.Path(part)
            if not written.is_absolute() or not _PART.fullmatch(written.name):
                raise exception.UnsafeDisk(
                    disk=repr(part), reason='it is no unfinished disk.'
                )
            disk = pathlib.Path(path)
            if _is_same(written, disk) and not any(host.users_of(path)):
                disk.unlink()
            written.unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                durable.sync_directory(written.parent)


def _is_same(one: pathlib.Path, other: pathlib.Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(one.lstat(), other.lstat())
    return False


@dataclasses.dataclass
class Outcome:
    """What the running process knows of the new guest."""

    is_complete: bool = False


@dataclasses.dataclass(frozen=True)
class RemoveGuest(undo.Step, kind='remove the unfinished server'):
    """Undefine a new guest that could not be started.

    A recovery does not: a guest that is defined is whole, and somebody may
    have started it since.
    """

    outcome: Outcome | None = dataclasses.field(
        default=None, compare=False, repr=False, metadata=undo.VOLATILE
    )

    def undo(self, resources: undo.Resources) -> None:
        """Undefine the guest, if this process has failed to start it."""
        if self.outcome is not None and not self.outcome.is_complete:
            guest = resources.get(guest_lib.Guest)
            guest.host.remove(guest.uuid)
