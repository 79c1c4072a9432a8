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
"""The servers that a user may see.

A server belongs to the project in Nova's metadata of its guest, or else to
``[api] default_project_id``.
"""

from nova_snap import exception
from nova_snap.api import activity
from nova_snap.api import instances
from nova_snap.api import policies
from nova_snap.api import request as request_lib
from nova_snap.api.views import server as server_view
from nova_snap.objects import instance_details


def servers(
    request: request_lib.Request, is_all: bool = False
) -> list[server_view.Server]:
    """Return the servers of the user's project.

    :param is_all: those of all projects; see :func:`sees_all`.
    """
    project_id = request.services.options.default_project_id
    return [
        _server(request, details)
        for details in request.services.driver.all_details()
        if is_all or request.context.owns(details.instance, project_id)
    ]


def server(request: request_lib.Request, server_id: str) -> server_view.Server:
    """Return a server by its id.

    :raises NotFound: there is none that the user may see.
    :raises Forbidden: no policy allows the user to see servers.
    """
    found = instances.find(request, server_id, policies.SERVERS % 'show')
    return of_instance(request, found.uuid)


def of_instance(request: request_lib.Request, uuid: str) -> server_view.Server:
    """Return a server that the user may see, or act on.

    :raises NotFound: it was deleted meanwhile.
    """
    try:
        details = request.services.driver.details(uuid)
    except exception.InstanceNotFound:
        raise instances.not_found(uuid) from None
    return _server(request, details)


def sees_all(request: request_lib.Request) -> bool:
    """Return True if a list without a choice has the servers of all projects.

    With Keystone, an administrator has to ask for them, as in Nova.  Without
    it, nobody could choose a project: the administrator of the host sees all.
    """
    return request.context.is_admin and request.context.access is None


def _server(
    request: request_lib.Request, details: instance_details.InstanceDetails
) -> server_view.Server:
    options = request.services.options
    return server_view.Server(
        details=details,
        project_id=details.instance.project_id or options.default_project_id,
        host=options.hostname,
        activity=activity.of(request.services, details.instance.uuid),
    )
