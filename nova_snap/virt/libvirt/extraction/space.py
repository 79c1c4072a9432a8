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

"""The space of the temporary files, and the share of each extraction.

Open this file to change which of several snapshots is given up when the disks
of guests need the space.

The folder of each extraction that is under way has a file whose size is the
extraction's share; it has no blocks, and its process holds a lock on it.
Folders that a killed process has left have no such lock, and do not count.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import fcntl
import os
import pathlib
import stat
from typing import Self

from oslo_utils import units

from nova_snap import exception

_NAME = 'share'


@dataclasses.dataclass(frozen=True, order=True)
class _Usage:
    """What an extraction takes; the greatest has to end first.

    :ivar excess: bytes beyond its share.  Only that of a ``pull`` is limited:
        how much it takes depends on the guest, not on the size of a disk.
    :ivar used: bytes on disk.
    :ivar left: bytes of its share that it may still take.
    """

    excess: int
    used: int
    name: str
    left: int = dataclasses.field(compare=False)

    @classmethod
    def of(cls, folder: pathlib.Path, share: int) -> Self:
        """Return the usage of an extraction by its folder."""
        used = _used(folder)
        excess = max(0, used - share) if share else 0
        return cls(excess, used, folder.name, max(0, share - used))


@dataclasses.dataclass(frozen=True)
class Space:
    """The space for temporary files.

    :ivar reserved: bytes that have to stay free for the disks of guests.
    :ivar directories: where extractions have their folders.
    """

    reserved: int
    directories: tuple[pathlib.Path, ...]

    def require_to_begin(self, directory: pathlib.Path, share: int) -> None:
        """Raise if an extraction may not begin in a directory.

        What the extractions that are under way may still take counts.

        :param share: bytes that have to be free beyond the reserve.
        :raises NotEnoughSpace: they are not.
        """
        promised = sum(usage.left for usage in self._under_way(directory))
        require(directory, self.reserved + share + promised)

    @contextlib.contextmanager
    def taken(self, folder: pathlib.Path, share: int) -> Iterator[None]:
        """Count an extraction as one that is under way, in the block.

        :raises NotEnoughSpace: others have begun meanwhile.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with contextlib.ExitStack() as stack:
            try:
                descriptor = os.open(folder / _NAME, flags, 0o600)
                stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                os.ftruncate(descriptor, share)
            except OSError as error:
                raise exception.SnapshotFailed(
                    f'The space in {folder} cannot be shared: '
                    f'{error.strerror}.'
                ) from error
            # By now its own share counts, too.
            self.require_to_begin(folder.parent, 0)
            yield

    def release(self, folder: pathlib.Path) -> None:
        """Do not count an extraction any more: it takes no more space."""
        (folder / _NAME).unlink(missing_ok=True)

    def require(self, folder: pathlib.Path) -> None:
        """Raise if the extraction with this folder has to end.

        When the reserve is reached, only one has to: of those that have taken
        more than their share the one that has taken most, or else the
        largest.  When half of the reserve is gone all the same, every one has
        to.

        :raises NotEnoughSpace: it has to end.
        """
        free = _free(folder)
        if free >= self.reserved:
            return
        under_way = self._under_way(folder)
        first = max(under_way, default=None)
        if (
            first is None
            or first.name == folder.name
            or free < self.reserved // 2
        ):
            require(folder, self.reserved)

    def _under_way(self, place: pathlib.Path) -> list[_Usage]:
        """Return the extractions on the file system of a file."""
        device = place.stat().st_dev
        return [
            _Usage.of(folder, share)
            for folder in _folders(self.directories, device)
            if (share := _share(folder)) is not None
        ]


def require(folder: pathlib.Path, needed: int) -> None:
    """Raise NotEnoughSpace if less than ``needed`` bytes are free."""
    free = _free(folder)
    if free < needed:
        raise exception.NotEnoughSpace(
            path=folder,
            free_mib=free // units.Mi,
            needed_mib=-(-needed // units.Mi),
        )


def _free(folder: pathlib.Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def _folders(
    directories: Sequence[pathlib.Path], device: int
) -> Iterator[pathlib.Path]:
    for directory in dict.fromkeys(directories):
        with contextlib.suppress(OSError):
            if directory.stat().st_dev == device:
                yield from directory.iterdir()


def _share(folder: pathlib.Path) -> int | None:
    """Return the share of an extraction, or None if none is under way.

    QEMU's user may own the folder, but not the file.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(folder / _NAME, flags)
    except OSError:
        return None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            return None
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return found.st_size
    except OSError:
        return None  # a file system without locks
    finally:
        os.close(descriptor)
    return None


def _used(folder: pathlib.Path) -> int:
    used = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                used += entry.stat(follow_symlinks=False).st_blocks * 512
    return used
