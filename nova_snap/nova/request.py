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

"""Conversion of a request of nova-compute to the types of the core."""

from collections.abc import Callable
from typing import Any

from nova.compute import task_states as nova_states

from nova_snap.objects import instance as instance_lib
from nova_snap.objects import task_state

_STATES = {
    task_state.TaskState.IMAGE_PENDING_UPLOAD: (
        nova_states.IMAGE_PENDING_UPLOAD
    ),
    task_state.TaskState.IMAGE_UPLOADING: nova_states.IMAGE_UPLOADING,
}


def instance_of(
    instance: Any, disks: instance_lib.DiskChoice
) -> instance_lib.Instance:
    """Return the core's instance for Nova's.

    :param disks: those that the request is about.
    """
    return instance_lib.Instance(
        uuid=instance.uuid,
        name=instance.display_name or instance.name,
        project_id=instance.project_id,
        user_id=instance.user_id,
        image_ref=instance.image_ref or None,
        flavor=instance_lib.Flavor(
            name=instance.flavor.name,
            memory_mb=instance.flavor.memory_mb,
            root_gb=instance.flavor.root_gb,
        ),
        disks=disks,
    )


def image_properties(instance: Any) -> dict[str, str]:
    """Return the properties of the base image that the core uses."""
    required = instance.image_meta.properties.get('os_require_quiesce', False)
    return {'os_require_quiesce': str(required)}


class TaskStates:
    """Callback that sets Nova's task states in the course of one request.

    Each call expects the state that the call before has set.

    :param update: Nova's update_task_state, which itself knows the state to
        expect first: that of a snapshot, a backup or shelving.
    """

    def __init__(self, update: Callable[..., None]) -> None:
        self._update = update
        self._current: str | None = None

    def __call__(self, state: task_state.TaskState) -> None:
        """Set the next state.

        :raises UnexpectedTaskStateError: Nova's; another operation on the
            server has begun, such as its deletion.
        """
        new = _STATES[state]
        if self._current is None:
            self._update(task_state=new)
        elif self._current != new:
            self._update(task_state=new, expected_state=self._current)
        self._current = new
