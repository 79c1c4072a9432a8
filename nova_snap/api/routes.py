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

"""The table of routes: which function answers which request.

Open this file to add a call of the API.  A function is called as
``function(request, **variables)``, with the variables of its path.
"""

from collections.abc import Callable
import functools
import re
from typing import NamedTuple

import webob

from nova_snap.api import errors
from nova_snap.api import request as request_lib
from nova_snap.api.handlers import about
from nova_snap.api.handlers import flavors
from nova_snap.api.handlers import health
from nova_snap.api.handlers import hypervisors
from nova_snap.api.handlers import images
from nova_snap.api.handlers import instance_actions
from nova_snap.api.handlers import metrics
from nova_snap.api.handlers import server_actions
from nova_snap.api.handlers import servers
from nova_snap.api.handlers import snapshots
from nova_snap.api.handlers import versions

Handler = Callable[..., webob.Response]


class Route(NamedTuple):
    """A call of the API; ``path`` has variables in braces."""

    method: str
    path: str
    handler: Handler


#: Answered without an identity: clients ask for the versions before they log
#: in.
PUBLIC = (
    Route('GET', '/', versions.index),
    Route('GET', '/v2.1', versions.show),
    Route('GET', '/v2.1/', versions.show),
    Route('GET', '/healthcheck', health.show),
    Route('GET', '/metrics', metrics.show),
    Route('GET', '/image', images.versions),
    Route('GET', '/image/', images.versions),
)

#: What the paths of the other calls begin with.
PREFIX = '/v2.1'

#: Calls on behalf of a user, below PREFIX.
PROTECTED: tuple[Route, ...] = (
    Route('GET', '/servers', servers.index),
    Route('GET', '/servers/detail', servers.detail),
    Route('GET', '/servers/{server_id}', servers.show),
    Route('POST', '/servers/{server_id}/action', server_actions.run),
    Route(
        'GET',
        '/servers/{server_id}/os-instance-actions',
        instance_actions.index,
    ),
    Route(
        'GET',
        '/servers/{server_id}/os-instance-actions/{request_id}',
        instance_actions.show,
    ),
    Route('GET', '/servers/{server_id}/snapshots', snapshots.index),
    Route('GET', '/servers/{server_id}/snapshots/{image_id}', snapshots.show),
    Route(
        'DELETE', '/servers/{server_id}/snapshots/{image_id}', snapshots.cancel
    ),
    Route('GET', '/flavors', flavors.index),
    Route('GET', '/flavors/detail', flavors.detail),
    Route('GET', '/flavors/{flavor_id}', flavors.show),
    Route('GET', '/os-hypervisors', hypervisors.index),
    Route('GET', '/os-hypervisors/detail', hypervisors.detail),
    Route('GET', '/os-hypervisors/{hypervisor_id}', hypervisors.show),
    Route('GET', '/limits', about.limits),
    Route('GET', '/extensions', about.extensions),
    Route('GET', '/extensions/{alias}', about.extension),
)

#: What the paths of the image routes begin with.
IMAGE_PREFIX = '/image'

#: Calls of the image service on behalf of a user, below IMAGE_PREFIX.
IMAGES = (
    Route('GET', '/v2/images', images.index),
    Route('GET', '/v2/images/{image_id}', images.show),
    Route('GET', '/v2/images/{image_id}/file', images.data),
    Route('DELETE', '/v2/images/{image_id}', images.delete),
    Route('GET', '/v2/schemas/image', images.schema),
)


class Match(NamedTuple):
    """The function for a request, and the variables of its path."""

    handler: Handler
    variables: dict[str, str]

    def __call__(self, request: request_lib.Request) -> webob.Response:
        """Answer the request."""
        return self.handler(request, **self.variables)


def protected(method: str, path: str) -> Match | None:
    """Return the function for a call on behalf of a user, or None.

    The images are below PREFIX, too: where there is no catalog,
    python-novaclient looks for all services at one URL.

    :raises MethodNotAllowed: the path has no such method.
    """
    tables = ((PREFIX, (*PROTECTED, *IMAGES)), (IMAGE_PREFIX, IMAGES))
    for prefix, table in tables:
        if path.startswith(f'{prefix}/'):
            return match(table, method, path.removeprefix(prefix))
    return None


def match(table: tuple[Route, ...], method: str, path: str) -> Match | None:
    """Return the function for a request; None if the path is not known.

    HEAD is answered as GET is; the WSGI server leaves out the body.

    :raises MethodNotAllowed: the path has no such method.
    """
    method = 'GET' if method == 'HEAD' else method
    allowed = []
    for route in table:
        found = _pattern(route.path).fullmatch(path)
        if found is None:
            continue
        if route.method == method:
            return Match(route.handler, found.groupdict())
        allowed.append(route.method)
    if allowed:
        raise errors.MethodNotAllowed(
            'The method specified is not allowed for this resource.',
            {'Allow': ', '.join(sorted(set(allowed)))},
        )
    return None


@functools.cache
def _pattern(path: str) -> re.Pattern[str]:
    """Return what a path has to match; a variable has no slash."""
    return re.compile(re.sub(r'\{(\w+)\}', r'(?P<\1>[^/]+)', path))
