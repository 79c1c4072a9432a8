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

"""Abstract classes of drivers and plans, and the results of a plan.

Open this file to write another driver, or another way to read disks.
"""

import abc
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import enum
from typing import BinaryIO

from nova_snap import exception
from nova_snap import journal
from nova_snap import progress as progress_lib
from nova_snap import undo
from nova_snap.objects import host_details
from nova_snap.objects import instance as instance_lib
from nova_snap.objects import instance_details
from nova_snap.objects import power_state
from nova_snap.virt import creation as creation_lib
from nova_snap.virt import decision as decision_lib
from nova_snap.virt import domain_snapshot
from nova_snap.virt import power as power_lib
from nova_snap.virt import rebuilding

#: Makes a context manager that freezes an instance and yields True if frozen.
Quiesced = Callable[
    [journal.Entry, progress_lib.Progress],
    contextlib.AbstractContextManager[bool],
]


class Stillness(enum.Enum):
    """What keeps a guest from writing at the moment that images show.

    ``HELD``: it is frozen or suspended, and waits.  ``OFF``: it is shut off.
    """

    NONE = 'none'
    HELD = 'held'
    OFF = 'off'


class Moment:
    """The moment that images show, and what else is done then.

    This one does nothing.  Others take snapshots of disks that are not read
    here.

    :ivar limit: seconds that :meth:`take` takes at most while a guest is held.
    """

    limit: float = 0

    def take(self, stillness: Stillness) -> None:
        """Do what has to be done at this moment.

        A pipeline calls this method once, when the data that it reads is
        fixed, and before the guest goes on.

        :raises NovaSnapError: the images would not be whole.
        """


@dataclasses.dataclass(frozen=True)
class Record:
    """The image record that an operation fills.

    ``owner`` is a project, None if it is not known; ``is_seen`` is True if
    this process has seen the record, so that it can't be a hidden one.
    """

    image_id: str
    owner: str | None = None
    is_seen: bool = False


