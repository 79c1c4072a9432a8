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

"""Options of [libvirt] and of two related groups, with Nova's names."""

from typing import Any

from oslo_config import cfg

LIBVIRT_OPTS = [
    cfg.StrOpt(
        'connection_uri',
        default='qemu:///system',
        help='The libvirt connection of whose guests snapshots are taken.',
    ),
    cfg.StrOpt(
        'snapshots_directory',
        help="""
Directory in which snapshots are prepared. Has to be on a file system that
QEMU can write to and that has room for one copy of a root disk at a time.
Default: /var/lib/nova/instances/snapshots where that exists, else
"snapshots" below [DEFAULT] state_path.
""",
    ),
    cfg.StrOpt(
        'snapshot_image_format',
        choices=[
            ('raw', 'plain bytes; large, read by everything'),
            ('qcow2', "QEMU's format; sparse, can be compressed"),
            ('vmdk', "VMware's format"),
            ('vdi', "VirtualBox's format"),
        ],
        help="""
Format of the images. Default: the format of the root disk; root disks on LVM
and RBD are saved as raw.
""",
    ),
    cfg.BoolOpt(
        'snapshot_compression',
        default=False,
        help="""
Compress images in the qcow2 format. Takes processor time, saves space in the
image service and network traffic.
""",
    ),
    cfg.IntOpt(
        'quiesce_timeout',
        default=60,
        min=1,
        help="""
Seconds within which the guest agent has to freeze the file systems of a
guest. A guest that did not answer in time is thawed.
""",
    ),
    cfg.IntOpt(
        'device_detach_timeout',
        default=20,
        min=1,
        help="""
Seconds that a guest is given to let go of a PCI device before it is suspended
for a cold snapshot.
""",
    ),
    cfg.IntOpt(
        'wait_soft_reboot_seconds',
        default=120,
        min=0,
        help="""
Seconds that a guest gets to shut down when it is rebooted the soft way by
nova-snap-api; then it is rebooted the hard way.
""",
    ),
    cfg.StrOpt(
        'images_rbd_ceph_conf',
        default='/etc/ceph/ceph.conf',
        help='The ceph.conf by which root disks on RBD are read.',
    ),
    cfg.StrOpt(
        'rbd_user',
        help="""
The Ceph user for root disks on RBD whose definition names none (no <auth>).
""",
    ),
    cfg.StrOpt(
        'rbd_secret_uuid',
        help="""
The libvirt secret with the key of rbd_user. Default: the key is in a file that
images_rbd_ceph_conf names.
""",
    ),
]

WORKAROUNDS_OPTS = [
    cfg.BoolOpt(
        'disable_libvirt_livesnapshot',
        default=False,
        help="""
Suspend running guests for their snapshot instead of copying their disk live.
""",
    ),
]

EPHEMERAL_STORAGE_ENCRYPTION_OPTS = [
    cfg.BoolOpt(
        'enabled',
        default=False,
        help="""
The disks of the guests are encrypted (LVM with dm-crypt); such guests are
suspended for their snapshot.
""",
    ),
]

GROUPS: dict[str, list[Any]] = {
    'libvirt': LIBVIRT_OPTS,
    'workarounds': WORKAROUNDS_OPTS,
    'ephemeral_storage_encryption': EPHEMERAL_STORAGE_ENCRYPTION_OPTS,
}


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the options of these groups."""
    for group, opts in GROUPS.items():
        conf.register_opts(opts, group=group)


def list_opts() -> list[tuple[str, list[Any]]]:
    """Return the options of these groups."""
    return list(GROUPS.items())
