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

"""The undo step of images that earlier releases had Nova make inside Ceph.

Entries of the journal may still have it.  Open ``rbd_steps.py`` for the steps
of today.
"""

import dataclasses

from nova_snap import exception
from nova_snap import undo
from nova_snap.image import api as image_api


@dataclasses.dataclass(frozen=True)
class RemoveClone(undo.Step, kind='remove the image inside Ceph'):
    """Name the RBD image of a direct snapshot that is not an active image.

    :ivar snapshot: the name of the snapshot of the root disk.
    """

    image_id: str
    snapshot: str

    # A clone that is left takes space, but the next operation may run.
    is_blocking = False

    def undo(self, resources: undo.Resources) -> None:
        """Name what a person has to look for: only Nova knew where it was.

        :raises SnapshotFailed: the image is not active.
        """
        if self._is_active(resources.get(image_api.ImageService)):
            return
        raise exception.SnapshotFailed(
            f'image {self.image_id}, made inside Ceph, is not active as '
            'far as this login can see. If "openstack image show" as an '
            'administrator says that it is active, remove only this '
            'entry of the journal. Else remove the RBD image of that '
            "name from Glance's pool and the snapshot "
            f'{self.snapshot} of the root disk if they exist, then this '
            'entry.'
        )

    def _is_active(self, images: image_api.ImageService) -> bool:
        try:
            status = images.get(self.image_id).status
        except exception.ImageNotFound:
            return False
        return status == image_api.ImageStatus.ACTIVE
