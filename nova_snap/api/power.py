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

"""The power actions that the service carries out, one for each server.

A request is answered as soon as it is known that the action is possible; the
action goes on in a thread of its own.  Open this file for what becomes of an
action when another is asked for, and when the service ends.
"""

from collections.abc import Iterator
import dataclasses
import threading
import time

from oslo_log import log as logging

from nova_snap import exception
from nova_snap.api import calls
from nova_snap.compute import power
from nova_snap.image import api as image_api
from nova_snap.objects import instance as instance_lib
from nova_snap.objects import task_state as task_states
from nova_snap.objects import vm_state as vm_states
from nova_snap.virt import power as power_lib

LOG = logging.getLogger(__name__)

#: Seconds between two looks at what is still going on.
POLL_INTERVAL = 0.1

#: Seconds for which a hard reboot waits for the action that it ends.  That one
#: waits for the guest no longer, and libvirt has limits of its own.
END_TIMEOUT = 300


@dataclasses.dataclass
class PowerAction:
    """A power action from its request until its end.

    :ivar vm_state: the state in which it was begun.
    :ivar before: the action whose end it waits for.
    """

    instance: instance_lib.Instance
    change: power.Change
    before: 'PowerAction | None' = None
    vm_state: vm_states.VmState | None = None
    is_accepted: bool = False
    task_state: task_states.TaskState = dataclasses.field(init=False)
    control: power_lib.Control = dataclasses.field(
        default_factory=power_lib.Control
    )
    has_ended: threading.Event = dataclasses.field(
        default_factory=threading.Event
    )

    def __post_init__(self) -> None:
        """Begin in the task state that the request sets."""
        self.task_state = self.change.task_state


class PowerActions:
    """The power actions of one service."""

    def __init__(self, manager: power.PowerManager) -> None:
        self.manager = manager
        self._lock = threading.Lock()
        self._by_instance: dict[str, PowerAction] = {}
        self._is_stopping = False

    def start(
        self,
        instance: instance_lib.Instance,
        change: power.Change,
        images: image_api.ImageService,
        watcher: calls.Watcher,
    ) -> None:
        """Begin an action; return when it is accepted.

        A hard reboot is accepted at once if another action is going on that
        it may end: it begins when that has ended.

        :raises InvalidState: another action of this service is going on.
        :raises Stopping: the service is about to end.
        :raises NovaSnapError: as :meth:`.PowerManager.change` does.
        """
        action = self._admitted(instance, change)
        call = calls.Call('nothing was begun')

        def accept(vm_state: vm_states.VmState | None) -> None:
            if not action.is_accepted:
                call.claim()
                watcher.accepted(instance.uuid)
                action.is_accepted = True
            action.vm_state = vm_state
            action.task_state = change.begun
            watcher.began()
            call.answer(None)

        def run() -> None:
            error: Exception | None = None
            try:
                if action.before is not None:
                    call.claim()
                    watcher.accepted(instance.uuid)
                    action.is_accepted = True
                    call.answer(None)
                    _wait_for_end(action.before)
                    action.before = None
                self.manager.change(
                    instance, change, images, action.control, accept
                )
            except Exception as failure:
                error = failure
            self._end(action, watcher, error)
            call.answer(error)

        calls.start_thread(
            f'power-{instance.uuid}', run, lambda: self._forget(action)
        )
        call.wait()

    def of(self, instance_uuid: str) -> PowerAction | None:
        """Return the action on an instance that is going on, if any."""
        return self._by_instance.get(instance_uuid)

    def __iter__(self) -> Iterator[PowerAction]:
        """Yield the actions that are going on."""
        with self._lock:
            return iter(list(self._by_instance.values()))

    def close(self) -> None:
        """Accept no more actions."""
        with self._lock:
            self._is_stopping = True

    def stop(self, timeout: float) -> None:
        """Accept no more, and return when all have ended.

        :param timeout: seconds until guests that were asked to shut down are
            switched off.
        """
        self.close()
        ends_at = time.monotonic() + timeout
        while list(self) and time.monotonic() < ends_at:
            time.sleep(POLL_INTERVAL)
        for action in self:
            action.control.hurry('the service is being stopped.')
        while list(self):
            time.sleep(POLL_INTERVAL)

    def _admitted(
        self, instance: instance_lib.Instance, change: power.Change
    ) -> PowerAction:
        with self._lock:
            if self._is_stopping:
                raise calls.Stopping()
            before = self._by_instance.get(instance.uuid)
            if before is not None:
                _require_end(before, change)
                before.control.hurry('a hard reboot was asked for.')
            action = PowerAction(instance, change, before)
            if before is not None:
                action.vm_state = before.vm_state
            self._by_instance[instance.uuid] = action
            return action

    def _end(
        self,
        action: PowerAction,
        watcher: calls.Watcher,
        error: Exception | None,
    ) -> None:
        """Forget an action, after its end was noted."""
        if error is not None and action.is_accepted:
            is_known = isinstance(error, exception.NovaSnapError)
            LOG.error(
                'Failed to %(action)s server %(server)s: %(error)s',
                {
                    'action': action.change.action.value,
                    'server': action.instance.uuid,
                    'error': error,
                },
                instance_uuid=action.instance.uuid,
                exc_info=None if is_known else error,
            )
        try:
            if action.is_accepted:
                watcher.ended(error)
        finally:
            self._forget(action)

    def _forget(self, action: PowerAction) -> None:
        with self._lock:
            action.has_ended.set()
            # A hard reboot may have taken its place.
            if self._by_instance.get(action.instance.uuid) is not action:
                return
            del self._by_instance[action.instance.uuid]
            before = action.before
            if before is not None and not before.has_ended.is_set():
                self._by_instance[action.instance.uuid] = before


def _wait_for_end(before: PowerAction) -> None:
    """Wait until an action has ended.

    :raises Unavailable: it has not, for far longer than it should take.
    """
    if not before.has_ended.wait(END_TIMEOUT):
        raise exception.Unavailable(
            f'After {END_TIMEOUT} s the action {before.change.action} on '
            f'server {before.instance.uuid} has not ended, so the hard reboot '
            'was not begun; libvirt is too slow.'
        )


def _require_end(before: PowerAction, change: power.Change) -> None:
    """Raise InvalidState unless a change may end the action before it."""
    if (
        change is not power.HARD_REBOOT
        or before.task_state not in power.REBOOTABLE
    ):
        raise exception.InvalidState(
            server=before.instance.uuid,
            action=change.name,
            attr='task_state',
            state=before.task_state,
        )
