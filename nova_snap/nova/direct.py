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

"""Root disks on RBD whose image can be made inside Ceph, without moving data.

Nova's own way (``direct_snapshot`` of its image backend), for as long as this
project has none of its own: a snapshot of the RBD image, cloned into the pool
of Glance and flattened there; Glance is told of the location.
"""

from collections.abc import Mapping
from typing import Any

from nova import exception as nova_exception
from oslo_log import log as logging
from oslo_utils import uuidutils

from nova_snap.objects import task_state
from nova_snap.virt import driver

LOG = logging.getLogger(__name__)

#: Nova's errors that mean: not possible here, take the image another way.
_IMPOSSIBLE = (
    NotImplementedError,
    nova_exception.ImageUnacceptable,
    nova_exception.Forbidden,
    # Glance does not take locations; Nova's own driver fails then.
    nova_exception.ImageNotAuthorized,
)


class DirectSnapshot:
    """One attempt.

    :param root_disk: Nova's image backend of the disk.
    :param image_api: Nova's.
    """

    def __init__(self, root_disk: Any, image_api: Any) -> None:
        self._root_disk = root_disk
        self._image_api = image_api
        self._location: str | None = None

    def take(
        self,
        context: Any,
        instance: Any,
        image_id: str,
        metadata: Mapping[str, Any],
        update_task_state: driver.UpdateTaskState,
    ) -> bool:
        """Take it; False if it is not possible, and nothing is left of it.

        :raises Exception: Nova's; nothing is left then either.
        """
        update_task_state(task_state.TaskState.IMAGE_PENDING_UPLOAD)
        update_task_state(task_state.TaskState.IMAGE_UPLOADING)
        try:
            self._location = self._root_disk.direct_snapshot(
                context,
                uuidutils.generate_uuid(dashed=False),
                metadata['disk_format'],
                image_id,
                instance.image_ref,
            )
            self._image_api.update(
                context,
                image_id,
                {**metadata, 'location': self._location},
                purge_props=False,
            )
        except _IMPOSSIBLE as error:
            self._undo()
            LOG.info(
                'The image of this server can not be made inside Ceph, so '
                'its disk is read: %s',
                error,
                instance=instance,
            )
            return False
        except Exception:
            self._undo()
            raise
        return True

    def _undo(self) -> None:
        """Remove the clone; Nova removes what comes before it by itself."""
        self._root_disk.cleanup_direct_snapshot(
            {'url': str(self._location)} if self._location else None,
            also_destroy_volume=True,
            ignore_errors=True,
        )
