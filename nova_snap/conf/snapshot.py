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

"""Options of [snapshot]: what is this project's own."""

from typing import Any

from oslo_config import cfg

GROUP = 'snapshot'

OPTS = [
    cfg.StrOpt(
        'image_service',
        default='filesystem',
        help="""
Where images go: "glance", as the [glance] group says, or "filesystem", a
directory on this host. Other adapters can be installed; they are entry points
of the group nova_snap.image_services.
""",
    ),
    cfg.StrOpt(
        'filesystem_store_datadir',
        help="""
Directory in which the "filesystem" image service keeps images. Default:
"images" below [DEFAULT] state_path.
""",
    ),
    cfg.IntOpt(
        'reserved_space_mb',
        default=1024,
        min=0,
        help="""
MiB that a snapshot leaves free on the file system of [libvirt]
snapshots_directory. When less is left, the snapshot is given up. Often the
disks of guests lie on the same file system, and a guest whose disk can't grow
is paused by QEMU.
""",
    ),
    cfg.IntOpt(
        'cancel_check_interval',
        default=2,
        min=1,
        help="""
Seconds between two looks at the image record of a running snapshot; when the
image was deleted the snapshot stops.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the options of [snapshot]."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[Any]]]:
    """The options of [snapshot]."""
    return [(GROUP, OPTS)]
