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

"""What a hypervisor offers to operations on instances: the abstract classes.

Open this file to write another driver, or another way to read disks.
"""

import abc
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
from typing import BinaryIO

from oslo_utils import strutils

from nova_snap import journal
from nova_snap import progress as progress_lib
from nova_snap.objects import instance as instance_lib
from nova_snap.objects import power_state
from nova_snap.virt import decision as decision_lib

#: Freezes an instance for a block, which is told whether it is frozen.
Quiesced = Callable[[journal.Entry], contextlib.AbstractContextManager[bool]]


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation on an instance, as the frame around it has begun it.

    ``entry`` takes the undo steps of whatever is begun; ``progress`` is
    reported to, and says when the operation is cancelled.
    """

    instance: instance_lib.Instance
    entry: journal.Entry
    progress: progress_lib.Progress


@dataclasses.dataclass(frozen=True)
class ImageData:
    """The bytes of an image.

    ``size`` is in bytes, None where it is not known yet; ``progress`` is what
    the sending of the bytes is reported to.
    """

    stream: BinaryIO
    format: str
    size: int | None
    progress: progress_lib.Progress


@dataclasses.dataclass(frozen=True)
class Location:
    """Where the bytes of an image already are, as Glance's locations have it.

    ``url`` is such as ``rbd://FSID/POOL/IMAGE/SNAPSHOT``.
    """

    url: str


@dataclasses.dataclass(frozen=True)
class Extraction:
    """What was read of an instance.

    ``disks`` are the images of its disks, the root disk first;
    ``properties`` are what the image record of the root disk gets besides.
    """

    disks: tuple[ImageData | Location, ...]
    properties: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Plan(abc.ABC):
    """How an instance will be read; made from one reading of its guest.

    ``disk_format`` is Glance's word, ``virtual_size`` is in bytes.
    """

    instance: instance_lib.Instance
    disk_format: str
    virtual_size: int

    @abc.abstractmethod
    def extracted(
        self, operation: Operation
    ) -> contextlib.AbstractContextManager[Extraction]:
        """Read the disks as planned, for the length of a block.

        When the block has ended, the guest is as it was, or the entry of the
        operation has what is still to undo.

        :raises SnapshotFailed: or one of its subclasses.
        :raises SnapshotCancelled: somebody cancelled the operation.
        :raises MethodUnavailable: it can't be read this way; nothing of the
            guest was changed.
        """

    def alternatives(self) -> Iterator['Plan']:
        """Make the plans to follow where this one is not available."""
        return iter(())


def requires_quiesce(image_properties: Mapping[str, str]) -> bool:
    """Return True if the image property os_require_quiesce is set."""
    return strutils.bool_from_string(
        image_properties.get('os_require_quiesce', 'false')
    )


class ComputeDriver(abc.ABC):
    """The instances of one hypervisor.

    Every method raises :class:`~nova_snap.exception.HypervisorUnavailable`
    when the hypervisor does not answer.
    """

    @abc.abstractmethod
    def instances(
        self,
    ) -> list[tuple[instance_lib.Instance, power_state.PowerState]]:
        """All instances of this host, with their states."""

    @abc.abstractmethod
    def instance(self, server: str) -> instance_lib.Instance:
        """The instance with this uuid or name.

        :raises InstanceNotFound: there is none.
        :raises InstanceAmbiguous: several have the name.
        """

    @abc.abstractmethod
    def block_devices(
        self, instance: instance_lib.Instance
    ) -> tuple[instance_lib.BlockDevice, ...]:
        """Its disks, the root disk first."""

    @abc.abstractmethod
    def quiescing(
        self,
        instance: instance_lib.Instance,
        image_properties: Mapping[str, str],
    ) -> Quiesced:
        """Find out whether it can be frozen; return what freezes it.

        What is returned raises QuiesceNotPossible, too.

        :param image_properties: those of the image that it was made from.
        :raises QuiesceNotPossible: os_require_quiesce can't be met.
        """

    @abc.abstractmethod
    def explain(
        self, instance: instance_lib.Instance
    ) -> decision_lib.Decision:
        """How a snapshot would be taken; touches nothing.

        :raises UnsupportedGuest: none can be taken.
        """

    @abc.abstractmethod
    def plan(
        self,
        instance: instance_lib.Instance,
        image_properties: Mapping[str, str],
    ) -> Plan:
        """Decide, and find out whatever would make a snapshot fail.

        Nothing of the guest is touched.

        :param image_properties: those of the base image.
        :raises UnsupportedGuest: no image can be taken of this guest.
        :raises QuiesceNotPossible: os_require_quiesce can't be met.
        :raises NotEnoughSpace: there is no room.
        """

    @abc.abstractmethod
    def resources(self, instance_uuid: str) -> Sequence[object]:
        """Return what the undo steps of an instance work on.

        The instance need not exist any more.
        """
