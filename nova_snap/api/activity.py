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

"""What the service does to a server at the moment."""

from nova_snap import exception
from nova_snap.api import services as services_lib
from nova_snap.api.views import server as server_view
from nova_snap.objects import task_state as task_states


def of(
    services: services_lib.Services, instance_uuid: str
) -> server_view.Activity:
    """Return what is done to a server, for those who look at it."""
    snapshot = services.snapshots.of(instance_uuid)
    if snapshot is not None:
        return server_view.Activity(snapshot.task_state, snapshot.per_cent)
    action = services.power.of(instance_uuid)
    if action is not None:
        return server_view.Activity(
            action.task_state, vm_state=action.vm_state
        )
    rebuild = services.rebuilds.of(instance_uuid)
    if rebuild is not None:
        return server_view.Activity(
            rebuild.task_state,
            rebuild.per_cent,
            rebuild.vm_state,
            rebuild.image_id if rebuild.is_accepted else None,
        )
    return server_view.Activity()


def conflict(
    services: services_lib.Services, instance_uuid: str, action: str
) -> exception.InvalidState:
    """Return the error about an action while another is going on.

    What another process does, such as the command, takes images.

    :param action: its name in the message.
    """
    found = of(services, instance_uuid)
    return exception.InvalidState(
        server=instance_uuid,
        action=action,
        attr='task_state',
        state=found.task_state or task_states.TaskState.IMAGE_SNAPSHOT,
    )
