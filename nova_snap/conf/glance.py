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

"""Options of [glance] and [service_user]: keystoneauth's and a few more."""

from typing import Any

from oslo_config import cfg

GROUP = 'glance'
SERVICE_USER_GROUP = 'service_user'

OPTS = [
    cfg.IntOpt(
        'num_retries',
        default=3,
        min=0,
        help="""
How often a request that failed for a passing reason (no connection, 500, 502,
503, 504) is repeated, with growing pauses.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the options of both groups."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[Any]]]:
    """The options of both groups."""
    return [(GROUP, OPTS)]
