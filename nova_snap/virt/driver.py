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

"""What a hypervisor offers the manager of snapshots."""

import abc
from collections.abc import Callable
from collections.abc import Mapping
import contextlib
import dataclasses
from typing import BinaryIO

from oslo_utils import strutils

from nova_snap import journal
from nova_snap import progress as progress_lib
from nova_snap.image import api as image_api
from nova_snap.objects import instance as instance_lib
from nova_snap.objects import power_state
from nova_snap.objects import task_state
from nova_snap.virt import decision as decision_lib

#: Freezes an instance for the length of a block; yields whether it is frozen.
Quiesced = Callable[[journal.Entry], contextlib.AbstractContextManager[bool]]

UpdateTaskState = Callable[[task_state.TaskState], None]


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a snapshot will be taken; drivers add what they need.

    ``disk_format`` is Glance's word, ``virtual_size`` is in bytes.
    """

    instance: instance_lib.Instance
    decision: decision_lib.Decision
    disk_format: str
    virtual_size: int


@dataclasses.dataclass(frozen=True)
class ImageData:
    """The bytes of an image.

    ``size`` is in bytes, None where it is not known yet; ``progress`` is what
    the progress of sending them is reported to.
    """

    stream: BinaryIO
    format: str
    size: int | None
    progress: progress_lib.Progress


def requires_quiesce(image_properties: Mapping[str, str]) -> bool:
    """Whether the image property os_require_quiesce is set."""
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
        :raises UnsupportedGuest: this guest can't be snapshot.
        :raises QuiesceNotPossible: os_require_quiesce can't be met.
        :raises NotEnoughSpace: there is no room.
        """

    @abc.abstractmethod
    def extracted(
        self,
        plan: Plan,
        entry: journal.Entry,
        progress: progress_lib.Progress,
    ) -> contextlib.AbstractContextManager[ImageData]:
        """Read the root disk as was decided, for the length of a block.

        When the block has ended, the guest is as it was, or ``entry`` has
        what is still owed.

        :raises SnapshotFailed: or one of its subclasses.
        :raises SnapshotCancelled: somebody cancelled it.
        """

    @abc.abstractmethod
    def snapshot(
        self,
        plan: Plan,
        image_id: str,
        images: image_api.ImageService,
        entry: journal.Entry,
        progress: progress_lib.Progress,
        update_task_state: UpdateTaskState,
    ) -> None:
        """Extract the root disk, and send it to an image record.

        Raises as :meth:`extracted` does, and as the image service does.
        """

    @abc.abstractmethod
    def undoers(self, instance_uuid: str) -> Mapping[str, journal.Undo]:
        """How the duties that this driver puts into entries are undone."""
