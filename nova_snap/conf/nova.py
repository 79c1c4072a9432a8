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

"""Options of [nova_snap], the only group of this project in nova.conf.

Inside nova-compute, Nova's own option is used wherever there is one.  This
group has the other options, under the names that they have in
``snapshot.py`` and ``libvirt.py``.
"""

from typing import Any

from oslo_config import cfg

from nova_snap.conf import libvirt
from nova_snap.conf import snapshot

GROUP = 'nova_snap'

#: Options of [snapshot] that are left out: Nova chooses the image service, and
#: has an option for Glance's pool in Ceph.
_NOT_HERE = frozenset(
    ('image_service', 'filesystem_store_datadir', 'rbd_pool')
)

OPTS: list[Any] = [
    cfg.StrOpt(
        'state_path',
        help="""
Directory for the journal of snapshots that are running, and for locks. Has to
survive a reboot. Default: "nova_snap" below [DEFAULT] state_path, which
packages set to /var/lib/nova; Nova's own default is where Nova is installed.
""",
    ),
    cfg.BoolOpt(
        'all_disks',
        default=False,
        help="""
Take an image of every local disk of a server, all as of the same moment, for
each image that a user asks for: of the root disk, of ephemeral disks and of
swap. Volumes of Cinder and the config drive are left out. A server that runs
is not suspended for its further disks: where they cannot be read with "pull",
as with live_method = mirror, an image of the root disk is made, and a warning
is logged. Backups and shelving are about the root disk, always. Without this
option users ask for all disks of one image by its property
nova_snap:disks=all.
""",
    ),
    *(opt for opt in snapshot.OPTS if opt.dest not in _NOT_HERE),
    *(opt for opt in libvirt.LIBVIRT_OPTS if opt.dest == 'quiesce_timeout'),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the options of [nova_snap]."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[Any]]]:
    """Return the options of [nova_snap]."""
    return [(GROUP, OPTS)]