class Records(abc.ABC):
    """The image records, as undo steps of data in the image service see them.

    A driver knows no image service; ``compute`` has the class for each.
    """

    @abc.abstractmethod
    def settle(self, record: Record) -> bool:
        """Return True if an image has data; else keep it from getting any.

        A record without data is deleted, since the image service may be about
        to add the location that a killed process has given it.

        :raises NovaSnapError: that is not known, or can't be done.
        """


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation on an instance, begun by the frame around it.

    ``entry`` takes the undo steps of the operation's changes; ``progress``
    takes its reports, and raises if it is cancelled; ``record`` is None if
    the image goes to no record; ``further_records`` are those of the disks
    besides the root disk.
    """

    instance: instance_lib.Instance
    entry: journal.Entry
    progress: progress_lib.Progress
    moment: Moment = dataclasses.field(default_factory=Moment)
    record: Record | None = None
    further_records: tuple[Record, ...] = ()


@dataclasses.dataclass(frozen=True)
class ImageData:
    """The bytes of an image.

    ``size`` is in bytes, None if it is not known yet; ``progress`` takes the
    reports of sending the bytes.
    """

    stream: BinaryIO
    format: str
    size: int | None
    progress: progress_lib.Progress


@dataclasses.dataclass(frozen=True)
class Location:
    """The location of an image's existing bytes, as in Glance.

    An example of ``url`` is ``rbd://FSID/POOL/IMAGE/SNAPSHOT``.
    """

    url: str


#: The data of one disk; entered once, when it is time to read it.
DiskData = contextlib.AbstractContextManager[ImageData | Location]


@dataclasses.dataclass(frozen=True)
class Extraction:
    """The data of an instance's disks, as of one moment.

    ``disks`` are in the order of the plan's images; they may be read side by
    side, and the guest may run on until the last is read.  ``properties`` are
    additional properties of the root disk's image record.
    """

    disks: tuple[DiskData, ...]
    properties: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class DiskImage:
    """The image that is to be made of one disk.

    ``device`` is the disk's target name, such as ``vda``; ``format`` is a
    disk_format of Glance; ``virtual_size`` is in bytes.
    """

    device: str
    format: str
    virtual_size: int


@dataclasses.dataclass(frozen=True)
class Plan(abc.ABC):
    """The plan of an extraction; made from one reading of the guest.

    ``images`` has one item for each disk, the root disk first.
    """

    instance: instance_lib.Instance
    images: tuple[DiskImage, ...]

    @property
    @abc.abstractmethod
    def method(self) -> str:
        """How the disks are read; see :class:`.progress.Measured`."""

    @property
    def is_streamed(self) -> bool:
        """True if there is data to send as soon as the extraction begins."""
        return False

    @abc.abstractmethod
    def extracted(
        self, operation: Operation
    ) -> contextlib.AbstractContextManager[Extraction]:
        """Read the disks as planned, for the length of a block.

        After the block the guest is as it was, or the entry of the operation
        has the steps that are still to be undone.

        :raises SnapshotFailed: or one of its subclasses.
        :raises SnapshotCancelled: the operation was cancelled.
        :raises MethodUnavailable: the disks can't be read this way; nothing
            of the guest was changed.
        """

    def hardware(self) -> Mapping[str, str]:
        """Return image properties for the hardware that the guest boots on.

        They are for an image of a guest whose own base image is not known.
        """
        return {}

    def definition(self) -> str:
        """Return the guest's hardware, for an image of the plan's disks.

        What is secret, and what only this host has, is left out.  Empty if
        images of this plan carry no definition.
        """
        return ''

    def alternatives(self) -> Iterator['Plan']:
        """Yield the plans to try if this one is not available."""
        return iter(())

    def named_step(self) -> undo.Step | None:
        """Return the step that undoes what the image records will name.

        It is undone after the records: an image may not name what is gone.
        """
        return None


def requires_quiesce(image_properties: Mapping[str, str]) -> bool:
    """Return True if the image property os_require_quiesce is set."""
    value = image_properties.get('os_require_quiesce')
    if value is None:
        return False
    # It compiles 438 regular expressions: a tenth of the time of a command.
    from oslo_utils import strutils

    return strutils.bool_from_string(value)


class ComputeDriver(abc.ABC):
    """The instances of one hypervisor.

    Every method raises :class:`~nova_snap.exception.HypervisorUnavailable`
    when the hypervisor does not answer.
    """

    @abc.abstractmethod
    def instances(
        self,
    ) -> list[tuple[instance_lib.Instance, power_state.PowerState]]:
        """Return all instances of this host, with their states."""

    @abc.abstractmethod
    def instance(self, server: str) -> instance_lib.Instance:
        """Return the instance with this uuid or name.

        :raises InstanceNotFound: there is none.
        :raises InstanceAmbiguous: several have the name.
        """

    @abc.abstractmethod
    def all_details(self) -> list[instance_details.InstanceDetails]:
        """Return what is known of all instances of this host.

        No hypervisor process is asked, so none can delay this.
        """

    @abc.abstractmethod
    def details(self, instance_uuid: str) -> instance_details.InstanceDetails:
        """Return what is known of an instance.

        :raises InstanceNotFound: there is none.
        """

    @abc.abstractmethod
    def host_details(self) -> host_details.HostDetails:
        """Return what is known of this host."""

    @abc.abstractmethod
    def block_devices(
        self, instance: instance_lib.Instance
    ) -> tuple[instance_lib.BlockDevice, ...]:
        """Return the disks of an instance, the root disk first.

        If a request is about several disks, only these are returned.

        :raises UnsupportedGuest: no image can be made of one of them.
        """

    @abc.abstractmethod
    def quiescing(
        self,
        instance: instance_lib.Instance,
        image_properties: Mapping[str, str],
    ) -> Quiesced:
        """Find out whether an instance can be frozen.

        Return a function that freezes it, which may raise QuiesceNotPossible,
        too.

        :param image_properties: those of the base image.
        :raises QuiesceNotPossible: os_require_quiesce can't be met.
        """

    @abc.abstractmethod
    def explain(
        self, instance: instance_lib.Instance
    ) -> decision_lib.Decision:
        """Return how a snapshot would be taken; change nothing.

        :raises UnsupportedGuest: no snapshot can be taken.
        """

    @abc.abstractmethod
    def plan(
        self,
        instance: instance_lib.Instance,
        image_properties: Mapping[str, str],
    ) -> Plan:
        """Decide, and check everything that could make a snapshot fail.

        Nothing of the guest is changed.

        :param image_properties: those of the base image.
        :raises UnsupportedGuest: no image can be taken of this guest.
        :raises QuiesceNotPossible: os_require_quiesce can't be met.
        :raises NotEnoughSpace: there is no room.
        """

    @abc.abstractmethod
    def power(self, instance: instance_lib.Instance) -> power_lib.Power:
        """Return what changes the power of an instance."""

    def creation(
        self, instance: instance_lib.Instance, wanted: creation_lib.Wanted
    ) -> creation_lib.Creation:
        """Check whether a guest can be made, and return what makes it.

        :param instance: the new one, with its uuid and name.
        :raises Invalid: what is wanted is not possible here.
        :raises Conflict: a guest has the name.
        :raises NotEnoughSpace: there is no room for the disks.
        """
        raise exception.Invalid('This hypervisor makes no guests of images.')

    def rebuild(
        self, instance: instance_lib.Instance, includes_nova: bool = False
    ) -> rebuilding.Rebuild:
        """Return what replaces the disks of an instance.

        :param includes_nova: it may be one that Nova manages.
        """
        raise exception.Invalid('This hypervisor rebuilds no guests.')

    @abc.abstractmethod
    def domain_snapshots(
        self, instance: instance_lib.Instance
    ) -> domain_snapshot.DomainSnapshots:
        """Return the domain snapshots of an instance."""

    @abc.abstractmethod
    def resources(self, instance_uuid: str) -> Sequence[object]:
        """Return the objects that the undo steps of an instance work on.

        The instance need not exist any more.
        """
