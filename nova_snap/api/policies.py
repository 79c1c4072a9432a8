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

"""The policies: who may make which call, with Nova's names and defaults.

Open this file to give a new call its policy.  The calls of Nova have the names
and the defaults that they have in Nova 34, so that an operator's rules hold
for both:
https://docs.openstack.org/nova/latest/configuration/policy.html

The module imports oslo.policy only: the sample and the documentation are made
from it.
"""

from collections.abc import Mapping

from oslo_policy import policy

ADMIN = 'rule:context_is_admin'
MEMBER_OR_ADMIN = 'rule:project_member_or_admin'
READER_OR_ADMIN = 'rule:project_reader_or_admin'
ANYBODY = '@'

#: The rule that makes the user of a request an administrator.
IS_ADMIN = 'context_is_admin'

SERVERS = 'os_compute_api:servers:%s'
PAUSE_SERVER = 'os_compute_api:os-pause-server:%s'
SUSPEND_SERVER = 'os_compute_api:os-suspend-server:%s'
CREATE_BACKUP = 'os_compute_api:os-create-backup'
SERVER_ATTRIBUTES = 'os_compute_api:os-extended-server-attributes'
INSTANCE_ACTIONS = 'os_compute_api:os-instance-actions:%s'
FLAVOR_EXTRA_SPECS = 'os_compute_api:os-flavor-extra-specs:index'
HYPERVISORS = 'os_compute_api:os-hypervisors:%s'
LIMITS = 'os_compute_api:limits'
EXTENSIONS = 'os_compute_api:extensions'

#: Calls that Nova does not have.
SNAPSHOTS = 'nova_snap:snapshots:%s'

#: Calls of the embedded image store; the last part is Glance's name.
IMAGES = 'nova_snap:images:%s'

#: The policy of each action of ``POST /servers/{server_id}/action``.
ACTIONS: Mapping[str, str] = {
    'createBackup': CREATE_BACKUP,
    'createImage': SERVERS % 'create_image',
    'os-start': SERVERS % 'start',
    'os-stop': SERVERS % 'stop',
    'pause': PAUSE_SERVER % 'pause',
    'reboot': SERVERS % 'reboot',
    'rebuild': SERVERS % 'rebuild',
    'resume': SUSPEND_SERVER % 'resume',
    'suspend': SUSPEND_SERVER % 'suspend',
    'unpause': PAUSE_SERVER % 'unpause',
}

_SERVER = '/servers/{server_id}'
_ACTION = f'{_SERVER}/os-instance-actions/{{request_id}}'
_IMAGE = '/image/v2/images/{image_id}'
_SHOWN = (('GET', '/servers/detail'), ('GET', _SERVER))
_FLAVORS = (('GET', '/flavors/detail'), ('GET', '/flavors/{flavor_id}'))


def _rule(
    name: str, check: str, description: str, *operations: tuple[str, str]
) -> policy.DocumentedRuleDefault:
    return policy.DocumentedRuleDefault(
        name=name,
        check_str=check,
        description=description,
        operations=[
            {'method': method, 'path': path} for method, path in operations
        ],
        scope_types=['project'],
    )


_ROLES = (
    policy.RuleDefault(IS_ADMIN, 'role:admin', 'Who is an administrator.'),
    policy.RuleDefault(
        'project_member_api',
        'role:member and project_id:%(project_id)s',
        'Who may change what a project has.',
    ),
    policy.RuleDefault(
        'project_reader_api',
        'role:reader and project_id:%(project_id)s',
        'Who may read what a project has.',
    ),
    policy.RuleDefault(
        'project_member_or_admin',
        'rule:project_member_api or rule:context_is_admin',
        'The default of calls that change what a project has.',
    ),
    policy.RuleDefault(
        'project_reader_or_admin',
        'rule:project_reader_api or rule:context_is_admin',
        'The default of calls that read what a project has.',
    ),
)

_SERVER_RULES = (
    _rule(
        *(SERVERS % 'index', READER_OR_ADMIN, 'List servers.'),
        ('GET', '/servers'),
    ),
    _rule(
        *(SERVERS % 'detail', READER_OR_ADMIN, 'List servers with details.'),
        ('GET', '/servers/detail'),
    ),
    _rule(
        SERVERS % 'index:get_all_tenants',
        ADMIN,
        'List the servers of all projects.',
        ('GET', '/servers'),
    ),
    _rule(
        SERVERS % 'detail:get_all_tenants',
        ADMIN,
        'List the servers of all projects with details.',
        ('GET', '/servers/detail'),
    ),
    _rule(
        SERVERS % 'allow_all_filters',
        ADMIN,
        'Use all filters. Those that only an administrator may use are '
        'ignored otherwise.',
        ('GET', '/servers'),
        ('GET', '/servers/detail'),
    ),
    _rule(
        *(SERVERS % 'show', READER_OR_ADMIN, 'Show a server.'),
        ('GET', _SERVER),
    ),
    _rule(
        SERVERS % 'show:flavor-extra-specs',
        READER_OR_ADMIN,
        'See the extra specs in the flavor of a server.',
        *_SHOWN,
    ),
    _rule(
        SERVERS % 'show:host_status',
        ADMIN,
        'See the status of the host of a server.',
        *_SHOWN,
    ),
    _rule(
        SERVER_ATTRIBUTES,
        ADMIN,
        'See the extended attributes of a server, such as its host and the '
        "name of its libvirt domain.",
        *_SHOWN,
    ),
)

