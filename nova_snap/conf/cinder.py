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

"""Options of [cinder]: Nova's, keystoneauth's, and two of our own.

The section of nova.conf can be copied.  Without a login in it, Cinder is not
used.
"""

from typing import Any

from keystoneauth1 import loading
from oslo_config import cfg

GROUP = 'cinder'

#: Seconds.
DEFAULT_TIMEOUT = 60

OPTS = [
    cfg.StrOpt(
        'catalog_info',
        default='volumev3::publicURL',
        regex=r'^[^:]+:[^:]*:[^:]+$',
        help="""
Where Cinder is found in the catalog of Keystone, in the form
service_type:service_name:interface.
""",
    ),
    cfg.StrOpt(
        'endpoint_template',
        help="""
Where Cinder is, in place of what the catalog says. %(project_id)s stands for
the project that is logged in to, as in
https://cinder.example.org/v3/%(project_id)s.
""",
    ),
    cfg.StrOpt(
        'os_region_name',
        help='Region of the Cinder to use, where the catalog has several.',
    ),
    cfg.IntOpt(
        'http_retries',
        default=3,
        min=0,
        help="""
How often a request is retried, with growing pauses, after a transient error
(no connection, a connection that was cut, no answer within "timeout", 429,
500, 502, 503, 504). A request for a snapshot is never retried, since it is
made while the guest is frozen.
""",
    ),
    cfg.IntOpt(
        'snapshot_timeout',
        default=600,
        min=1,
        help="""
Seconds within which Cinder has to make the snapshot of a volume available.
After that the image is given up, and its volume snapshots are deleted.
""",
    ),
    cfg.IntOpt(
        'frozen_timeout',
        default=10,
        min=0,
        help="""
Seconds that a guest stays frozen at most, from the freeze on, while Cinder
takes the snapshots of its volumes. Cinder answers a request before it takes
the snapshot; only snapshots that are taken before the guest is thawed show
all volumes at the same moment. With 0 the guest is thawed as soon as all
requests are answered, and images that demand os_require_quiesce are refused.

Where volumes are among the disks of an image set, a guest that is suspended
for it waits for as long, and the set fails if the time is not enough.
""",
    ),
]


def _session_opts() -> list[Any]:
    opts = loading.get_session_conf_options()
    cfg.set_defaults(opts, timeout=DEFAULT_TIMEOUT)
    return opts


CINDER_OPTS: list[Any] = [*OPTS, *_session_opts()]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the options of [cinder]."""
    conf.register_opts(CINDER_OPTS, group=GROUP)
    conf.register_opts(loading.get_auth_common_conf_options(), group=GROUP)


def list_opts() -> list[tuple[str, list[Any]]]:
    """Return the options of [cinder], with those of the password plugin."""
    auth = [
        *loading.get_auth_common_conf_options(),
        *loading.get_auth_plugin_conf_options('password'),
    ]
    return [(GROUP, [*CINDER_OPTS, *auth])]
