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
"""The flavors of the servers that a user may see; there are no others.

https://docs.openstack.org/api-ref/compute/#flavors
"""

from collections.abc import Callable
from typing import Any

import webob

from nova_snap.api import errors
from nova_snap.api import paging
from nova_snap.api import policies
from nova_snap.api import request as request_lib
from nova_snap.api import responses
from nova_snap.api import visible
from nova_snap.api.views import flavor as flavor_view
from nova_snap.objects import instance as instance_lib

Item = tuple[str, instance_lib.Flavor]


def index(request: request_lib.Request) -> webob.Response:
    """List ids and names of flavors."""
    return _list(request, _view(request).summary, 'flavors')


def detail(request: request_lib.Request) -> webob.Response:
    """List flavors with their sizes."""
    return _list(request, _view(request).detailed, 'flavors', 'detail')


def show(request: request_lib.Request, flavor_id: str) -> webob.Response:
    """Show a flavor.

    :raises NotFound: no server that the user may see has it.
    """
    flavor = _flavors(request).get(flavor_id)
    if flavor is None:
        raise errors.NotFound(f'Flavor {flavor_id} could not be found.')
    return responses.json(
        {'flavor': _view(request).detailed(flavor_id, flavor)}
    )


def _list(
    request: request_lib.Request,
    shown: Callable[[str, instance_lib.Flavor], dict[str, Any]],
    *path: str,
) -> webob.Response:
    page = paging.of_request(request)
    least_ram = _minimum(request, 'minRam')
    least_disk = _minimum(request, 'minDisk')

    def is_wanted(item: Item) -> bool:
        flavor = item[1]
        return flavor.memory_mb >= least_ram and flavor.root_gb >= least_disk

    items = page.cut(
        sorted(_flavors(request).items(), key=_id), _id, is_wanted
    )
    document: dict[str, Any] = {'flavors': [shown(*item) for item in items]}
    links = paging.next_links(request, page, list(map(_id, items)), *path)
    if links:
        document['flavors_links'] = links
    return responses.json(document)


def _flavors(request: request_lib.Request) -> dict[str, instance_lib.Flavor]:
    """Return the flavors by their ids, of what the user may see.

    Where two flavors have one id, since Nova has not written it down and the
    names are the same, the server with the lowest id decides.
    """
    servers = visible.servers(request, request.context.is_admin)
    servers.sort(key=lambda server: server.details.instance.uuid, reverse=True)
    return {s.details.flavor_id: s.details.flavor for s in servers}


def _minimum(request: request_lib.Request, name: str) -> int:
    text = request.GET.get(name, '0')
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise errors.BadRequest(f'Invalid {name} filter [{text}]')
    return int(text)


def _view(request: request_lib.Request) -> flavor_view.FlavorView:
    return flavor_view.FlavorView(
        request.microversion.minor,
        request.link,
        request.allows(policies.FLAVOR_EXTRA_SPECS),
    )


def _id(item: Item) -> str:
    return item[0]
