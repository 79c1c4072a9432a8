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

"""Power actions of ``POST /servers/{id}/action``.

https://docs.openstack.org/api-ref/compute/#servers-run-an-action-servers-action
"""

from typing import Any

import webob

from nova_snap import exception
from nova_snap.api import actions as actions_lib
from nova_snap.api import activity
from nova_snap.api import calls
from nova_snap.api import errors
from nova_snap.api import request as request_lib
from nova_snap.api import responses
from nova_snap.api import validation
from nova_snap.api.schemas import power_actions as schemas
from nova_snap.compute import power
from nova_snap.objects import instance as instance_lib

#: Without ``reboot``, whose body has its type.
_CHANGES = {
    'pause': power.PAUSE,
    'unpause': power.UNPAUSE,
    'suspend': power.SUSPEND,
    'resume': power.RESUME,
    'os-start': power.START,
    'os-stop': power.STOP,
}

_REBOOTS = {'SOFT': power.SOFT_REBOOT, 'HARD': power.HARD_REBOOT}


def run(
    request: request_lib.Request,
    instance: instance_lib.Instance,
    document: dict[str, Any],
) -> webob.Response:
    """Begin the power action that a body names."""
    (name,) = document
    validation.require(document, schemas.SCHEMAS[name])
    change = (
        _REBOOTS[document[name]['type'].upper()]
        if name == 'reboot'
        else _CHANGES[name]
    )
    services = request.services
    watcher = actions_lib.Recorder(
        services.actions, request.context, change.name, change.event
    )
    try:
        if services.snapshots.of(instance.uuid) is not None:
            raise activity.conflict(services, instance.uuid, change.name)
        services.power.start(instance, change, services.images, watcher)
    except exception.SnapshotInProgress:
        raise activity.conflict(services, instance.uuid, change.name) from None
    except calls.Stopping as error:
        raise errors.Unavailable(str(error)) from None
    return responses.empty(202)


ACTIONS = dict.fromkeys(schemas.SCHEMAS, run)
