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

"""Backups: images of which only the latest are kept.

https://docs.openstack.org/api-ref/compute/#create-server-back-up-createbackup-action
"""

from collections.abc import Mapping
from collections.abc import Sequence

from oslo_log import log as logging

from nova_snap import exception
from nova_snap.image import api as image_api

LOG = logging.getLogger(__name__)


def properties(backup_type: str) -> Mapping[str, str]:
    """Return the properties by which an image is a backup of a type."""
    return {'image_type': 'backup', 'backup_type': backup_type}


def rotate(
    images: image_api.ImageService,
    instance_uuid: str,
    backup_type: str,
    rotation: int,
    latest: str,
) -> None:
    """Delete the oldest backups of an instance beyond a number.

    Only backups of the same type and project count.  One that can't be
    deleted is logged: the new backup is a success all the same.

    :param rotation: how many are kept; 0 keeps none, as in Nova.
    :param latest: the ID of the new one.  Of others that were created in the
        same second it is the latest, whatever the image service says.
    """
    wanted = {'instance_uuid': instance_uuid, **properties(backup_type)}
    owner = images.get(latest).owner
    # Anybody can write these properties into an image of their own project.
    found = [image for image in images.list(**wanted) if image.owner == owner]
    for image in _oldest_first(found, latest)[: -rotation or None]:
        try:
            images.delete(image.id)
        except exception.NovaSnapError as error:
            LOG.warning(
                'Backup %(image)s of server %(server)s is not deleted, though '
                'there are more than %(rotation)d: %(error)s',
                {
                    'image': image.id,
                    'server': instance_uuid,
                    'rotation': rotation,
                    'error': error,
                },
                instance_uuid=instance_uuid,
            )


def _oldest_first(
    found: Sequence[image_api.Image], latest: str
) -> list[image_api.Image]:
    """Return those that are active; ``found`` has the newest first."""
    return sorted(
        (image for image in reversed(found) if image.status == 'active'),
        key=lambda image: (image.id == latest, image.created_at or ''),
    )
