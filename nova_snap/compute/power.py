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

"""Power actions on instances: pause, suspend, stop, reboot, and their ends.

Open this file for when an action is possible, and what it is called: as in
Nova.  How a guest is stopped is the driver's business (``virt/power.py``).
https://docs.openstack.org/nova/latest/reference/vm-states.html
"""

from collections.abc import Callable
import dataclasses

from oslo_log import log as logging

from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap.compute import manager as manager_lib
from nova_snap.image import api as image_api
from nova_snap.objects import instance as instance_lib
from nova_snap.objects import instance_details
from nova_snap.objects import task_state as task_states
from nova_snap.objects import vm_state as vm_states
from nova_snap.virt import driver as driver_lib
from nova_snap.virt import power

LOG = logging.getLogger(__name__)

TaskState = task_states.TaskState
VmState = vm_states.VmState

#: The task states in which a hard reboot waits for another action, and is
#: done then.
REBOOTABLE = frozenset(
    (
        TaskState.REBOOTING,
        TaskState.REBOOT_STARTED,
        TaskState.PAUSING,
        TaskState.UNPAUSING,
        TaskState.SUSPENDING,
        TaskState.RESUMING,
    )
)


@dataclasses.dataclass(frozen=True)
class Change:
    """A power action, as Nova has it.

    :ivar name: Nova's name of the action; its event is made of the name.
    :ivar vm_states: the states in which it is possible.
    :ivar task_state: from the request on.
    :ivar begun: the task state while the guest changes.
    :ivar target: the state after it.
    """

    action: power.Action
    name: str
    vm_states: frozenset[VmState]
    task_state: TaskState
    begun: TaskState
    target: VmState

    @property
    def event(self) -> str:
        """Nova's name of what the host does for the action."""
        return f'compute_{self.name}_instance'


def _change(
    action: power.Action,
    name: str,
    possible: tuple[VmState, ...],
    task_state: TaskState,
    target: VmState,
    begun: TaskState | None = None,
) -> Change:
    return Change(
        action,
        name,
        frozenset(possible),
        task_state,
        begun or task_state,
        target,
    )


PAUSE = _change(
    power.Action.PAUSE,
    'pause',
    (VmState.ACTIVE,),
    TaskState.PAUSING,
    VmState.PAUSED,
)
UNPAUSE = _change(
    power.Action.UNPAUSE,
    'unpause',
    (VmState.PAUSED,),
    TaskState.UNPAUSING,
    VmState.ACTIVE,
)
SUSPEND = _change(
    power.Action.SUSPEND,
    'suspend',
    (VmState.ACTIVE,),
    TaskState.SUSPENDING,
    VmState.SUSPENDED,
)
RESUME = _change(
    power.Action.RESUME,
    'resume',
    (VmState.SUSPENDED,),
    TaskState.RESUMING,
    VmState.ACTIVE,
)
START = _change(
    power.Action.START,
    'start',
    (VmState.STOPPED,),
    TaskState.POWERING_ON,
    VmState.ACTIVE,
)
STOP = _change(
    power.Action.STOP,
    'stop',
    (VmState.ACTIVE, VmState.ERROR),
    TaskState.POWERING_OFF,
    VmState.STOPPED,
)
SOFT_REBOOT = _change(
    power.Action.SOFT_REBOOT,
    'reboot',
    (VmState.ACTIVE,),
    TaskState.REBOOTING,
    VmState.ACTIVE,
    TaskState.REBOOT_STARTED,
)
HARD_REBOOT = _change(
    power.Action.HARD_REBOOT,
    'reboot',
    tuple(VmState),
    TaskState.REBOOTING_HARD,
    VmState.ACTIVE,
    TaskState.REBOOT_STARTED_HARD,
)

CHANGES = (
    PAUSE,
    UNPAUSE,
    SUSPEND,
    RESUME,
    START,
    STOP,
    SOFT_REBOOT,
    HARD_REBOOT,
)


def require_vm_state(
    details: instance_details.InstanceDetails,
    action: str,
    possible: frozenset[VmState],
) -> None:
    """Raise InvalidState unless an instance is in one of the states.

    :param action: its name in the message.
    """
    uuid, found = details.instance.uuid, details.vm_state
    if found is None:
        raise exception.UnknownState(server=uuid, action=action)
    if found not in possible:
        raise exception.InvalidState(
            server=uuid, action=action, attr='vm_state', state=found
        )


class PowerManager:
    """The power of the instances of one driver.

    :param manager: begins the operations; it shares their locks and journal.
    :param includes_nova: the servers of Nova's, too.
    """

    def __init__(
        self,
        driver: driver_lib.ComputeDriver,
        manager: manager_lib.SnapshotManager,
        includes_nova: bool = False,
    ) -> None:
        self._driver = driver
        self._manager = manager
        self._includes_nova = includes_nova

    def change(
        self,
        instance: instance_lib.Instance,
        change: Change,
        images: image_api.ImageService,
        control: power.Control,
        accepted: Callable[[VmState | None], None],
    ) -> None:
        """Change the power of an instance.

        :param images: undo steps of earlier operations may need it.
        :param control: ends the wait for a guest that was asked to shut down.
        :param accepted: called with the state before anything is changed, and
            once it is known that the action is possible.
        :raises SnapshotInProgress: another operation on the instance runs.
        :raises InvalidState: Nova would not do that in this state.
        :raises PowerActionRefused: or another Conflict.
        :raises NovaSnapError: the action failed.
        """
        # Before what an earlier operation has left is undone: that changes
        # the guest, too.
        self._require_not_nova(instance, change)
        progress = progress_lib.Progress(instance.uuid)
        with self._manager.begun(
            instance, progress, images, takes_slot=False
        ) as operation:
            details = self._driver.details(instance.uuid)
            require_vm_state(details, change.name, change.vm_states)
            power_of = self._driver.power(instance)
            power_of.require(change.action)
            accepted(details.vm_state)
            LOG.info(
                'Server %(server)s: %(action)s.',
                {'server': instance.uuid, 'action': change.action.value},
                instance_uuid=instance.uuid,
            )
            try:
                power_of.act(change.action, operation.entry, control)
            except exception.GuestGone as error:
                raise exception.InstanceNotFound(
                    server=instance.uuid
                ) from error

    def finish(
        self, instance: instance_lib.Instance, images: image_api.ImageService
    ) -> None:
        """Undo what an earlier action on an instance has left.

        :raises RecoveryNeeded: that is not possible yet.
        :raises SnapshotInProgress: another operation on the instance runs.
        """
        progress = progress_lib.Progress(instance.uuid)
        with self._manager.begun(instance, progress, images, takes_slot=False):
            pass

    def vm_state(self, instance_uuid: str) -> VmState | None:
        """Return the state of an instance, None if it is not known."""
        try:
            return self._driver.details(instance_uuid).vm_state
        except exception.InstanceNotFound:
            return None

    def _require_not_nova(
        self, instance: instance_lib.Instance, change: Change
    ) -> None:
        """Raise Conflict if nova-compute would take the change for a fault.

        It would stop a server whose guest has gone, and stop a guest that
        runs though the server is stopped.
        """
        if self._includes_nova:
            return
        if self._driver.details(instance.uuid).is_of_nova:
            raise exception.PowerActionRefused(
                action=change.name,
                server=instance.uuid,
                reason='it is a server of Nova, whose nova-compute would undo '
                "that. Ask Nova, or, where no nova-compute has this host's "
                'guests any more, set [api] power_actions_on_nova_servers.',
            )
