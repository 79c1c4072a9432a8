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
"""The hypervisor of this host, for administrators.

https://docs.openstack.org/api-ref/compute/#hypervisors-os-hypervisors
"""

from typing import Any

from oslo_utils import strutils
from oslo_utils import uuidutils
import webob

from nova_snap.api import errors
from nova_snap.api import paging
from nova_snap.api import policies
from nova_snap.api import request as request_lib
from nova_snap.api import responses
from nova_snap.api import visible
from nova_snap.api.views import hypervisor as hypervisor_view


def index(request: request_lib.Request) -> webob.Response:
    """List the hypervisor."""
    view = _view(request, 'list')
    return _list(request, view, view.summary())


def detail(request: request_lib.Request) -> webob.Response:
    """List the hypervisor with all that is known of it."""
    view = _view(request, 'list-detail')
    return _list(request, view, view.detailed())


def show(request: request_lib.Request, hypervisor_id: str) -> webob.Response:
    """Show the hypervisor.

    :raises NotFound: it has another id.
    """
    view = _view(request, 'show')
    if request.supports(53) and not uuidutils.is_uuid_like(hypervisor_id):
        raise errors.BadRequest(f'Invalid uuid {hypervisor_id}')
    if hypervisor_id != str(view.identity):
        raise errors.NotFound(
            f"Hypervisor with ID '{hypervisor_id}' could not be found."
        )
    return responses.json({'hypervisor': view.detailed()})


def _list(
    request: request_lib.Request,
    view: hypervisor_view.HypervisorView,
    item: dict[str, Any],
) -> webob.Response:
    items = [item]
    name = request.GET.get('hypervisor_hostname_pattern')
    if name is not None and request.supports(53):
        if name not in view.host.hostname:
            raise errors.NotFound(
                f"No hypervisor matching '{name}' could be found."
            )
    elif request.supports(33):
        page = paging.of_request(request)
        items = page.cut(items, lambda found: str(found['id']))
    return responses.json({'hypervisors': items})


def _view(
    request: request_lib.Request, action: str
) -> hypervisor_view.HypervisorView:
    request.require(policies.HYPERVISORS % action)
    return hypervisor_view.HypervisorView(
        minor=request.microversion.minor,
        host=request.services.driver.host_details(),
        servers=visible.servers(request, is_all=True),
        shows_servers=request.supports(53)
        and strutils.bool_from_string(request.GET.get('with_servers', '')),
    )
