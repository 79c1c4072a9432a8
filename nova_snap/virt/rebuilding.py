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


"""What a driver is asked for when the disks of a guest are replaced."""

import abc
from collections.abc import Sequence
import dataclasses
import pathlib

from nova_snap import journal
from nova_snap.virt import creation
from nova_snap.virt import power


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What becomes of a guest.

    :ivar image: the id of the image that the disks are of.
    :ivar disks: that replace those of the guest.
    :ivar directory: for the disks; None: beside those that they replace.
    :ivar forgets: disks that an earlier rebuild has replaced are removed.
    :ivar max_disk: bytes of a disk's virtual size, at most.
    """

    image: str
    disks: Sequence[creation.Disk]
    directory: pathlib.Path | None = None
    forgets: bool = False
    max_disk: int = 1 << 41


class Replacement(creation.NewDisks):
    """New disks for a guest; nothing of the guest is changed yet."""

    @abc.abstractmethod
    def inspect(self) -> None:
        """Inspect the disks, whose data is written.

        :raises UnsafeImage: the data of an image is not fit for a disk.
        """

    @abc.abstractmethod
    def finish(self, entry: journal.Entry, control: power.Control) -> None:
        """Give the guest the disks; the guest runs again if it did before.

        The disks that it had are kept.

        :param control: ends the wait for a guest that was asked to shut down.
        :raises Conflict: the guest has changed meanwhile.
        :raises HypervisorError: the guest can't be started with the disks; it
            has those of before, and runs if it did.
        """


class Rebuild(abc.ABC):
    """A guest whose disks are replaced, or given back to it."""

    @abc.abstractmethod
    def replacement(self, wanted: Wanted) -> Replacement:
        """Check whether the disks can be replaced.

        :raises RebuildRefused: or another Conflict.
        :raises Invalid: what is wanted is not possible here.
        :raises UnsafeImage: the format of an image is not that of a disk.
        :raises NotEnoughSpace: there is no room for the disks.
        """

    @abc.abstractmethod
    def undo(self, entry: journal.Entry, control: power.Control) -> None:
        """Give the guest the disks back that were replaced last.

        Those that have replaced them are removed.

        :raises RebuildRefused: there are none; or another Conflict.
        :raises HypervisorError: as of :meth:`Replacement.finish`.
        """

    @abc.abstractmethod
    def forget(self, entry: journal.Entry) -> None:
        """Remove the disks that were replaced, if there are any."""
