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

"""``POST /servers/{id}/action``: what a user has done to a server.

https://docs.openstack.org/api-ref/compute/#servers-run-an-action-servers-action
"""

from collections.abc import Callable
import dataclasses
from typing import Any

import webob

from nova_snap import exception
from nova_snap.api import actions as actions_lib
from nova_snap.api import activity
from nova_snap.api import calls
from nova_snap.api import errors
from nova_snap.api import instances
from nova_snap.api import policies
from nova_snap.api import recovery
from nova_snap.api import request as request_lib
from nova_snap.api import responses
from nova_snap.api import snapshots
from nova_snap.api import validation
from nova_snap.api.handlers import power_actions
from nova_snap.api.handlers import rebuild
from nova_snap.api.schemas import server_actions as schemas
from nova_snap.compute import backups
from nova_snap.compute import image_record
from nova_snap.compute import image_set
from nova_snap.compute import power
from nova_snap.compute.volume_backed import plan as volume_plan
from nova_snap.image import api as image_api
from nova_snap.objects import instance as instance_lib
from nova_snap.objects import vm_state as vm_states

Action = Callable[
    [request_lib.Request, instance_lib.Instance, dict[str, Any]],
    webob.Response,
]

#: The states in which Nova makes images.
IMAGE_STATES = frozenset(
    (
        vm_states.VmState.ACTIVE,
        vm_states.VmState.PAUSED,
        vm_states.VmState.STOPPED,
        vm_states.VmState.SUSPENDED,
    )
)


def run(request: request_lib.Request, server_id: str) -> webob.Response:
    """Run the action that the body names."""
    document = request.document()
    if len(document) != 1:
        raise errors.BadRequest('A request is about exactly one action.')
    (name,) = document
    action = ACTIONS.get(name)
    if action is None:
        raise errors.BadRequest(f'There is no such action: {name}')
    instance = instances.find(request, server_id, policies.ACTIONS[name])
    return action(request, instance, document)


def create_image(
    request: request_lib.Request,
    instance: instance_lib.Instance,
    document: dict[str, Any],
) -> webob.Response:
    """Begin an image of a server, or of each of its disks.

    The answer has the ID of the root disk's image, which becomes active last.
    """
    validation.require(document, schemas.CREATE_IMAGE)
    fields = document['createImage']
    metadata = dict(_metadata(fields))
    if metadata.get(image_set.DISKS) == image_set.ALL:
        del metadata[image_set.DISKS]
        instance = dataclasses.replace(
            instance, disks=instance_lib.DiskChoice(is_every=True)
        )
    _require_volumes_allowed(request, instance)
    wanted = snapshots.Wanted(
        instance, fields['name'], metadata, owner=_owner(request)
    )
    image_id = _begun(request, wanted, 'createImage')
    if request.supports(45):
        return responses.json({'image_id': image_id}, status=202)
    return _location(request, image_id)


def create_backup(
    request: request_lib.Request,
    instance: instance_lib.Instance,
    document: dict[str, Any],
) -> webob.Response:
    """Begin an image of a server; the oldest of its type go when it is made.

    The user's view of the image service decides which those are.
    """
    validation.require(document, schemas.CREATE_BACKUP)
    fields = document['createBackup']
    devices = request.services.driver.block_devices(instance)
    if volume_plan.is_volume_backed(devices):
        raise errors.BadRequest(
            'Backup is not supported for volume-backed instances.'
        )
    backup_type, rotation = fields['backup_type'], int(fields['rotation'])
    series = backups.Series(
        _images(request, instance),
        instance.uuid,
        backup_type,
        backups.Retention(latest=rotation),
    )
    wanted = snapshots.Wanted(
        instance,
        fields['name'],
        _metadata(fields),
        own=backups.properties(backup_type),
        owner=_owner(request),
        then=lambda image_id: _rotate(series, image_id),
    )
    image_id = _begun(request, wanted, 'createBackup')
    if request.supports(45):
        return responses.json({'image_id': image_id}, status=202)
    # With 0 the image will be gone before anybody can look at it.
    return _location(request, image_id) if rotation else responses.empty(202)


def _rotate(series: backups.Series, image_id: str) -> None:
    """Delete the backups beyond the new one and those that are kept."""
    series.rotate(series.images.get(image_id))


def _owner(request: request_lib.Request) -> str | None:
    """Return the project that an image will belong to: the user's.

    Without Keystone the image service decides, by the login of this service.
    """
    context = request.context
    return None if context.access is None else context.project_id


def _images(
    request: request_lib.Request, instance: instance_lib.Instance
) -> image_api.ImageService:
    """Return the user's image service, for images of a server.

    Another project's server is an administrator's; its project gets access.
    """
    project_id = instances.project_id(request, instance)
    is_owner = request.context.project_id == project_id
    return request.services.images_of(
        request.context, None if is_owner else project_id
    )


def _require_volumes_allowed(
    request: request_lib.Request, instance: instance_lib.Instance
) -> None:
    """Raise Forbidden if volumes are part of an image, against a policy."""
    rule = policies.SERVERS % 'create_image:allow_volume_backed'
    project_id = instances.project_id(request, instance)
    if request.allows(rule, project_id):
        return
    devices = request.services.driver.block_devices(instance)
    if volume_plan.wanted(devices, instance):
        request.require(rule, project_id)


def _metadata(fields: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = fields.get('metadata', {})
    if len(found) > image_record.MAX_METADATA_ITEMS:
        raise errors.Forbidden('Image metadata limit exceeded')
    return found


def _location(request: request_lib.Request, image_id: str) -> webob.Response:
    """Return the answer of old versions, whose URL ends with the ID."""
    answer = responses.empty(202)
    answer.location = request.link('images', image_id)
    return answer


def _begun(
    request: request_lib.Request, wanted: snapshots.Wanted, action: str
) -> str:
    """Begin a snapshot; return the ID of its image."""
    services, uuid = request.services, wanted.instance.uuid
    watcher = actions_lib.Recorder(
        services.actions,
        request.context,
        action,
        recovery.IMAGE_EVENTS[action],
    )
    try:
        power.require_vm_state(
            services.driver.details(uuid), action, IMAGE_STATES
        )
        if any(one.of(uuid) for one in (services.power, services.rebuilds)):
            raise activity.conflict(services, uuid, action)
        return services.snapshots.start(
            wanted, _images(request, wanted.instance), watcher
        )
    except exception.SnapshotInProgress:
        raise activity.conflict(services, uuid, action) from None
    except (snapshots.QueueFull, calls.Stopping) as error:
        raise errors.Unavailable(str(error)) from None
    except exception.ImageTooLarge as error:
        raise errors.OverLimit(str(error)) from None


ACTIONS: dict[str, Action] = {
    'createBackup': create_backup,
    'createImage': create_image,
    **power_actions.ACTIONS,
    **rebuild.ACTIONS,
}
