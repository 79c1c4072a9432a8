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
"""What clients ask on their way: limits and extensions.

https://docs.openstack.org/api-ref/compute/#limits-limits
"""

import webob

from nova_snap.api import errors
from nova_snap.api import policies
from nova_snap.api import request as request_lib
from nova_snap.api import responses
from nova_snap.api import visible
from nova_snap.api.views import limits as limits_view

#: Parts of Nova's API that are here: their aliases and Nova's names of them.
EXTENSIONS = {
    'extensions': 'Extensions',
    'flavors': 'Flavors',
    'limits': 'Limits',
    'os-create-backup': 'CreateBackup',
    'os-hypervisors': 'Hypervisors',
    'os-instance-actions': 'ServerInstanceActions',
    'os-pause-server': 'PauseServer',
    'os-suspend-server': 'SuspendServer',
    'servers': 'Servers',
    'versions': 'Versions',
}


def limits(request: request_lib.Request) -> webob.Response:
    """Show the limits of the user's project, and what it uses."""
    request.require(policies.LIMITS)
    servers = visible.servers(request, visible.sees_all(request))
    return responses.json(
        limits_view.shown(request.microversion.minor, servers)
    )


def extensions(request: request_lib.Request) -> webob.Response:
    """List the parts of Nova's API that are here."""
    request.require(policies.EXTENSIONS)
    return responses.json({'extensions': list(map(_extension, EXTENSIONS))})


def extension(request: request_lib.Request, alias: str) -> webob.Response:
    """Show a part of Nova's API that is here.

    :raises NotFound: it is not here.
    """
    request.require(policies.EXTENSIONS)
    if alias not in EXTENSIONS:
        raise errors.NotFound('The resource could not be found.')
    return responses.json({'extension': _extension(alias)})


def _extension(alias: str) -> dict[str, object]:
    name = EXTENSIONS[alias]
    return {
        'alias': alias,
        'name': name,
        'description': f"{name} of Nova's API, as far as it is here.",
        'links': [],
        'namespace': '',
        'updated': '2014-12-03T00:00:00Z',
    }
