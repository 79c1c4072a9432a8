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

"""``/servers/{id}/os-instance-actions``: what was done to a server.

https://docs.openstack.org/api-ref/compute/#servers-actions-servers-os-instance-actions
"""

from typing import Any

from oslo_utils import timeutils
import webob

from nova_snap.api import actions as actions_lib
from nova_snap.api import errors
from nova_snap.api import instances
from nova_snap.api import paging
from nova_snap.api import period
from nova_snap.api import policies
from nova_snap.api import request as request_lib
from nova_snap.api import responses
from nova_snap.api.views import instance_actions as views


def index(request: request_lib.Request, server_id: str) -> webob.Response:
    """List the actions on a server, the latest first."""
    uuid = _find(request, server_id, policies.INSTANCE_ACTIONS % 'list')
    has_pages = request.supports(58)
    page = paging.of_request(request) if has_pages else paging.WHOLE
    filters = _filters(request) if has_pages else {}
    try:
        found = request.services.actions.list(
            uuid, limit=page.limit, marker=page.marker, **filters
        )
    except actions_lib.MarkerNotFound as error:
        raise errors.BadRequest(
            f'Marker {error} could not be found.'
        ) from None
    document: dict[str, Any] = {
        'instanceActions': [
            views.summary(action, request.microversion) for action in found
        ]
    }
    links = paging.next_links(
        request,
        page,
        [action.request_id for action in found],
        *('servers', server_id, 'os-instance-actions'),
    )
    if has_pages and links:
        document['links'] = links
    return responses.json(document)


def show(
    request: request_lib.Request, server_id: str, request_id: str
) -> webob.Response:
    """Show an action, and how its events ended."""
    uuid = _find(request, server_id, policies.INSTANCE_ACTIONS % 'show')
    found = request.services.actions.get(uuid, request_id)
    if found is None:
        raise errors.NotFound(f'Action {request_id} not found')
    view = views.DetailView(
        request.microversion,
        shows_events=request.allows(policies.INSTANCE_ACTIONS % 'events'),
        shows_details=request.allows(
            policies.INSTANCE_ACTIONS % 'events:details'
        ),
    )
    return responses.json({'instanceAction': view.shown(found)})


def _find(request: request_lib.Request, server_id: str, rule: str) -> str:
    """Return the UUID of a server, if the user may know of it.

    Since 2.21 the actions of a server that was deleted are shown, too, to
    the project that has begun all of them.

    :raises NotFound: there is none that the user may know of.
    :raises Forbidden: the policy does not allow the call.
    """
    try:
        return instances.find(request, server_id, rule).uuid
    except errors.NotFound:
        if not request.supports(21) or instances.exists(request, server_id):
            raise
        uuid = server_id.lower()
        found = request.services.actions.list(uuid)
        projects = {action.project_id for action in found}
        context = request.context
        if not projects or not (
            context.is_admin or projects == {context.project_id}
        ):
            raise
        request.require(rule)
        return uuid


def _filters(request: request_lib.Request) -> dict[str, Any]:
    known = {'limit', 'marker', 'changes-since'}
    if request.supports(66):
        known.add('changes-before')
    for name in request.GET:
        if name not in known:
            raise errors.BadRequest(f'Additional parameter {name!r}')
        if len(request.GET.getall(name)) > 1:
            raise errors.BadRequest(f'More than one parameter {name!r}')
    since, before = period.of_request(request)
    return {
        'since': since and timeutils.normalize_time(since),
        'before': before and timeutils.normalize_time(before),
    }
