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
"""The order of a list of servers, by Nova's rules."""

from collections.abc import Callable
from collections.abc import Iterable
import datetime
import itertools
from typing import Any

from nova_snap.api import errors
from nova_snap.api import request as request_lib
from nova_snap.api.views import server as server_view

Server = server_view.Server

_LONG_AGO = datetime.datetime.min.replace(tzinfo=datetime.UTC)

KEYS: dict[str, Callable[[Server], Any]] = {
    'created_at': lambda server: server.details.created_at or _LONG_AGO,
    'updated_at': lambda server: server.details.updated_at or _LONG_AGO,
    'display_name': lambda server: server.details.instance.name,
    'display_description': lambda server: server.details.description or '',
    'host': lambda server: server.host,
    'node': lambda server: server.host,
    'hostname': lambda server: server.hostname,
    'image_ref': lambda server: server.details.instance.image_ref or '',
    'instance_type_id': lambda server: server.details.flavor_id,
    'power_state': lambda server: server.details.power_state,
    'progress': lambda server: server.activity.progress,
    'project_id': lambda server: server.project_id,
    'root_device_name': lambda server: server.details.root_device or '',
    'task_state': lambda server: server.activity.task_state or '',
    'user_id': lambda server: server.details.instance.user_id or '',
    'uuid': lambda server: server.details.instance.uuid,
    'vm_state': lambda server: server.vm_state or '',
}

FOR_ADMINISTRATORS = frozenset(('host', 'node'))

#: Keys that Nova has, and whose values no host without Nova knows.
UNKNOWN = frozenset(
    [
        "access_ip_v4",
        "access_ip_v6",
        "auto_disk_config",
        "availability_zone",
        "config_drive",
        "kernel_id",
        "key_name",
        "launch_index",
        "launched_at",
        "locked",
        "locked_by",
        "ramdisk_id",
        "terminated_at",
    ]
)


def ordered(
    request: request_lib.Request, servers: Iterable[Server]
) -> list[Server]:
    """Return servers in the order that a request asks for.

    By default the latest comes first.  Servers that are equal in all keys
    stay in the order of their ids, so that a marker always means the same.

    :raises BadRequest: there is no such key or direction.
    :raises Forbidden: only an administrator may use the key.
    """
    keys = request.GET.getall('sort_key') or ['created_at']
    directions = request.GET.getall('sort_dir') or ['desc']
    found = sorted(servers, key=KEYS['uuid'])
    # A stable sort by the last key first.  As in Nova, the first direction
    # is that of the keys that have none.
    pairs = list(
        itertools.zip_longest(
            keys, directions[: len(keys)], fillvalue=directions[0]
        )
    )
    for key, direction in reversed(pairs):
        if direction not in ('asc', 'desc'):
            raise errors.BadRequest(
                "Unknown sort direction, must be 'desc' or 'asc'"
            )
        if key in FOR_ADMINISTRATORS and not request.context.is_admin:
            raise errors.Forbidden(
                f'Only administrators can sort servers by {key}'
            )
        if key in KEYS:
            found.sort(key=KEYS[key], reverse=direction == 'desc')
        elif key not in UNKNOWN:
            raise errors.BadRequest(
                f'Invalid input for query parameters sort_key. Value: {key}. '
                f'{key!r} is no key to sort by'
            )
    return found
