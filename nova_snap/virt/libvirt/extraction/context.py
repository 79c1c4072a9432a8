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

"""Extraction context: the arguments of every pipeline, and common checks."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import os
import pathlib
from typing import TypeAlias

from nova_snap import exception
from nova_snap import journal
from nova_snap import progress as progress_lib
from nova_snap.virt import driver
from nova_snap.virt.libvirt import disk_xml
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import hooks as hooks_lib
from nova_snap.virt.libvirt import quiesce as quiesce_lib
from nova_snap.virt.libvirt.extraction import shared_folder
from nova_snap.virt.libvirt.extraction import space as space_lib

DiskOperationSlot: TypeAlias = Callable[
    [progress_lib.Progress], contextlib.AbstractContextManager[None]
]


@dataclasses.dataclass(frozen=True)
class DiskToRead:
    """A disk, and the image that is made of it.

    ``virtual_size`` is in bytes; ``progress`` is the disk's part of that of
    the extraction.
    """

    disk: disk_xml.Disk
    virtual_size: int
    image_format: str
    compress: bool
    progress: progress_lib.Progress


@dataclasses.dataclass(frozen=True)
class Context:
    """The arguments of one extraction.

    The first of the ``disks`` is the root disk, if that is read.
    ``disk_operation_slot`` is held while an image is converted; QEMU runs as
    the user ``qemu_uid``.  ``moment`` is taken once, while the guest is still
    if it can be.
    """

    guest: guest_lib.Guest
    disks: tuple[DiskToRead, ...]
    quiesce: quiesce_lib.Quiesce
    folder: pathlib.Path
    space: space_lib.Space
    entry: journal.Entry
    progress: progress_lib.Progress
    disk_operation_slot: DiskOperationSlot
    hooks: hooks_lib.Hooks = hooks_lib.NONE
    qemu_uid: int = dataclasses.field(default_factory=os.geteuid)
    moment: driver.Moment = dataclasses.field(default_factory=driver.Moment)

    @property
    def root(self) -> DiskToRead:
        """The root disk."""
        return self.disks[0]

    @contextlib.contextmanager
    def quiesced(self) -> Iterator[None]:
        """Freeze the guest for a block, and take the moment at its end.

        Raises what :func:`.quiesce.quiesced` and the moment do.
        """
        limit = quiesce_lib.FROZEN_LIMIT + self.moment.limit
        with quiesce_lib.quiesced(
            self.guest, self.quiesce, self.entry, self.progress, limit
        ) as frozen:
            yield
            self.moment.take(
                driver.Stillness.HELD if frozen else driver.Stillness.NONE
            )

    def release_space(self) -> None:
        """Take no more space, so that another has to end if it gets short."""
        self.space.release(self.folder)

    def report(
        self, stage: progress_lib.Stage, done: int, total: int | None
    ) -> None:
        """Report progress, and check the free space.

        :raises NotEnoughSpace: only the space that is reserved for the disks
            of guests is left, and this extraction has to end first.
        :raises SnapshotCancelled: the operation was cancelled.
        """
        self.space.require(self.folder)
        self.progress.report(stage, done, total)

    def converting(self, target: DiskToRead, share: float) -> None:
        """Report how much of a disk is converted, 0 to 1.

        Raises what :meth:`report` does.
        """
        self.space.require(self.folder)
        target.progress.report(
            progress_lib.Stage.CONVERTING,
            int(share * target.virtual_size),
            target.virtual_size,
        )


def require_directory(directory: pathlib.Path) -> None:
    """Make a directory for temporary files, unless it is there.

    :raises NotPermitted: this user can't write to it.
    :raises Invalid: the path is no directory.
    """
    advice = (
        'see [libvirt] snapshots_directory and [snapshot] scratch_directory.'
    )
    try:
        shared_folder.make_directory(directory)
        if not directory.is_dir():
            raise NotADirectoryError
    except (FileExistsError, NotADirectoryError) as error:
        raise exception.Invalid(
            f'{directory} is no directory; {advice}'
        ) from error
    except PermissionError:
        pass  # the next line raises
    if not os.access(directory, os.W_OK | os.X_OK):
        raise exception.NotPermitted(
            f'This user may not write to {directory}; {advice}'
        )


@contextlib.contextmanager
def opened(
    path: pathlib.Path, target: DiskToRead
) -> Iterator[driver.ImageData]:
    """Open the finished image file of a disk as image data."""
    with shared_folder.open_file(path) as stream:
        yield driver.ImageData(
            stream=stream,
            format=target.image_format,
            size=os.fstat(stream.fileno()).st_size,
            progress=target.progress,
        )
