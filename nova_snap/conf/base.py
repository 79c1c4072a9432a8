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

"""Options of [DEFAULT], with Nova's names where Nova has them."""

from typing import Any

from oslo_config import cfg

OPTS = [
    cfg.StrOpt(
        'state_path',
        default='/var/lib/nova_snap',
        help="""
Directory for the state of the service: the journal of snapshots that are
running, locks, and, where nothing else is configured, temporary files and
images. Must survive a reboot.
""",
    ),
    cfg.IntOpt(
        'max_concurrent_snapshots',
        default=5,
        min=0,
        help="""
Maximum number of snapshots that run at the same time on this host; others
wait. 0 means no limit.
""",
    ),
    cfg.IntOpt(
        'max_concurrent_disk_ops',
        default=0,
        min=0,
        help="""
Maximum number of disk-intensive operations (conversions of disk images) that
run at the same time on this host; others wait. 0 means no limit.
""",
    ),
    cfg.IntOpt(
        'shutdown_timeout',
        default=60,
        min=0,
        help="""
Seconds that a guest gets to shut down when it is stopped by nova-snap-api;
then its power is switched off. 0 switches it off at once.
""",
    ),
    cfg.ListOpt(
        'non_inheritable_image_properties',
        default=['cache_in_nova', 'bittorrent'],
        help="""
Properties of the base image that its snapshots do not inherit. Those of image
signatures and of image encryption, of block devices, and most that begin with
``img_`` are never inherited, since they describe the data of the base image.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the options of [DEFAULT]."""
    conf.register_opts(OPTS)


def list_opts() -> list[tuple[str, list[Any]]]:
    """Return the options of [DEFAULT]."""
    return [('DEFAULT', OPTS)]
