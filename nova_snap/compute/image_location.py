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


"""The image records, as undo steps of data that has a location see them.

Open this file when data in Ceph is removed that an image still has, or stays
that no image has.
"""

from nova_snap import exception
from nova_snap.image import api as image_api
from nova_snap.virt import driver

#: Statuses of a record that has no data, and may get some.
_UNFINISHED = frozenset(
    (
        image_api.ImageStatus.QUEUED,
        image_api.ImageStatus.SAVING,
        image_api.ImageStatus.IMPORTING,
    )
)


class Records(driver.Records):
    """The records of an image service."""

    def __init__(self, images: image_api.ImageService) -> None:
        self._images = images

    def settle(self, record: driver.Record) -> bool:
        """Return True if an image has data, or else delete its record.

        :raises SnapshotFailed: the record may only be hidden.
        """
        try:
            image = self._images.get(record.image_id)
        except exception.ImageNotFound:
            if not record.is_seen and self._images.may_hide(record.owner):
                raise exception.SnapshotFailed(
                    f'image {record.image_id} does not exist, or is hidden '
                    'from this login, which is no administrator; its data in '
                    'Ceph stays until a login that sees it recovers.'
                ) from None
            return False
        if image.status in _UNFINISHED:
            self._images.delete(image.id)
            return False
        return not image_api.ImageStatus.is_gone(image.status)
