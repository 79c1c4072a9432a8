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

"""Options of [api]: the service that answers the calls of Nova's API."""

from collections.abc import Sequence
import socket
from typing import Any

from oslo_config import cfg
from oslo_log import log as logging

from nova_snap import conf as conf_lib

GROUP = 'api'

#: The values of [api] metrics.
METRICS_OFF = 'off'
METRICS_LOCAL = 'local'
METRICS_ALL = 'all'

OPTS = [
    cfg.StrOpt(
        'concurrency_backend',
        default='eventlet',
        choices=[
            ('eventlet', "eventlet's WSGI server and green threads"),
            ('threading', "cheroot's WSGI server and native threads"),
        ],
        help="""
How nova-snap-api runs several things at a time. The environment variable
NOVA_SNAP_CONCURRENCY_BACKEND overrides this option. Under another WSGI server
it has no effect.
""",
    ),
    cfg.StrOpt(
        'auth_strategy',
        default='noauth2',
        choices=[
            (
                'noauth2',
                'No identity. Only on a loopback address, for root and the '
                'user of the service, or on a unix socket, for its group',
            ),
            (
                'http_basic',
                'Whoever has a name and a password in '
                'http_basic_auth_user_file is an administrator. On other '
                'addresses than loopback only with TLS',
            ),
            (
                'keystone',
                'Tokens of Keystone, which are validated by '
                '[keystone_authtoken]; what their roles allow is said by '
                '[oslo_policy]',
            ),
        ],
        help='Identity of requests.',
    ),
    cfg.StrOpt(
        'http_basic_auth_user_file',
        default='/etc/nova_snap/htpasswd',
        help="""
Names and passwords for auth_strategy http_basic, as "htpasswd -B" writes them:
only passwords that are hashed by bcrypt are taken.
""",
    ),
    cfg.StrOpt(
        'cert_file',
        help='Certificate (PEM) by which the service is known; with it the '
        'service is reached by https.',
    ),
    cfg.StrOpt('key_file', help='Private key (PEM) of the certificate.'),
    cfg.StrOpt(
        'default_project_id',
        default='admin',
        help="""
The project of the servers whose libvirt metadata names none, and of requests
without Keystone. With Keystone, the ID of a project.
""",
    ),
    cfg.StrOpt(
        'host_name',
        default=socket.gethostname(),
        sample_default='<the name of this host>',
        help='Name of this host in answers.',
    ),
    cfg.StrOpt(
        'listen',
        default='127.0.0.1',
        help="""
Address to listen on: an IP address, or the absolute path of a unix socket.
""",
    ),
    cfg.IntOpt(
        'max_waiting_snapshots',
        default=20,
        min=0,
        help="""
Maximum number of snapshots that wait for others to end ([DEFAULT]
max_concurrent_snapshots). Further requests are answered with 503 and
Retry-After.
""",
    ),
    cfg.StrOpt(
        'metrics',
        default=METRICS_LOCAL,
        choices=[
            (METRICS_OFF, 'Nobody: there is no /metrics'),
            (
                METRICS_LOCAL,
                'Programs of this host, by a loopback address or a unix '
                'socket, and not through a proxy',
            ),
            (METRICS_ALL, 'Whoever can reach the service'),
        ],
        help="""
Who may read /metrics without an identity. It has counts, times, and bytes, and
names no server, image, or project.
""",
    ),
    cfg.IntOpt(
        'graceful_shutdown_timeout',
        default=60,
        min=0,
        help="""
Seconds that snapshots and power actions get to end when the service is
stopped. Snapshots that still run then are cancelled and undone. A guest that
is still shutting down is left to that, and its power is not switched off; a
soft reboot is finished by the next start of the service.
""",
    ),
    cfg.BoolOpt(
        'power_actions_on_nova_servers',
        default=False,
        help="""
Whether guests with Nova's metadata are paused, stopped, rebuilt, etc. If
nova-compute manages the guests of this host, it would undo such changes. Only
for hosts whose guests nova-compute does not manage any more.
""",
    ),
    cfg.PortOpt('port', default=8774, help='Port to listen on.'),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the options of [api]."""
    conf.register_opts(OPTS, group=GROUP)


def set_up(conf: cfg.ConfigOpts, arguments: Sequence[str]) -> None:
    """Read the configuration of the service, and set up its log.

    :raises oslo_config.cfg.Error: a file is missing, or invalid.
    """
    conf_lib.register_opts(conf)
    register_opts(conf)
    logging.register_options(conf)
    logging.set_defaults(
        default_log_levels=[
            *logging.get_default_log_levels(),
            # Each start would say what it is made of.
            'alembic=WARN',
        ]
    )
    conf(args=arguments, project='nova_snap', prog='nova-snap-api')
    logging.setup(conf, 'nova-snap-api')


def list_opts() -> list[tuple[str, list[Any]]]:
    """Return the options of [api]."""
    return [(GROUP, OPTS)]
