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

"""What nova-compute asks for, in the words of the core."""

from collections.abc import Callable
import time
from typing import Any

from nova.compute import task_states as nova_states

from nova_snap import concurrency
from nova_snap import progress as progress_lib
from nova_snap.objects import instance as instance_lib
from nova_snap.objects import task_state

_STATES = {
    task_state.TaskState.IMAGE_PENDING_UPLOAD: (
        nova_states.IMAGE_PENDING_UPLOAD
    ),
    task_state.TaskState.IMAGE_UPLOADING: nova_states.IMAGE_UPLOADING,
}


def instance_of(instance: Any) -> instance_lib.Instance:
    """The core's instance for Nova's."""
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
    )


def image_properties(instance: Any) -> dict[str, str]:
    """Those of the base image that the core asks for."""
    required = instance.image_meta.properties.get('os_require_quiesce', False)
    return {'os_require_quiesce': str(required)}


def progress_for(instance: Any) -> progress_lib.Progress:
    """Under eventlet, lets the other green threads run now and then."""
    if concurrency.is_eventlet():
        return progress_lib.Progress(instance.uuid, lambda _: time.sleep(0))
    return progress_lib.Progress(instance.uuid)


class TaskStates:
    """The task states of one request, each expected after the one before.

    :param update: Nova's update_task_state, whose first expectation depends
        on what is going on: a snapshot, a backup or shelving.
    """

    def __init__(self, update: Callable[..., None]) -> None:
        self._update = update
        self._current: str | None = None

    def __call__(self, state: task_state.TaskState) -> None:
        """Go on to a state.

        :raises UnexpectedTaskStateError: Nova's; somebody has begun
            something else with the server, such as deleting it.
        """
        new = _STATES[state]
        if self._current is None:
            self._update(task_state=new)
        elif self._current != new:
            self._update(task_state=new, expected_state=self._current)
        self._current = new
