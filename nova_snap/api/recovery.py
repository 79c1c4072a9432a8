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
import time
import uuid

from oslo_log import log as logging

from nova_snap import concurrency
from nova_snap import exception
from nova_snap import waiting
from nova_snap.api import actions as actions_lib
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

#: Returns the state of an instance, None if there is none.
VmStateOf = Callable[[str], vm_states.VmState | None]


class Recovery:
    """The recovery of what was unfinished when the service was started.

    It has to be made before the service accepts anything.

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

    def start(self) -> None:
        """Recover; go on in a thread with what can't be done now."""
        if not self.attempt():
            concurrency.start_thread('recovery', self._repeat)

    def attempt(self) -> bool:
        """Recover what can be recovered; return True if nothing is left."""
        is_done = self._undo()
        for action in list(self._interrupted):
            try:
                if action.image_id:
                    has_ended = self._end_image(action, is_done)
                else:
                    has_ended = self._end_power(action)
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
        return is_done and not self._interrupted

    def _end_image(self, action: models.Action, is_done: bool) -> bool:
        """End an action by its image; return False if that is too early.

        :param is_done: nothing of the journal is left to undo.
        """
        is_active = self._is_active(action)
        if is_active and not is_done:
            return False  # a step may still have to verify the image
        self._actions.end(
            action.id,
            IMAGE_EVENTS[action.action],
            None if is_active else actions_lib.INTERRUPTED,
        )
        return True

    def _end_power(self, action: models.Action) -> bool:
        """End a power action by the state of its server.

        A reboot leaves no trace by which a success could be told.
        """
        change = _CHANGES[action.action]
        found = self._vm_state(action.instance_uuid)
        is_success = found is change.target and change.name != 'reboot'
        error = (
            'The service ended during this action; the server is in vm_state '
            f'{found}.'
        )
        self._actions.end(
            action.id, change.event, None if is_success else error
        )
        return True

    def _undo(self) -> bool:
        """Undo the entries of the journal; return True if nothing is left.

        While the image service does not answer, only what guests need is
        undone: each step would wait for the service, with the lock of its
        guest.
        """
        is_done = answers = self._answers()
        try:
            for found in self._manager.recover(
                self._images, only_blocking=not answers
            ):
                is_done = is_done and not found.left
        except exception.NovaSnapError as error:
            LOG.error('Cannot recover now: %s', error)
            is_done = False
        return is_done

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

    def _repeat(self) -> None:
        for pause in waiting.pauses(FIRST_PAUSE, LONGEST_PAUSE):
            time.sleep(pause)
            if self.attempt():
                return

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
