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

"""The server that a request names, if its user may know of it."""

from oslo_utils import uuidutils

from nova_snap import exception
from nova_snap.api import errors
from nova_snap.api import request as request_lib
from nova_snap.objects import instance as instance_lib


def find(
    request: request_lib.Request, server_id: str, rule: str
) -> instance_lib.Instance:
    """Return the instance with an ID, for a call with a policy.

    A server of another project is not told from one that does not exist.

    :param rule: the name of the policy.
    :raises NotFound: there is none, or it is another project's.
    :raises Forbidden: the policy does not allow the call.
    """
    missing = not_found(server_id)
    # Clients try a name first, and only then list the servers by name.
    if not uuidutils.is_uuid_like(server_id):
        raise missing
    try:
        found = request.services.driver.instance(server_id)
    except (exception.InstanceNotFound, exception.InstanceAmbiguous):
        raise missing from None
    owner = project_id(request, found)
    if found.uuid != server_id.lower() or not (
        request.context.is_admin or request.context.project_id == owner
    ):
        raise missing
    request.require(rule, owner)
    return found


def project_id(
    request: request_lib.Request, instance: instance_lib.Instance
) -> str:
    """Return the project that an instance belongs to."""
    default: str = request.services.options.default_project_id
    return instance.project_id or default


def not_found(server_id: str) -> errors.NotFound:
    """Return the error about a server that does not exist."""
    return errors.NotFound(f'Instance {server_id} could not be found.')


def exists(request: request_lib.Request, server_id: str) -> bool:
    """Return True if a server exists, whoever it belongs to."""
    try:
        request.services.driver.instance(server_id)
    except exception.InstanceNotFound:
        return False
    except exception.InstanceAmbiguous:
        pass
    return True
