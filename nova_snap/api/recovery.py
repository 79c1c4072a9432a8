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

import time

from oslo_log import log as logging

from nova_snap import concurrency
from nova_snap import exception
from nova_snap.api import actions as actions_lib
from nova_snap.compute import manager as manager_lib
from nova_snap.image import api as image_api

LOG = logging.getLogger(__name__)

#: The event of each action, by which it ends.
EVENTS = {
    'createBackup': 'compute_backup_instance',
    'createImage': 'compute_snapshot_instance',
}

#: Seconds between two attempts.
INTERVAL = 30


class Recovery:
    """The recovery of what was unfinished when the service was started.

    It has to be made before the service accepts anything.
    """

    def __init__(
        self,
        manager: manager_lib.SnapshotManager,
        images: image_api.ImageService,
        actions: actions_lib.Actions,
    ) -> None:
        self._manager = manager
        self._images = images
        self._actions = actions
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
                is_active = _is_active(self._images, action.image_id)
            except exception.NovaSnapError as error:
                LOG.error(
                    'Cannot find out what became of image %(image)s: '
                    '%(error)s',
                    {'image': action.image_id, 'error': error},
                    instance_uuid=action.instance_uuid,
                )
                continue
            if is_active and not is_done:
                continue  # a step may still have to verify the image
            self._actions.end(
                action.id,
                EVENTS[action.action],
                None if is_active else actions_lib.INTERRUPTED,
            )
            self._interrupted.remove(action)
        return is_done and not self._interrupted

    def _undo(self) -> bool:
        """Undo the entries of the journal; return True if nothing is left."""
        is_done = True
        try:
            for found in self._manager.recover(self._images):
                is_done = is_done and not found.left
        except exception.NovaSnapError as error:
            LOG.error('Cannot recover now: %s', error)
            is_done = False
        return is_done

    def _repeat(self) -> None:
        time.sleep(INTERVAL)
        while not self.attempt():
            time.sleep(INTERVAL)


def _is_active(images: image_api.ImageService, image_id: str) -> bool:
    """Return True if an image is active; delete one that never will be."""
    try:
        image = images.get(image_id)
    except exception.ImageNotFound:
        return False
    if image.status == image_api.ImageStatus.ACTIVE:
        return True
    images.delete(image_id)
    return False
