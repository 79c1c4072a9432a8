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


"""The action ``rebuild`` of ``POST /servers/{id}/action``.

https://docs.openstack.org/api-ref/compute/#rebuild-server-rebuild-action
"""

from collections.abc import Mapping
from typing import Any

from oslo_utils import units
import webob

from nova_snap import exception
from nova_snap.api import actions as actions_lib
from nova_snap.api import activity
from nova_snap.api import calls
from nova_snap.api import errors
from nova_snap.api import instances
from nova_snap.api import policies
from nova_snap.api import rebuilds
from nova_snap.api import request as request_lib
from nova_snap.api import responses
from nova_snap.api import validation
from nova_snap.api import visible
from nova_snap.api.handlers import servers
from nova_snap.api.schemas import rebuild as schemas
from nova_snap.compute import boot
from nova_snap.image import api as image_api
from nova_snap.objects import instance as instance_lib
from nova_snap.virt import rebuilding

#: What the fields of a request may say, besides what is so already: nothing
#: is written into a guest, and a server has no metadata here.
_EMPTY: tuple[Any, ...] = (None, '', {}, [])

_NO = frozenset(
    (False, 'False', 'FALSE', 'false', '0', 'OFF', 'Off', 'off')
    + ('NO', 'No', 'no')
)


def run(
    request: request_lib.Request,
    instance: instance_lib.Instance,
    document: dict[str, Any],
) -> webob.Response:
    """Begin to replace the disks of a server by those of an image."""
    validation.require(
        document, schemas.of_version(request.microversion.minor)
    )
    fields = document['rebuild']
    if 'trusted_image_certificates' in fields:
        request.require(
            policies.SERVERS % 'rebuild:trusted_certs',
            instances.project_id(request, instance),
        )
    _require_possible(request, instance, fields)
    services = request.services
    watcher = actions_lib.Recorder(
        services.actions, request.context, rebuilds.NAME, rebuilds.EVENT
    )
    try:
        if activity.of(services, instance.uuid).task_state is not None:
            raise activity.conflict(services, instance.uuid, rebuilds.NAME)
        services.rebuilds.start(
            _wanted(request, instance, fields['imageRef']), watcher
        )
    except exception.SnapshotInProgress:
        raise activity.conflict(
            services, instance.uuid, rebuilds.NAME
        ) from None
    except calls.Stopping as error:
        raise errors.Unavailable(str(error)) from None
    except exception.UnsafeImage as error:
        raise _unacceptable(fields['imageRef'], str(error)) from None
    return _answer(request, instance.uuid)


def _require_possible(
    request: request_lib.Request,
    instance: instance_lib.Instance,
    fields: Mapping[str, Any],
) -> None:
    """Raise BadRequest for what a rebuild here does not change."""
    if fields.get('adminPass'):
        raise errors.BadRequest('Set admin password is not supported')
    if fields.get('key_name'):
        raise errors.BadRequest('Invalid key_name provided.')
    if fields.get('preserve_ephemeral', False) not in _NO:
        raise errors.BadRequest(
            'The current driver does not support preserving ephemeral '
            'partitions.'
        )
    if fields.get('OS-DCF:diskConfig', 'MANUAL') != 'MANUAL':
        raise errors.BadRequest(
            f'Requested image {fields["imageRef"]} has automatic disk resize '
            'disabled.'
        )
    if fields.get('trusted_image_certificates'):
        raise errors.BadRequest(
            'Image certificate validation is not supported for servers of '
            'this host.'
        )
    server = visible.of_instance(request, instance.uuid)
    known = {
        'name': instance.name,
        'description': server.details.description,
        'hostname': server.hostname,
    }
    for name in (
        *('name', 'description', 'hostname', 'metadata', 'user_data'),
        *('personality', 'accessIPv4', 'accessIPv6'),
    ):
        value = fields.get(name)
        if value not in _EMPTY and value != known.get(name):
            raise errors.BadRequest(
                f'Invalid input for field/attribute {name}. A rebuild does '
                'not change it on this host.'
            )


def _wanted(
    request: request_lib.Request, instance: instance_lib.Instance, image: str
) -> rebuilds.Wanted:
    """Return what is to be done, if the image is one for the server."""
    services = request.services
    images = services.images_of(request.context)
    try:
        found = images.get(image.lower())
    except exception.ImageNotFound:
        raise errors.BadRequest('Cannot find image for rebuild') from None
    if found.status != image_api.ImageStatus.ACTIVE:
        raise errors.BadRequest(f'Image {found.id} is not active.')
    details = services.driver.details(instance.uuid)
    _require_fits(details.flavor, found)
    try:
        chosen = boot.source(images, found)
        disks = rebuilding.Wanted(
            image=found.id,
            disks=chosen.disks(),
            forgets=True,
            max_disk=services.rebuilds.max_disk,
        )
    except exception.ImageConflict as error:
        raise _unacceptable(found.id, str(error)) from None
    return rebuilds.Wanted(instance, chosen, disks, images)


def _require_fits(flavor: instance_lib.Flavor, image: image_api.Image) -> None:
    """Raise BadRequest if Nova would not give the flavor to the image."""
    if flavor.memory_mb < image.min_ram:
        raise errors.BadRequest(
            "Flavor's memory is too small for requested image."
        )
    disk = flavor.root_gb * units.Gi
    if disk and disk < image.min_disk * units.Gi:
        raise errors.BadRequest(
            "Flavor's disk is smaller than the minimum size specified in "
            f'image metadata. Flavor disk is {disk} bytes, minimum size is '
            f'{image.min_disk * units.Gi} bytes.'
        )
    if disk and disk < (image.size or 0):
        raise errors.BadRequest(
            "Flavor's disk is too small for requested image. Flavor disk is "
            f'{disk} bytes, image is {image.size} bytes.'
        )


def _unacceptable(image_id: str, reason: str) -> errors.BadRequest:
    return errors.BadRequest(f'Image {image_id} is unacceptable: {reason}')


def _answer(request: request_lib.Request, uuid: str) -> webob.Response:
    server = visible.of_instance(request, uuid)
    document = servers.view(request).rebuilt(server)
    answer = responses.json({'server': document}, status=202)
    answer.location = request.link('v2.1', 'servers', uuid)
    return answer


ACTIONS = {rebuilds.NAME: run}
