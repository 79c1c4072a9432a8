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
"""Lists of servers, and one server.

https://docs.openstack.org/api-ref/compute/#servers-servers
"""

from collections.abc import Callable
import datetime
from typing import Any

import webob

from nova_snap.api import paging
from nova_snap.api import policies
from nova_snap.api import request as request_lib
from nova_snap.api import responses
from nova_snap.api import server_filters
from nova_snap.api import server_order
from nova_snap.api import visible
from nova_snap.api.views import server as server_view


def index(request: request_lib.Request) -> webob.Response:
    """List ids and names of servers."""
    return _list(request, view(request).summary, 'servers')


def detail(request: request_lib.Request) -> webob.Response:
    """List servers with all that is known of them."""
    return _list(request, view(request).detailed, 'servers', 'detail')


def show(request: request_lib.Request, server_id: str) -> webob.Response:
    """Show a server.

    :raises NotFound: there is none that the user may see.
    """
    server = visible.server(request, server_id)
    return responses.json({'server': view(request).shown(server)})


def _list(
    request: request_lib.Request,
    shown: Callable[[server_view.Server], dict[str, Any]],
    *path: str,
) -> webob.Response:
    rule = policies.SERVERS % ('detail' if 'detail' in path else 'index')
    request.require(rule)
    page = paging.of_request(request)
    is_wanted = server_filters.wanted(request, _now())
    is_all = visible.sees_all(request)
    if server_filters.wants_all_projects(request):
        request.require(f'{rule}:get_all_tenants')
        is_all = True
    servers = page.cut(
        server_order.ordered(request, visible.servers(request, is_all)),
        _id,
        is_wanted,
    )
    document: dict[str, Any] = {'servers': list(map(shown, servers))}
    links = paging.next_links(request, page, list(map(_id, servers)), *path)
    if links:
        document['servers_links'] = links
    return responses.json(document)


def view(request: request_lib.Request) -> server_view.ServerView:
    """Return a view of servers for a request."""
    return server_view.ServerView(
        minor=request.microversion.minor,
        link=request.link,
        shows_attributes=request.allows(policies.SERVER_ATTRIBUTES),
        shows_host_status=request.allows(
            policies.SERVERS % 'show:host_status'
        ),
        shows_extra_specs=request.allows(
            policies.SERVERS % 'show:flavor-extra-specs'
        ),
        now=_now(),
    )


def _id(server: server_view.Server) -> str:
    return server.details.instance.uuid


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
