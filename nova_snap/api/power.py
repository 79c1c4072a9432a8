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
from collections.abc import Mapping
import contextlib
import dataclasses
import functools
import threading
import time

from oslo_log import log as logging

from nova_snap import exception
from nova_snap.api import calls
from nova_snap.api import works
from nova_snap.compute import power
from nova_snap.image import api as image_api
from nova_snap.objects import instance as instance_lib
from nova_snap.objects import task_state as task_states
from nova_snap.objects import vm_state as vm_states
from nova_snap.virt import power as power_lib

LOG = logging.getLogger(__name__)

#: Seconds for which a hard reboot waits for the action that it ends.  That one
#: waits for the guest no longer, and libvirt has limits of its own.
END_TIMEOUT = 300

#: Seconds within which actions end that were told to leave their guests.
LEAVE_TIMEOUT = 60

#: Seconds before each attempt to finish a soft reboot that has failed: its
#: guest may shut down later, and has to be started then.
PAUSES = (10, 20, 40, 60, 120, 240, 480)


@dataclasses.dataclass(eq=False)
class PowerAction:
    """A power action from its request until its end.

    :ivar vm_state: the state in which it was begun.
    :ivar before: the action whose end it waits for.
    """

    instance: instance_lib.Instance
    change: power.Change
    before: 'PowerAction | None' = None
    vm_state: vm_states.VmState | None = None
    task_state: task_states.TaskState = dataclasses.field(init=False)
    control: power_lib.Control = dataclasses.field(
        default_factory=power_lib.Control
    )
    has_ended: threading.Event = dataclasses.field(
        default_factory=threading.Event
    )
    #: Of the requests that were accepted.
    _watchers: list[calls.Watcher] = dataclasses.field(default_factory=list)
    _has_failed: bool = False
    #: Held while a request is accepted, or the action is about to begin.
    _lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Begin in the task state that the request sets."""
        self.task_state = self.change.task_state

    @property
    def is_accepted(self) -> bool:
        """Return True if a request for it was accepted."""
        return bool(self._watchers)

    def accept(self, watcher: calls.Watcher) -> None:
        """Note that the request of a watcher is about to succeed."""
        watcher.accepted(self.instance.uuid)
        self._watchers.append(watcher)

    def accept_another(self, watcher: calls.Watcher) -> bool:
        """Accept a request for the same, if this waits for another action."""
        with self._lock:
            if (
                not self.is_accepted
                or self._has_failed
                or self.task_state is not task_states.TaskState.REBOOTING_HARD
            ):
                return False
            self.accept(watcher)
            return True

    def begin(self, vm_state: vm_states.VmState | None) -> None:
        """Note that it is the turn of this action."""
        with self._lock:
            self.vm_state = vm_state
            self.task_state = self.change.begun
        for watcher in self._watchers:
            watcher.began()

    def end(self, error: Exception | None) -> None:
        """Note the end in the instance actions, and the failure in the log."""
        with self._lock:
            self._has_failed = True
        if error is not None and self.is_accepted:
            is_known = isinstance(error, exception.NovaSnapError)
            LOG.error(
                'Failed to %(action)s server %(server)s: %(error)s',
                {
                    'action': self.change.action.value,
                    'server': self.instance.uuid,
                    'error': error,
                },
                instance_uuid=self.instance.uuid,
                exc_info=None if is_known else error,
            )
        with contextlib.ExitStack() as stack:
            for watcher in self._watchers:
                stack.callback(watcher.ended, error)

    def leave(self) -> None:
        """End soon, and so the action before this one."""
        self.control.leave()
        if self.before is not None:
            self.before.control.leave()

    def wait_for_turn(self) -> None:
        """Wait until the action before this one has ended.

        :raises Unavailable: it has not.
        """
        before = self.before
        if before is None:
            return
        before.control.hurry('a hard reboot was asked for.')
        if not before.has_ended.wait(END_TIMEOUT):
            raise exception.Unavailable(
                f'The {before.change.action.value} of server '
                f'{self.instance.uuid} has not ended within {END_TIMEOUT} s; '
                'the server is not rebooted.'
            )
        self.before = None


class PowerActions:
    """The power actions of one service."""

    def __init__(self, manager: power.PowerManager) -> None:
        self.manager = manager
        self._works: works.Works[PowerAction] = works.Works()

    def start(
        self,
        instance: instance_lib.Instance,
        change: power.Change,
        images: image_api.ImageService,
        watcher: calls.Watcher,
    ) -> None:
        """Begin an action; return when it is accepted.

        A hard reboot is accepted at once if another action is going on that
        it may end: it begins when that has ended.  Further ones that are asked
        for until then are one with it.

        :raises InvalidState: another action of this service is going on.
        :raises Stopping: the service is about to end.
        :raises NovaSnapError: as :meth:`.PowerManager.change` does.
        """
        if change is power.HARD_REBOOT and self._is_one_with(
            instance, watcher
        ):
            return
        action = PowerAction(instance, change)
        self._works.admit(action, functools.partial(_take_place, action))
        call = calls.Call('nothing was begun')
        calls.start_thread(
            f'power-{instance.uuid}',
            lambda: self._run(action, images, watcher, call),
            lambda: self._forget(action),
        )
        call.wait()

    def of(self, instance_uuid: str) -> PowerAction | None:
        """Return the action on an instance that is going on, if any."""
        return self._works.of(instance_uuid)

    def __iter__(self) -> Iterator[PowerAction]:
        """Yield the actions that are going on."""
        return iter(self._works)

    def close(self) -> None:
        """Accept no more actions."""
        self._works.close()

    def stop(self, timeout: float) -> None:
        """Accept no more, and return when all have ended.

        A guest that has not shut down after ``timeout`` seconds is left to
        that; its power is not switched off.
        """
        self.close()
        if self._works.wait(timeout):
            return
        for action in self:
            action.leave()
        if not self._works.wait(LEAVE_TIMEOUT):
            for action in self:
                LOG.warning(
                    'The service ends during the %(action)s of server '
                    '%(server)s.',
                    {
                        'action': action.change.action.value,
                        'server': action.instance.uuid,
                    },
                    instance_uuid=action.instance.uuid,
                )

    def _is_one_with(
        self, instance: instance_lib.Instance, watcher: calls.Watcher
    ) -> bool:
        """Return True if a hard reboot waits, which another one is one with.

        :raises Stopping: the service is about to end.
        """
        if self._works.is_closed:
            raise calls.Stopping()
        waiting = self.of(instance.uuid)
        return waiting is not None and waiting.accept_another(watcher)

    def _run(
        self,
        action: PowerAction,
        images: image_api.ImageService,
        watcher: calls.Watcher,
        call: calls.Call,
    ) -> None:
        """Carry an action out, in its own thread."""

        def accept(vm_state: vm_states.VmState | None) -> None:
            if action.control.is_left:
                raise calls.Stopping()
            if not action.is_accepted:
                call.claim()
                action.accept(watcher)
            action.begin(vm_state)
            call.answer(None)

        error: Exception | None = None
        try:
            if action.before is not None:
                call.claim()
                action.accept(watcher)
                call.answer(None)
                action.wait_for_turn()
            self.manager.change(
                action.instance, action.change, images, action.control, accept
            )
        except Exception as failure:
            error = failure
        try:
            action.end(error)
        finally:
            self._forget(action)
        call.answer(error)
        if error is not None and action.change is power.SOFT_REBOOT:
            self._finish(action.instance, images)

    def _finish(
        self,
        instance: instance_lib.Instance,
        images: image_api.ImageService,
    ) -> None:
        """Try again to undo what a failed reboot has left, if anything."""
        for pause in PAUSES:
            time.sleep(pause)
            if self._works.is_closed:
                return  # the next start does it
            try:
                self.manager.finish(instance, images)
                return
            except exception.NovaSnapError as error:
                LOG.info('%s', error, instance_uuid=instance.uuid)

    def _forget(self, action: PowerAction) -> None:
        self._works.remove(action, action.before)


def _take_place(action: PowerAction, table: Mapping[str, PowerAction]) -> None:
    """Let an action wait for the one before it.

    :raises InvalidState: it may not end that one.
    """
    before = table.get(action.instance.uuid)
    if before is None:
        return
    if (
        action.change is not power.HARD_REBOOT
        or before.task_state not in power.REBOOTABLE
    ):
        raise exception.InvalidState(
            server=before.instance.uuid,
            action=action.change.name,
            attr='task_state',
            state=before.task_state,
        )
    action.before = before
    action.vm_state = before.vm_state