_ACTION_RULES = (
    *(
        _rule(
            name,
            MEMBER_OR_ADMIN,
            f'Run the action {action} on a server.',
            ('POST', f'{_SERVER}/action ({action})'),
        )
        for action, name in ACTIONS.items()
    ),
    _rule(
        SERVERS % 'rebuild:trusted_certs',
        MEMBER_OR_ADMIN,
        'Rebuild a server with trusted image certificate IDs, of which only '
        'none is possible.',
        ('POST', f'{_SERVER}/action (rebuild)'),
    ),
    _rule(
        SERVERS % 'create_image:allow_volume_backed',
        # Nova's default is for members: there, a user's token goes to Cinder.
        ADMIN,
        'Create an image of a server that boots from a volume. Its snapshots '
        'belong to the project of the login of [cinder].',
        ('POST', f'{_SERVER}/action (createImage)'),
    ),
    _rule(
        INSTANCE_ACTIONS % 'list',
        READER_OR_ADMIN,
        'List what was done to a server.',
        ('GET', f'{_SERVER}/os-instance-actions'),
    ),
    _rule(
        INSTANCE_ACTIONS % 'show',
        READER_OR_ADMIN,
        'Show an action on a server.',
        ('GET', _ACTION),
    ),
    _rule(
        INSTANCE_ACTIONS % 'events',
        ADMIN,
        'See the host in the events of an action; before microversion 2.51, '
        'see the events.',
        ('GET', _ACTION),
    ),
    _rule(
        INSTANCE_ACTIONS % 'events:details',
        ADMIN,
        'See why an action failed (microversion 2.84). The text may have '
        'paths and addresses of the host.',
        ('GET', _ACTION),
    ),
    _rule(
        SNAPSHOTS % 'list',
        READER_OR_ADMIN,
        'List the snapshots of a server that run or wait.',
        ('GET', f'{_SERVER}/snapshots'),
    ),
    _rule(
        SNAPSHOTS % 'show',
        READER_OR_ADMIN,
        'Show the progress of a snapshot.',
        ('GET', f'{_SERVER}/snapshots/{{image_id}}'),
    ),
    _rule(
        SNAPSHOTS % 'cancel',
        MEMBER_OR_ADMIN,
        'Cancel a snapshot.',
        ('DELETE', f'{_SERVER}/snapshots/{{image_id}}'),
    ),
)

_OTHER_RULES = (
    _rule(
        FLAVOR_EXTRA_SPECS,
        READER_OR_ADMIN,
        'See the extra specs of a flavor.',
        *_FLAVORS,
    ),
    _rule(
        HYPERVISORS % 'list',
        ADMIN,
        'List the hypervisor.',
        ('GET', '/os-hypervisors'),
    ),
    _rule(
        HYPERVISORS % 'list-detail',
        ADMIN,
        'List the hypervisor with details.',
        ('GET', '/os-hypervisors/detail'),
    ),
    _rule(
        HYPERVISORS % 'show',
        ADMIN,
        'Show the hypervisor.',
        ('GET', '/os-hypervisors/{hypervisor_id}'),
    ),
    _rule(LIMITS, ANYBODY, 'Show limits.', ('GET', '/limits')),
    _rule(
        EXTENSIONS,
        ANYBODY,
        'List or show extensions.',
        ('GET', '/extensions'),
        ('GET', '/extensions/{alias}'),
    ),
    _rule(
        IMAGES % 'get_images',
        READER_OR_ADMIN,
        'List images of the embedded store.',
        ('GET', '/image/v2/images'),
    ),
    _rule(
        IMAGES % 'get_image',
        READER_OR_ADMIN,
        'Show an image of the embedded store.',
        ('GET', _IMAGE),
    ),
    _rule(
        IMAGES % 'download_image',
        READER_OR_ADMIN,
        'Download an image of the embedded store.',
        ('GET', f'{_IMAGE}/file'),
    ),
    _rule(
        IMAGES % 'delete_image',
        MEMBER_OR_ADMIN,
        'Delete an image of the embedded store.',
        ('DELETE', _IMAGE),
    ),
)


def list_rules() -> list[policy.RuleDefault]:
    """Return all policies, for oslo.policy and its tools."""
    return [*_ROLES, *_SERVER_RULES, *_ACTION_RULES, *_OTHER_RULES]
