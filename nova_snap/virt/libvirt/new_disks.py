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


"""Files that are about to become the disks of a guest.

Open this file for where the data of images is written, and for what is
checked before a file gets the name of a disk.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import os
import pathlib
import stat
from typing import BinaryIO

from nova_snap import concurrency
from nova_snap import durable
from nova_snap import exception
from nova_snap import journal
from nova_snap.virt import creation
from nova_snap.virt.libvirt import host as host_lib
from nova_snap.virt.libvirt import new_guest_steps
from nova_snap.virt.libvirt.extraction import space
from nova_snap.virt.storage import image_check


@dataclasses.dataclass(frozen=True)
class Placed:
    """A disk, the file that is written, and the name that it gets.

    :ivar model: the file of a disk whose owner and mode the disk gets.
    """

    disk: creation.Disk
    part: pathlib.Path
    path: pathlib.Path
    model: pathlib.Path | None = None

    @classmethod
    def of(
        cls,
        disk: creation.Disk,
        device: str,
        uuid: str,
        path: pathlib.Path,
        model: pathlib.Path | None,
    ) -> 'Placed':
        """Return the place of a disk.

        :param device: the target name of the disk.
        :param uuid: that of the guest.
        """
        name = f'{new_guest_steps.PREFIX}{uuid}-{device.lower()}'
        return cls(disk, path.with_name(name), path, model)

    def take_owner(self) -> None:
        """Give the disk the owner and the mode of its model, if it has one.

        Where libvirt is told not to change owners (dynamic_ownership = 0 in
        its qemu.conf), QEMU could not open the disk otherwise.

        :raises SnapshotFailed: this user may not.
        """
        if self.model is None:
            return
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            found = self.model.stat()
            descriptor = os.open(self.path, flags)
            try:
                os.fchown(descriptor, found.st_uid, found.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(found.st_mode) & 0o660)
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            return  # there is no model any more
        except OSError as error:
            raise exception.SnapshotFailed(
                f'The owner of {self.path} cannot be set: {error.strerror}.'
            ) from error


class NewDisks:
    """The new disks of one guest.

    :param max_disk: bytes of a disk's virtual size, at most.
    """

    def __init__(self, placed: Sequence[Placed], max_disk: int) -> None:
        self.placed = placed
        self._max_disk = max_disk
        #: Of the files that were made, by their names.
        self._made: dict[pathlib.Path, os.stat_result] = {}

    def require(self, host: host_lib.Host, reserved: int) -> None:
        """Check what can be checked before anything is written.

        :param reserved: bytes that stay free.
        :raises UnsafeImage: the format of an image is not that of a disk.
        :raises Conflict: the name of a disk is taken.
        :raises NotEnoughSpace: there is no room for the disks.
        """
        for one in self.placed:
            image_check.require_format(
                one.disk.format, f'Image {one.disk.image}'
            )
            if os.path.lexists(one.path):
                raise exception.Conflict(
                    f'{one.path} exists, and is not replaced.'
                )
            for user in host.users_of(str(one.path)):
                raise exception.Conflict(
                    f'Server {user} has the disk {one.path}, though there is '
                    'no such file.'
                )
        for directory in {one.path.parent for one in self.placed}:
            sizes = (
                one.disk.size
                for one in self.placed
                if one.path.parent == directory
            )
            space.require(directory, reserved + sum(sizes))

    @contextlib.contextmanager
    def files(self, entry: journal.Entry) -> Iterator[Sequence[BinaryIO]]:
        """Yield a new file for each disk; only this user can read it.

        After the block those that no guest names are removed.
        """
        step = new_guest_steps.RemoveDisks(
            [str(one.part) for one in self.placed],
            [str(one.path) for one in self.placed],
        )
        with entry.undoing(step), contextlib.ExitStack() as stack:
            try:
                files = [
                    stack.enter_context(self._file(one.part))
                    for one in self.placed
                ]
            except OSError as error:
                raise exception.SnapshotFailed(
                    f'The disks cannot be made: {error}.'
                ) from error
            yield files

    def _file(self, path: pathlib.Path) -> BinaryIO:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        self._made[path] = os.fstat(descriptor)
        return open(descriptor, 'r+b')

    def complete(self) -> None:
        """Inspect the disks, whose data is written, and name them.

        :raises UnsafeImage: the data of an image is not fit for a disk.
        :raises Conflict: a file has the name of a disk.
        """
        for one in self.placed:
            image_check.virtual_size(
                one.part,
                one.disk.format,
                f'Image {one.disk.image}',
                self._max_disk,
            )
        for one in self.placed:
            name(one)
            self._require_same(one)

    def _require_same(self, placed: Placed) -> None:
        """Raise UnsafeDisk if another user has put a file in the place."""
        found = placed.path.lstat()
        if not os.path.samestat(found, self._made[placed.part]):
            raise exception.UnsafeDisk(
                disk=placed.path,
                reason='another program has changed the directory meanwhile.',
            )


def name(placed: Placed) -> None:
    """Write a disk to the medium, and give it its name.

    :raises Conflict: a file has the name.
    """
    try:
        with placed.part.open('rb') as file:
            concurrency.run_blocking(os.fsync, file.fileno())
        os.link(placed.part, placed.path, follow_symlinks=False)
        durable.sync_directory(placed.path.parent)
    except FileExistsError:
        raise exception.Conflict(
            f'{placed.path} exists, and is not replaced.'
        ) from None
    except OSError as error:
        raise exception.SnapshotFailed(
            f'{placed.path} cannot be made: {error.strerror}.'
        ) from error
