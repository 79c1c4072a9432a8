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
"""Which servers a query asks for: filters, by Nova's rules.

Open this file to add a filter.
https://docs.openstack.org/api-ref/compute/#list-servers
"""

from collections.abc import Callable
from collections.abc import Iterator
import datetime

from oslo_utils import strutils

from nova_snap.api import errors
from nova_snap.api import name_pattern
from nova_snap.api import period
from nova_snap.api import policies
from nova_snap.api import request as request_lib
from nova_snap.api.views import server as server_view

Server = server_view.Server
Filter = Callable[[Server], bool]

#: Values that have to be the same.
EXACT: dict[str, Callable[[Server], str | None]] = {
    'uuid': lambda server: server.details.instance.uuid,
    'image': lambda server: server.details.instance.image_ref,
    'image_ref': lambda server: server.details.instance.image_ref,
    'flavor': lambda server: server.details.flavor_id,
    'project_id': lambda server: server.project_id,
    'tenant_id': lambda server: server.project_id,
    'user_id': lambda server: server.details.instance.user_id,
    'host': lambda server: server.host,
    'node': lambda server: server.host,
    'vm_state': lambda server: server.vm_state,
    'task_state': lambda server: server.activity.task_state,
    'power_state': lambda server: str(int(server.details.power_state)),
}

#: Values in which a regular expression has to be found.
PATTERNS: dict[str, Callable[[Server], tuple[str, ...]]] = {
    'name': lambda server: (server.details.instance.name,),
    'display_name': lambda server: (server.details.instance.name,),
    'hostname': lambda server: (server.hostname,),
    'ip': lambda server: _addresses(server, 4),
    'ip6': lambda server: _addresses(server, 6),
}

#: Filters that Nova has, and whose values no host without Nova knows: only
#: an empty value is found.
UNKNOWN = frozenset(
    [
        "access_ip_v4",
        "access_ip_v6",
        "auto_disk_config",
        "availability_zone",
        "config_drive",
        "created_at",
        "description",
        "display_description",
        "kernel_id",
        "key_name",
        "launch_index",
        "launched_at",
        "locked",
        "locked_by",
        "progress",
        "ramdisk_id",
        "reservation_id",
        "root_device_name",
        "soft_deleted",
        "terminated_at",
        "tags",
        "tags-any",
        "not-tags",
        "not-tags-any",
    ]
)

#: Parameters that are no filters of a value.
OTHERS = frozenset(
    [
        "all_tenants",
        "changes-before",
        "changes-since",
        "deleted",
        "limit",
        "marker",
        "sort_dir",
        "sort_key",
        "status",
    ]
)

#: What Nova heeds when the user is no administrator; it ignores the others.
FOR_USERS = {
    1: """all_tenants changes-since flavor image ip limit marker name
       reservation_id sort_dir sort_key status""",
    5: 'ip6',
    26: 'tags tags-any not-tags not-tags-any',
    66: 'changes-before',
    73: 'locked',
    83: """availability_zone config_drive created_at key_name launched_at
        power_state progress task_state terminated_at user_id vm_state""",
}

#: Values of the tags and of the lock of a server that has none.
_UNSET = ('', 'false', '0')

#: Nova's statuses of servers.
STATUSES = frozenset(
    [
        "active",
        "build",
        "deleted",
        "error",
        "hard_reboot",
        "migrating",
        "password",
        "paused",
        "reboot",
        "rebuild",
        "rescue",
        "resize",
        "revert_resize",
        "shelved",
        "shelved_offloaded",
        "shutoff",
        "soft_deleted",
        "suspended",
        "verify_resize",
    ]
)


def wanted(
    request: request_lib.Request, now: datetime.datetime
) -> Callable[[Server], bool]:
    """Return a function that tells whether a request asks for a server.

    Of a parameter that is there more than once the last value counts, as in
    Nova.  So a request has no more patterns than there are names of them.

    :raises BadRequest: a parameter or its value is not possible.
    :raises Forbidden: only an administrator may ask this.
    """
    _require_known(request)
    may_use_all = request.allows(policies.SERVERS % 'allow_all_filters')
    filters = [
        made
        for name in set(request.GET)
        if may_use_all or _is_for_users(request, name)
        for made in _filters(request, name, request.GET[name])
    ]
    filters += _statuses(request)
    filters += _dates(request, now)
    return lambda server: all(matches(server) for matches in filters)


def wants_all_projects(request: request_lib.Request) -> bool:
    """Return True if a request asks for the servers of all projects."""
    text = request.GET.get('all_tenants', '0')
    return not text or bool(strutils.bool_from_string(text, default=True))


def _filters(
    request: request_lib.Request, name: str, value: str
) -> Iterator[Filter]:
    if name in ('project_id', 'tenant_id') and not wants_all_projects(request):
        return  # as in Nova: the servers are those of the user's project
    if name in EXACT:
        yield lambda server: EXACT[name](server) == value
    elif name in PATTERNS:
        found = name_pattern.matcher(name, value)
        yield lambda server: any(map(found, PATTERNS[name](server)))
    elif name in UNKNOWN and not name.startswith('not-tags'):
        yield lambda server: value.lower() in _UNSET
    elif name == 'deleted' and strutils.bool_from_string(value):
        yield lambda server: False  # what is deleted is not known any more


def _statuses(request: request_lib.Request) -> Iterator[Filter]:
    statuses = {status.lower() for status in request.GET.getall('status')}
    if not statuses:
        return
    known = statuses & STATUSES
    if not known and request.supports(38):
        raise errors.BadRequest('Invalid status value')
    if known == {'deleted'} and not request.context.is_admin:
        raise errors.Forbidden(
            'Only administrators may list deleted instances'
        )
    yield lambda server: server.status.lower() in known


def _dates(
    request: request_lib.Request, now: datetime.datetime
) -> Iterator[Filter]:
    """Yield the filters of changes; an unknown date may be the latest."""

    def changed(server: Server) -> datetime.datetime:
        return server.details.updated_at or now

    since, before = period.of_request(request)
    if since is not None:
        yield lambda server: changed(server) >= since
    if before is not None:
        yield lambda server: changed(server) <= before


def _require_known(request: request_lib.Request) -> None:
    """Raise an error if the version allows no parameters that are unknown."""
    if not request.supports(75):
        return
    for name in request.GET:
        if name not in {*EXACT, *PATTERNS, *UNKNOWN, *OTHERS}:
            raise errors.BadRequest(
                'Additional properties are not allowed '
                f'({name!r} was unexpected)'
            )


def _is_for_users(request: request_lib.Request, name: str) -> bool:
    return any(
        name in names.split()
        for minor, names in FOR_USERS.items()
        if request.supports(minor)
    )


def _addresses(server: Server, version: int) -> tuple[str, ...]:
    return tuple(
        address.address
        for address in server.details.addresses
        if address.version == version
    )
