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


"""Options of [glance] and [service_user]: keystoneauth's and a few more.

Both groups take the same options as in nova.conf, so a section can be copied.
The options of an authentication plugin depend on ``auth_type`` and are
registered when the plugin is loaded.
"""

from typing import Any

from keystoneauth1 import loading
from oslo_config import cfg

GROUP = 'glance'
SERVICE_USER_GROUP = 'service_user'

#: Seconds.  keystoneauth has no limit of its own, and a snapshot must not
#: wait for ever; Glance may need minutes to store the end of a large image.
DEFAULT_TIMEOUT = 300

OPTS = [
    cfg.IntOpt(
        'num_retries',
        default=3,
        min=0,
        help="""
How often a request is retried, with growing pauses, after a transient error
(no connection, a connection that was cut, no answer within "timeout", 429,
500, 502, 503, 504). An upload is retried from its start.
""",
    ),
]

SERVICE_USER_OPTS = [
    cfg.BoolOpt(
        'send_service_user_token',
        default=False,
        help="""
Send the token of the service user along with that of the user, so that Glance
accepts the user's token after it has expired, as in Nova.
""",
    ),
]

#: keystoneauth's options that are not offered: the code chooses the version
#: of the API, and num_retries alone repeats requests (keystoneauth would
#: repeat an upload with an empty body).
_NOT_OFFERED = frozenset(
    (
        'version',
        'min_version',
        'max_version',
        'connect_retries',
        'connect_retry_delay',
        'status_code_retries',
        'status_code_retry_delay',
        'retriable_status_codes',
    )
)


def _session_opts() -> list[Any]:
    opts = loading.get_session_conf_options()
    cfg.set_defaults(opts, timeout=DEFAULT_TIMEOUT)
    return opts


def _adapter_opts() -> list[Any]:
    opts = [
        opt
        for opt in loading.get_adapter_conf_options(include_deprecated=False)
        if opt.dest not in _NOT_OFFERED
    ]
    cfg.set_defaults(
        opts, service_type='image', valid_interfaces=['internal', 'public']
    )
    return opts


GLANCE_OPTS: list[Any] = [*OPTS, *_session_opts(), *_adapter_opts()]
SERVICE_OPTS: list[Any] = [*SERVICE_USER_OPTS, *_session_opts()]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the options of both groups."""
    conf.register_opts(GLANCE_OPTS, group=GROUP)
    conf.register_opts(SERVICE_OPTS, group=SERVICE_USER_GROUP)
    for group in (GROUP, SERVICE_USER_GROUP):
        conf.register_opts(loading.get_auth_common_conf_options(), group=group)


def list_opts() -> list[tuple[str, list[Any]]]:
    """Return the options of both groups, with the password plugin's."""
    auth = [
        *loading.get_auth_common_conf_options(),
        *loading.get_auth_plugin_conf_options('password'),
    ]
    return [
        (GROUP, [*GLANCE_OPTS, *auth]),
        (SERVICE_USER_GROUP, [*SERVICE_OPTS, *auth]),
    ]
