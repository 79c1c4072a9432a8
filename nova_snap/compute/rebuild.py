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


"""Rebuilds: the disks of an instance replaced by images, and given back.

Open this file for the steps at the highest level.
"""

from collections.abc import Callable
import dataclasses

from nova_snap import progress as progress_lib
from nova_snap.compute import boot
from nova_snap.compute import manager as manager_lib
from nova_snap.image import api as image_api
from nova_snap.objects import instance as instance_lib
from nova_snap.objects import task_state as task_states
from nova_snap.virt import power
from nova_snap.virt import rebuilding

TaskState = task_states.TaskState


@dataclasses.dataclass(frozen=True)
class Images:
    """The image service, by two logins that may be the same.

    :ivar undo: for undo steps of earlier operations.
    :ivar download: for the data of the images.
    """

    undo: image_api.ImageService
    download: image_api.ImageService


def _ignore(_state: TaskState) -> None:
    """Do nothing in a task state."""


@dataclasses.dataclass(frozen=True)
class Listener:
    """What is told of a rebuild, and may hurry it.

    :ivar accepted: called once it is known that the rebuild is possible.
    :ivar enter: called with each task state.
    :ivar control: ends the wait for a guest that was asked to shut down.
    """

    accepted: Callable[[], None] = lambda: None
    enter: Callable[[TaskState], None] = _ignore
    control: power.Control = dataclasses.field(default_factory=power.Control)


def rebuild(
    manager: manager_lib.SnapshotManager,
    instance: instance_lib.Instance,
    target: rebuilding.Rebuild,
    images: Images,
    chosen: boot.Source,
    wanted: rebuilding.Wanted,
    progress: progress_lib.Progress,
    listener: Listener | None = None,
) -> None:
    """Replace disks of an instance; if that fails, it has its own.

    The disks that are replaced are kept.

    :raises NovaSnapError: as the driver and the image service do.
    """
    listener = listener or Listener()
    with manager.begun(
        instance, progress, images.undo, takes_slot=False
    ) as operation:
        replacement = target.replacement(wanted)
        listener.accepted()
        with manager.slot(progress):
            listener.enter(TaskState.REBUILD_BLOCK_DEVICE_MAPPING)
            with replacement.files(operation.entry) as files:
                chosen.download(images.download, files, progress)
                replacement.inspect()
                progress.check()
                listener.enter(TaskState.REBUILD_SPAWNING)
                replacement.finish(operation.entry, listener.control)


def undo(
    manager: manager_lib.SnapshotManager,
    instance: instance_lib.Instance,
    target: rebuilding.Rebuild,
    images: image_api.ImageService,
    progress: progress_lib.Progress,
) -> None:
    """Give an instance the disks back that were replaced last.

    :raises NovaSnapError: as the driver does.
    """
    with manager.begun(
        instance, progress, images, takes_slot=False
    ) as operation:
        target.undo(operation.entry, power.Control())


def forget(
    manager: manager_lib.SnapshotManager,
    instance: instance_lib.Instance,
    target: rebuilding.Rebuild,
    images: image_api.ImageService,
    progress: progress_lib.Progress,
) -> None:
    """Remove the disks of an instance that were replaced.

    :raises NovaSnapError: as the driver does.
    """
    with manager.begun(
        instance, progress, images, takes_slot=False
    ) as operation:
        target.forget(operation.entry)
