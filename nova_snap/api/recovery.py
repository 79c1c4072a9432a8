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

"""What an earlier process of the service has left unfinished.

The journal knows what has to be undone of guests and images; the instance
actions know what clients were told.  Both have to be put right before a
client asks.
"""

from collections.abc import Callable
import threading
import time
import uuid

from oslo_log import log as logging

from nova_snap import concurrency
from nova_snap import exception
from nova_snap import waiting
from nova_snap.api import actions as actions_lib
from nova_snap.api import rebuilds
from nova_snap.api.db import models
from nova_snap.compute import manager as manager_lib
from nova_snap.compute import power
from nova_snap.image import api as image_api
from nova_snap.objects import vm_state as vm_states

LOG = logging.getLogger(__name__)

#: The event of each action that makes an image.
IMAGE_EVENTS = {
    'createBackup': 'compute_backup_instance',
    'createImage': 'compute_snapshot_instance',
}

#: The power actions, by their names.
_CHANGES = {change.name: change for change in power.CHANGES}

#: Seconds between two attempts: at first, and at most.
FIRST_PAUSE = 30.0
LONGEST_PAUSE = 3600.0

#: Seconds that the start of the service waits for the first attempt.
PATIENCE = 30.0

#: Seconds after the start in which a server that was asked to shut down may
#: still do so.
SETTLING = 120.0

#: Returns the state of an instance, None if there is none.
VmStateOf = Callable[[str], vm_states.VmState | None]


class Recovery:
    """The recovery of what was unfinished when the service was started.

    It has to be made, and started, before the service accepts anything.

    :param hides: tells whether images of a project may be hidden from the
        login of the service; None if no image can be.
    """

    def __init__(
        self,
        manager: manager_lib.SnapshotManager,
        images: image_api.ImageService,
        actions: actions_lib.Actions,
        vm_state: VmStateOf,
        hides: Callable[[str | None], bool] | None = None,
    ) -> None:
        self._manager = manager
        self._images = images
        self._actions = actions
        self._vm_state = vm_state
        self._hides = hides
        self._interrupted = list(actions.unfinished())
        self._began = time.monotonic()

    def start(self) -> None:
        """Recover in a thread, and wait for it for a while.

        What takes longer, or can't be done now, keeps no other server waiting:
        an operation on a guest undoes what is left of the one before.
        """
        attempted = threading.Event()
        concurrency.start_thread('recovery', lambda: self._repeat(attempted))
        attempted.wait(PATIENCE)

    def attempt(self) -> bool:
        """Recover what can be recovered; return True if nothing is left."""
        is_done, left = self._undo()
        for action in list(self._interrupted):
            is_early = action.instance_uuid in left
            try:
                if action.image_id:
                    has_ended = self._end_image(
                        action, is_early or not is_done
                    )
                else:
                    has_ended = self._end_power(action, is_early)
            except exception.NovaSnapError as error:
                LOG.error(
                    'Cannot find out what became of action %(action)s on '
                    'server %(server)s: %(error)s',
                    {
                        'action': action.action,
                        'server': action.instance_uuid,
                        'error': error,
                    },
                    instance_uuid=action.instance_uuid,
                )
                continue
            if has_ended:
                self._interrupted.remove(action)
        return is_done and not left and not self._interrupted

    def _end_image(self, action: models.Action, is_early: bool) -> bool:
        """End an action by its image; return False if that is too early.

        :param is_early: something of its server is left to undo.
        """
        is_active = self._is_active(action)
        if is_active and is_early:
            return False  # a step may still have to verify the image
        self._actions.end(
            action.id,
            IMAGE_EVENTS.get(action.action, action.action),
            None if is_active else actions_lib.INTERRUPTED,
        )
        return True

    def _end_power(self, action: models.Action, is_early: bool) -> bool:
        """End a power action by the state of its server.

        A reboot leaves no trace by which a success could be told.

        :param is_early: something of the server is left to undo.
        """
        if action.action == rebuilds.NAME:
            return self._end_rebuild(action, is_early)
        change = _CHANGES.get(action.action)
        if change is None:  # of another version of the service
            self._actions.end(
                action.id, action.action, actions_lib.INTERRUPTED
            )
            return True
        found = self._vm_state(action.instance_uuid)
        is_success = found is change.target and change.name != 'reboot'
        has_settled = time.monotonic() - self._began >= SETTLING
        if is_early or not (
            is_success or change.name != 'stop' or has_settled
        ):
            return False
        error = (
            'The service ended during this action; the server is in vm_state '
            f'{found}.'
        )
        self._actions.end(
            action.id, change.event, None if is_success else error
        )
        return True

    def _end_rebuild(self, action: models.Action, is_early: bool) -> bool:
        """End a rebuild, of which it is not known how far it came.

        :param is_early: something of the server is left to undo.
        """
        if is_early:
            return False
        self._actions.end(
            action.id,
            rebuilds.EVENT,
            'The service ended during the rebuild; the server has the disks '
            'of before or those of the image.',
        )
        return True

    def _undo(self) -> tuple[bool, set[str]]:
        """Undo the entries of the journal.

        Return whether all of them could be undone, as far as is known, and
        the UUIDs of the instances of which something is left.

        While the image service does not answer, only what guests need is
        undone: each step would wait for the service, with the lock of its
        guest.
        """
        is_done = answers = self._answers()
        left: set[str] = set()
        try:
            for found in self._manager.recover(
                self._images, only_blocking=not answers
            ):
                if found.left:
                    left.add(found.entry.instance_uuid)
        except exception.NovaSnapError as error:
            LOG.error('Cannot recover now: %s', error)
            is_done = False
            left.update(action.instance_uuid for action in self._interrupted)
        return is_done, left

    def _answers(self) -> bool:
        """Return True if the image service answers."""
        try:
            self._images.get(str(uuid.uuid4()))
        except exception.ImageNotFound:
            return True
        except exception.NovaSnapError as error:
            LOG.error('The image service can not be asked: %s', error)
            return False
        return True

    def _repeat(self, attempted: threading.Event) -> None:
        for pause in waiting.pauses(FIRST_PAUSE, LONGEST_PAUSE):
            try:
                is_done = self.attempt()
            except Exception:
                LOG.exception('The recovery failed; it is repeated.')
                is_done = False
            attempted.set()
            if is_done:
                return
            time.sleep(pause)

    def _is_active(self, action: models.Action) -> bool:
        """Return True if an image is active; delete one that never will be.

        :raises ImageNotPermitted: the image may exist, and not be seen.
        """
        try:
            image = self._images.get(action.image_id)
        except exception.ImageNotFound:
            if self._hides is not None and self._hides(action.project_id):
                raise exception.ImageNotPermitted(
                    reason='it may be hidden from the login of [glance], '
                    'which is no administrator'
                ) from None
            return False
        if image.status == image_api.ImageStatus.ACTIVE:
            return True
        self._images.delete(image.id)
        return False
