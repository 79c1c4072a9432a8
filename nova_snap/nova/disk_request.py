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

"""The disks that a request of Nova is about.

Open this file to see when images of further disks are made, and what a user
may write into the properties of a request for that.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any
from typing import Self

from nova import utils as nova_utils
from nova.compute import task_states
from oslo_log import log as logging

from nova_snap import exception
from nova_snap.compute import image_record
from nova_snap.compute import image_set
from nova_snap.image import schema
from nova_snap.nova import settings
from nova_snap.objects import instance as instance_lib

LOG = logging.getLogger(__name__)

_EVERY = instance_lib.DiskChoice(is_every=True, without_volumes=True)


#: Characters that the name of a disk takes at most behind that of an image,
#: such as "-vdb" or "-sdzzz".
_ROOM_FOR_DEVICE = 6


@dataclasses.dataclass(frozen=True)
class DiskRequest:
    """The disks of one request.

    :ivar is_explicit: the user wants images of all disks, or none.
    :ivar metadata: properties of the request, which the images of the further
        disks get, too.
    """

    choice: instance_lib.DiskChoice
    is_explicit: bool
    metadata: Mapping[str, str]

    @classmethod
    def of(
        cls, instance: Any, properties: Mapping[str, Any], name: str = ''
    ) -> Self:
        """Read a request from the record that nova-api has made.

        nova-api puts the properties of the request into the record, beside
        those that the server has from the image that it was booted from.

        :param name: of the image; if it leaves no room for the names of
            further disks, images of these are made on request only.
        :raises InvalidMetadata: a property of ours has a value that it can't
            have in a request.
        """
        requested = _requested(instance, properties)
        own = {
            key: requested.pop(key)
            for key in list(requested)
            if key.startswith(image_record.OWN_PREFIX)
        }
        is_image = instance.task_state == task_states.IMAGE_SNAPSHOT
        if own:
            _require_valid(own, is_image)
            return cls(_EVERY, True, requested)
        choice = instance_lib.DiskChoice()
        if settings.CONF.nova_snap.all_disks and is_image:
            if len(name) <= image_record.MAX_NAME - _ROOM_FOR_DEVICE:
                choice = dataclasses.replace(_EVERY, if_live=True)
            else:
                _warn_of_name(instance, len(name))
        return cls(choice, False, requested)


def _warn_of_name(instance: Any, length: int) -> None:
    LOG.warning(
        'Server %(server)s: an image is made of its root disk only, in spite '
        'of [nova_snap] all_disks: its name has %(length)d characters, which '
        'leaves no room for the names of its disks.',
        {'server': instance.uuid, 'length': length},
        instance=instance,
    )


def _requested(instance: Any, properties: Mapping[str, Any]) -> dict[str, str]:
    """Return the properties that the record has not from the server."""
    server = nova_utils.get_image_from_system_metadata(
        instance.system_metadata
    )
    inherited = server['properties']
    return {
        key: str(value)
        for key, value in properties.items()
        if value is not None
        and inherited.get(key) != value
        and not schema.is_reserved(key)  # Glance's own, such as os_glance_*
    }


def _require_valid(own: Mapping[str, str], is_image: bool) -> None:
    for key, value in own.items():
        if (key, value) != (image_set.DISKS, image_set.ALL):
            raise exception.InvalidMetadata(
                reason=f'{key}={value}: of the properties that begin with '
                f'{image_record.OWN_PREFIX!r}, a request may have '
                f'{image_set.DISKS}={image_set.ALL} only.'
            )
    if not is_image:
        raise exception.InvalidMetadata(
            reason=f'{image_set.DISKS}={image_set.ALL} is for images only: '
            "the rotation of backups deletes the root disk's images, not the "
            'others.'
        )
