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

"""Options of [snapshot], which Nova does not have."""

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
"images" below [DEFAULT] state_path. A directory with files of others in it,
such as the directory of Glance's own file store, is refused.
""",
    ),
    cfg.ListOpt(
        'backing_file_directories',
        default=['/var/lib/nova/instances/_base', '/var/lib/libvirt/images'],
        help="""
Directories in which, or below which, the backing files of guests that are shut
off may be. Needed for backing files that only the header of a disk file names;
those in the folder of the disk are always read, and so are those that the
definition of the guest names in a <backingStore>. Whatever a header names here
becomes part of an image, so no file that others must not see should be in such
a directory. Inside nova-compute, its cache of images is always one of them.
""",
    ),
    cfg.IntOpt(
        'reserved_space_mb',
        default=1024,
        min=0,
        help="""
MiB that snapshots leave free on the file system of their temporary files.
When less is left, the snapshot that takes most beyond its share is given up,
or, if none does, the largest; when less than half of it is left, all are.
Often the disks of guests lie on the same file system, and a guest whose disk
can't grow is paused by QEMU.
""",
    ),
    cfg.StrOpt(
        'live_method',
        default='auto',
        choices=[
            ('auto', 'pull where it is possible, else mirror'),
            ('pull', 'export the disk as it is now, and stream it'),
            ('mirror', 'copy the disk to a delta file, then convert it'),
        ],
        help="""
How the disk of a running guest is read. "pull" needs no temporary image, fixes
the point in time when the snapshot begins, and takes root disks on LVM and RBD
live; it needs libvirt 7.2, QEMU 4.2 and python3-libnbd.
""",
    ),
    cfg.IntOpt(
        'max_parallel_disks',
        default=2,
        min=1,
        help="""
Disks of one server that are read and sent at the same time, where several are
read as of the same moment (nova-snap image-create --all-disks).
""",
    ),
    cfg.IntOpt(
        'mirror_stall_timeout',
        default=600,
        min=1,
        help="""
Seconds in which "mirror" has to make progress: the rest that is still to be
copied has to become smaller than it ever was. The copy of a guest that
always writes faster than its disk is copied would never end; its snapshot is
given up.
""",
    ),
    cfg.StrOpt(
        'compression',
        default='auto',
        choices=[
            ('auto', 'qcow2 images that "pull" writes, as compression_type'),
            ('off', 'only where [libvirt] snapshot_compression is set'),
        ],
        help="""
Which images are compressed besides those for which [libvirt]
snapshot_compression asks. With "auto", an image that "pull" writes is as large
as it is in the guest only if what compresses it (nova-snap[stream]) is not
installed.
""",
    ),
    cfg.StrOpt(
        'compression_type',
        default='zstd',
        choices=[
            ('zstd', 'fast and small; read by QEMU 5.1 and later'),
            ('zlib', 'read by every QEMU'),
        ],
        help="""
How "pull" compresses images. Every host that starts a server from an image, or
converts it, must be able to read it.
""",
    ),
    cfg.IntOpt(
        'compression_threads',
        default=2,
        min=1,
        max=64,
        help='How many processors "pull" may use for compressing an image.',
    ),
    cfg.IntOpt(
        'export_connections',
        default=4,
        min=1,
        max=16,
        help='How many connections "pull" reads a disk over.',
    ),
    cfg.IntOpt(
        'bandwidth_limit_mb',
        default=0,
        min=0,
        help="""
MiB per second that "pull" reads at most of one server, of all its disks
together; 0 means no limit.
""",
    ),
    cfg.StrOpt(
        'rbd_pool',
        help="""
The pool of Glance's rbd store, if that is in the Ceph cluster of the root
disks. Images of root disks on RBD are then made inside Ceph, as clones in this
pool, and no byte of them passes through this host; Glance is told the
location. That needs python3-rados and python3-rbd, a Ceph user that may write
to the pool, images in the raw format, and a Glance that accepts locations:
from a user with the role "service" (API 2.17), or by its option
show_multiple_locations. Where any of these is missing, a disk in Ceph is
pulled, whatever "live_method" says, and only if that is not possible is its
guest suspended.
""",
    ),
    cfg.StrOpt(
        'rbd_flatten',
        default='task',
        choices=[
            ('task', "Ceph's manager copies, then the image becomes active"),
            ('client', 'this host copies, then the image becomes active'),
            ('later', "the image becomes active, then Ceph's manager copies"),
            ('never', 'nobody copies'),
        ],
        help="""
Who copies the data of the root disk to an image that was made inside Ceph, and
when. With "later" and "never" an image is active within about a second, but
the user of Ceph that Glance has must be able to read the pool of the root
disks, and the root disk can't be removed from Ceph until its data is copied.
Where the manager does not take the task, this host copies.
""",
    ),
    cfg.StrOpt(
        'scratch_directory',
        help="""
Directory for what guests overwrite while "pull" reads their disks. A write of
a guest waits until what it replaces is stored here, so it should be as fast
as the disks of the guests. Default: [libvirt] snapshots_directory.
""",
    ),
    cfg.IntOpt(
        'scratch_percent',
        default=10,
        min=0,
        max=100,
        help="""
Free space that "pull" requires in the scratch directory before it begins, as
a percentage of the space that the root disk has allocated. reserved_space_mb
comes on top, and what running snapshots have not taken of theirs.
""",
    ),
    cfg.IntOpt(
        'scratch_min_mb',
        default=256,
        min=0,
        help="""
MiB that "pull" requires to be free in the scratch directory at least, however
small the root disk is. reserved_space_mb comes on top.
""",
    ),
    cfg.IntOpt(
        'max_image_disk_gb',
        default=2048,
        min=1,
        help="""
GiB of the disk in an image that a server is made of, at most. The image may be
much smaller: the disk takes its size when it is written to.
""",
    ),
    cfg.IntOpt(
        'cancel_check_interval',
        default=2,
        min=1,
        help="""
Seconds between two checks of the image record of a running snapshot. When the
image has been deleted, the snapshot is cancelled.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the options of [snapshot]."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[Any]]]:
    """Return the options of [snapshot]."""
    return [(GROUP, OPTS)]
