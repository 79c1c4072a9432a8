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

"""The version documents, by which clients begin.

They are Nova's: https://docs.openstack.org/api-ref/compute/#api-versions
"""

from typing import Any

import webob

from nova_snap.api import microversion
from nova_snap.api import request as request_lib
from nova_snap.api import responses

_ID = 'v2.1'


def index(request: request_lib.Request) -> webob.Response:
    """List the versions; there is one."""
    return responses.json({'versions': [_version(request)]})


def show(request: request_lib.Request) -> webob.Response:
    """Show version 2.1 and the range of its microversions."""
    version = _version(request)
    version['links'].append(
        {
            'rel': 'describedby',
            'type': 'text/html',
            'href': 'https://docs.openstack.org/api-ref/compute/',
        }
    )
    version['media-types'] = [
        {
            'base': 'application/json',
            'type': 'application/vnd.openstack.compute+json;version=2.1',
        }
    ]
    return responses.json({'version': version})


def _version(request: request_lib.Request) -> dict[str, Any]:
    return {
        'id': _ID,
        'status': 'CURRENT',
        'version': str(microversion.MAX),
        'min_version': str(microversion.MIN),
        'updated': '2013-07-23T11:33:21Z',
        'links': [{'rel': 'self', 'href': request.link(_ID, '')}],
    }
