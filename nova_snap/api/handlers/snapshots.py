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

"""``/servers/{id}/snapshots``: progress and cancellation, which Nova lacks."""

import webob

from nova_snap.api import errors
from nova_snap.api import instances
from nova_snap.api import policies
from nova_snap.api import request as request_lib
from nova_snap.api import responses
from nova_snap.api import snapshots
from nova_snap.api.views import snapshot as views


def index(request: request_lib.Request, server_id: str) -> webob.Response:
    """List the snapshots of a server that run or wait: one at most."""
    found = _running(request, server_id, 'list')
    shown = [] if found is None else [views.progress(found)]
    return responses.json({'snapshots': shown})


def show(
    request: request_lib.Request, server_id: str, image_id: str
) -> webob.Response:
    """Show how far a snapshot is."""
    found = _find(request, server_id, image_id, 'show')
    return responses.json({'snapshot': views.progress(found)})


def cancel(
    request: request_lib.Request, server_id: str, image_id: str
) -> webob.Response:
    """Cancel a snapshot; its image goes, and the guest is as it was.

    :raises Conflict: the image is complete already.
    """
    found = _find(request, server_id, image_id, 'cancel')
    if found.is_complete:
        raise errors.Conflict(
            f'Image {image_id} is complete, so that it can not be cancelled '
            'any more; delete it instead.'
        )
    found.progress.cancel('a user has cancelled it.')
    return responses.empty(202)


def _running(
    request: request_lib.Request, server_id: str, call: str
) -> snapshots.Snapshot | None:
    """Return the snapshot of a server that was accepted, if there is one."""
    rule = policies.SNAPSHOTS % call
    instance = instances.find(request, server_id, rule)
    found = request.services.snapshots.of(instance.uuid)
    return found if found is not None and found.image_id else None


def _find(
    request: request_lib.Request, server_id: str, image_id: str, call: str
) -> snapshots.Snapshot:
    found = _running(request, server_id, call)
    if found is None or found.image_id != image_id:
        raise errors.NotFound(
            f'No snapshot of instance {server_id} is being sent to image '
            f'{image_id}.'
        )
    return found
