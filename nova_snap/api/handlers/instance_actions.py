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

from collections.abc import Sequence
import datetime
from typing import Any
import urllib.parse

from oslo_utils import timeutils
import webob

from nova_snap.api import actions as actions_lib
from nova_snap.api import errors
from nova_snap.api import instances
from nova_snap.api import policies
from nova_snap.api import request as request_lib
from nova_snap.api import responses
from nova_snap.api.db import models
from nova_snap.api.views import instance_actions as views

#: Actions in one answer, as in Nova.
MAX_LIMIT = 1000


def index(request: request_lib.Request, server_id: str) -> webob.Response:
    """List the actions on a server, the latest first."""
    _require_access(request, server_id, policies.INSTANCE_ACTIONS % 'list')
    limit, filters = MAX_LIMIT, {}
    if request.supports(58):
        limit, filters = _limit(request), _filters(request)
    try:
        found = request.services.actions.list(
            server_id, limit=limit, **filters
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
    if request.supports(58) and limit and len(found) == limit:
        document['links'] = [_next_link(request, server_id, found)]
    return responses.json(document)


def show(
    request: request_lib.Request, server_id: str, request_id: str
) -> webob.Response:
    """Show an action, and how its events ended."""
    _require_access(request, server_id, policies.INSTANCE_ACTIONS % 'show')
    found = request.services.actions.get(server_id, request_id)
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


def _require_access(
    request: request_lib.Request, server_id: str, rule: str
) -> None:
    """Raise NotFound unless the user may know of a server.

    Since 2.21 the actions of a server that was deleted are shown, too, to
    the project that has begun all of them.

    :raises Forbidden: the policy does not allow the call.
    """
    try:
        instances.find(request, server_id, rule)
    except errors.NotFound:
        if not request.supports(21) or instances.exists(request, server_id):
            raise
        found = request.services.actions.list(server_id)
        projects = {action.project_id for action in found}
        context = request.context
        if not projects or not (
            context.is_admin or projects == {context.project_id}
        ):
            raise
        request.require(rule)


def _limit(request: request_lib.Request) -> int:
    text = request.GET.get('limit', str(MAX_LIMIT))
    if not (text.isascii() and text.isdigit()):
        raise errors.BadRequest('limit must be a number that is not negative')
    return min(int(text[:9]), MAX_LIMIT)


def _filters(request: request_lib.Request) -> dict[str, Any]:
    known = {'limit', 'marker', 'changes-since'}
    if request.supports(66):
        known.add('changes-before')
    for name in request.GET:
        if name not in known:
            raise errors.BadRequest(f'Additional parameter {name!r}')
        if len(request.GET.getall(name)) > 1:
            raise errors.BadRequest(f'More than one parameter {name!r}')
    since = _time(request, 'changes-since')
    before = _time(request, 'changes-before')
    if since is not None and before is not None and before < since:
        raise errors.BadRequest(
            'The value of changes-since must be less than or equal to '
            'changes-before.'
        )
    marker = request.GET.get('marker')
    return {'marker': marker, 'since': since, 'before': before}


def _time(request: request_lib.Request, name: str) -> datetime.datetime | None:
    text = request.GET.get(name)
    if text is None:
        return None
    try:
        return timeutils.normalize_time(timeutils.parse_isotime(text))
    except (ValueError, OverflowError):
        raise errors.BadRequest(f'{name} is no time: {text!r}') from None


def _next_link(
    request: request_lib.Request,
    server_id: str,
    found: Sequence[models.Action],
) -> dict[str, str]:
    wanted = {**request.GET, 'marker': found[-1].request_id}
    url = request.link('v2.1', 'servers', server_id, 'os-instance-actions')
    query = urllib.parse.urlencode(sorted(wanted.items()))
    return {'rel': 'next', 'href': f'{url}?{query}'}
