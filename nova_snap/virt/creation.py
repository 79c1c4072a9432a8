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

"""What a driver is asked for when a guest is made of images."""

import abc
from collections.abc import Sequence
import contextlib
import dataclasses
import pathlib
from typing import BinaryIO

from nova_snap import journal


@dataclasses.dataclass(frozen=True)
class Disk:
    """A disk that the data of an image becomes.

    :ivar device: the target name; None if the image is of one disk, and does
        not say of which.
    :ivar image: the image, for messages.
    :ivar format: of the data, as the image's record names it.
    :ivar size: bytes of the data.
    """

    device: str | None
    image: str
    format: str
    size: int


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What the new guest is to be like.

    :ivar of_image: the definition that the image carries, empty if none;
        anybody may have written it.
    :ivar like: the guest of this host whose hardware is taken instead.
    :ivar written: a definition that the user has written, instead.
    :ivar directory: for the disks; None: beside those of ``like``, or where
        the hypervisor keeps them.
    :ivar pool: the storage pool for the disks, instead.
    :ivar network: for interfaces of which no other network is known.
    :ivar starts: the guest is started.
    :ivar max_disk: bytes of a disk's virtual size, at most.
    """

    disks: Sequence[Disk]
    of_image: str = dataclasses.field(default='', repr=False)
    like: str | None = None
    written: str | None = dataclasses.field(default=None, repr=False)
    directory: pathlib.Path | None = None
    pool: str | None = None
    network: str | None = None
    starts: bool = True
    max_disk: int = 1 << 41


class NewDisks(abc.ABC):
    """Disks whose data is about to be written."""

    @abc.abstractmethod
    def files(
        self, entry: journal.Entry
    ) -> contextlib.AbstractContextManager[Sequence[BinaryIO]]:
        """Yield an empty file for the data of each disk.

        After the block the files are disks of the guest, if ``finish()`` has
        ended well; else nothing of them is left.
        """


class Creation(NewDisks):
    """A guest that can be made; nothing of it is there yet."""

    @abc.abstractmethod
    def finish(self, entry: journal.Entry) -> None:
        """Make the guest, whose disks are written.

        :raises UnsafeImage: the data of an image is not fit for a disk.
        :raises Conflict: a file has the name of a disk.
        :raises HypervisorError: the guest can't be made, or not be started.
        """
