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

"""The steps at which tests kill or hold a snapshot, listed once.

:data:`FUNCTIONS` has each step by name.  A pipeline is the names of its steps
in their order, and the points of it at which an ordinary run kills.
"""

from collections.abc import Sequence
import dataclasses

from tests.lab import exhaustive

_LIBVIRT = 'nova_snap.virt.libvirt'
_GUEST = f'{_LIBVIRT}.guest:Guest'
_DISK = f'{_LIBVIRT}.block_device:BlockDevice'
_MIRROR = f'{_LIBVIRT}.extraction.mirror:_Mirror'
_QEMU_IMG = 'nova_snap.virt.storage.qemu_img'
_STORE = 'nova_snap.image.filesystem:FilesystemImageService'
_GLANCE = 'nova_snap.image.glance:GlanceImageService'
_RBD = 'nova_snap.virt.storage.rbd:Ceph'
_VOLUMES = 'nova_snap.compute.volume_backed.snapshots:VolumeSnapshots'

#: The function of each step, as ``module:name`` or ``module:Class.method``.
FUNCTIONS = {
    # Guests and their definition.
    'save-xml': f'{_GUEST}.definition',
    'undefine': f'{_GUEST}.undefine',
    'restore-definition': f'{_GUEST}.restore_definition',
    # Within the one above: autostart is not set again yet.
    'define': f'{_LIBVIRT}.host:Host.define',
    'freeze': f'{_GUEST}.freeze',
    'thaw': f'{_GUEST}.thaw',
    'managed-save': f'{_GUEST}.managed_save',
    'start': f'{_GUEST}.start',
    # Copies of a disk.
    'create-delta': f'{_QEMU_IMG}:create_delta',
    'end-old-job': f'{_DISK}.abort_job',
    'rebase': f'{_DISK}.rebase',
    'poll': f'{_MIRROR}.wait_until_ready',
    'end-mirror': f'{_MIRROR}.end',
    'flatten': f'{_QEMU_IMG}:flatten',
    'convert': f'{_QEMU_IMG}:convert',
    'begin-export': f'{_LIBVIRT}.backup_job:begin',
    'open-export': 'nova_snap.qcow2.nbd_source:NbdSource.__init__',
    'end-export': f'{_LIBVIRT}.backup_job:end',
    # Where images go: the embedded store, Glance for us and for Nova.
    'create-record': f'{_STORE}.create',
    'store': f'{_STORE}.upload',
    'send': f'{_GLANCE}.upload',
    'upload': 'nova_snap.nova.images:UserImages.upload',
    'rotate-backups': 'nova_snap.compute.backups:Series.rotate',
    # Inside Ceph, in the order in which they are called first.
    'create-glance-record': f'{_GLANCE}.create',
    'rbd-snapshot': f'{_RBD}.create_snapshot',
    'rbd-read': f'{_RBD}.read',
    'rbd-clone': f'{_RBD}.clone',
    'start-flatten': f'{_RBD}.start_flatten',
    'rbd-offer': f'{_RBD}.offer',
    'ask-for-location': 'nova_snap.image.glance_location:AddLocation.__call__',
    'set-location': f'{_GLANCE}.set_location',
    'rbd-remove-image': f'{_RBD}.remove_image',
    'rbd-remove-snapshot': f'{_RBD}.remove_snapshot',
    # Guests that are made of images.
    'download': 'nova_snap.compute.image_download:write',
    'inspect': 'nova_snap.virt.storage.image_check:virtual_size',
    'name-disk': f'{_LIBVIRT}.new_disks:name',
    # Guests whose disks are replaced.
    'stop': f'{_LIBVIRT}.shutdown:end',
    'forget-disks': f'{_LIBVIRT}.guest_metadata:write',
    # Domain snapshots.
    'make-file': f'{_LIBVIRT}.snapshots.new_files:_make',
    'name-file': f'{_LIBVIRT}.snapshots.new_files:_name',
    'create-domain-snapshot': f'{_LIBVIRT}.snapshots.calls:create',
    'set-parent': f'{_LIBVIRT}.snapshots.deletion:set_parent',
    'forget': f'{_LIBVIRT}.snapshots.calls:forget',
    'begin-commit': f'{_LIBVIRT}.snapshots.calls:begin_commit',
    'pivot': f'{_LIBVIRT}.snapshots.calls:pivot',
    'commit-file': 'nova_snap.virt.storage.layers:commit',
    'set-backing': 'nova_snap.virt.storage.layers:set_backing',
    'redefine': f'{_LIBVIRT}.snapshots.calls:redefine',
    'remove-file': f'{_LIBVIRT}.snapshots.merging:remove',
    'save-memory': f'{_LIBVIRT}.snapshots.calls:save',
    'restore-memory': f'{_LIBVIRT}.snapshots.calls:restore',
    'revert-internal': f'{_LIBVIRT}.snapshots.calls:revert_internal',
    'delete-internal': f'{_LIBVIRT}.snapshots.calls:delete_internal',
    'keep-firmware': f'{_LIBVIRT}.snapshots.firmware_state:Store.keep',
    'set-firmware': f'{_LIBVIRT}.snapshots.firmware_state:write',
    'destroy': f'{_GUEST}.destroy',
    'remove-leftover': f'{_LIBVIRT}.snapshots.merging:remove_leftover',
    # Volumes.
    'snapshot-volume': (
        'nova_snap.volume.cinder:CinderVolumeService.create_snapshot'
    ),
    'wait-for-volumes': f'{_VOLUMES}.wait_until_available',
}


@dataclasses.dataclass(frozen=True)
class Point:
    """A moment at which a process dies or waits.

    :ivar moment: ``before`` or ``after`` the step; ``after.2`` if the step is
        done several times, and the second is meant.
    """

    moment: str
    step: str

    def __str__(self) -> str:
        return f'{self.moment} {self.step}'

    @property
    def function(self) -> str:
        """The function of the step."""
        return FUNCTIONS[self.step]


def before(step: str) -> Point:
    """Return the moment right before a step."""
    return Point('before', step)


def after(step: str) -> Point:
    """Return the moment right after a step."""
    return Point('after', step)


def after_call(number: int, step: str) -> Point:
    """Return the moment after a step was done so many times."""
    return Point(f'after.{number}', step)


def points(pipeline: Sequence[str], *usual: Point) -> tuple[Point, ...]:
    """Return where to kill: before and after each step, or the usual points.

    The usual ones are those after which something else has to be undone:
    what is undone before a step is, but for a step that fails half-way, what
    is undone after the one before it.
    """
    every = (cut(step) for step in pipeline for cut in (before, after))
    return exhaustive.choose(every, usual)


MIRROR = points(
    (
        *('create-record', 'create-delta', 'save-xml', 'end-old-job'),
        *('undefine', 'rebase', 'poll', 'freeze', 'end-mirror', 'thaw'),
        *('restore-definition', 'define', 'flatten', 'store'),
    ),
    after('create-record'),
    after('create-delta'),
    after('undefine'),
    after('rebase'),
    after('freeze'),
    after('define'),
    after('flatten'),
    after('store'),
)
COLD = points(
    (
        *('create-record', 'freeze', 'managed-save', 'convert'),
        *('start', 'thaw', 'store'),
    ),
    after('freeze'),
    after('managed-save'),
    after('start'),
)
PULL = points(
    (
        *('create-record', 'freeze', 'begin-export', 'thaw'),
        *('open-export', 'store', 'end-export'),
    ),
    after('begin-export'),
    after('open-export'),
    after('end-export'),
)

#: Of two disks, so that something is there for one and not for the other.
BOOT = exhaustive.choose(
    (
        before('download'),
        after_call(1, 'download'),
        after_call(2, 'download'),
        after('inspect'),
        after_call(1, 'name-disk'),
        after_call(2, 'name-disk'),
        before('define'),
        after('define'),
        before('start'),
        after('start'),
    ),
    (
        after_call(1, 'download'),
        after_call(2, 'name-disk'),
        after('define'),
    ),
)

#: At which libvirtd is restarted.
BOOT_BREAKS = exhaustive.choose(
    (before('download'), before('define'), before('start')),
    (before('define'),),
)

REBUILD = exhaustive.choose(
    (
        before('download'),
        after('download'),
        after('inspect'),
        after('name-disk'),
        before('stop'),
        after('stop'),
        before('define'),
        after('define'),
        before('start'),
        after('start'),
    ),
    (after('stop'), after('define')),
)
UNDO_REBUILD = exhaustive.choose(
    (
        before('stop'),
        after('stop'),
        before('define'),
        after('define'),
        before('start'),
        after('start'),
    ),
    (after('define'),),
)
FORGET = exhaustive.choose(
    (before('forget-disks'), after('forget-disks')),
    (after('forget-disks'),),
)

#: Of several disks: what is there for some of them and not yet for all.
SET_PULL = exhaustive.choose(
    (
        *PULL,
        after_call(1, 'create-record'),
        after_call(2, 'create-record'),
        after_call(1, 'open-export'),
        after_call(2, 'open-export'),
        after_call(3, 'open-export'),
        after_call(1, 'store'),
        after_call(2, 'store'),
        after_call(3, 'store'),
    ),
    (
        after_call(2, 'create-record'),
        after('begin-export'),
        after_call(2, 'open-export'),
        after_call(1, 'store'),
        after_call(3, 'store'),
    ),
)
SET_COLD = exhaustive.choose(
    (
        *COLD,
        after_call(1, 'convert'),
        after_call(2, 'convert'),
        after_call(3, 'convert'),
        after_call(1, 'store'),
        after_call(2, 'store'),
        after_call(3, 'store'),
    ),
    (
        after('managed-save'),
        after_call(2, 'convert'),
        after_call(2, 'store'),
    ),
)

RBD_DIRECT = points(
    (
        *('create-glance-record', 'freeze', 'rbd-snapshot', 'thaw'),
        *('rbd-read', 'rbd-clone', 'start-flatten', 'rbd-offer'),
        *('ask-for-location', 'set-location', 'rbd-remove-snapshot'),
    ),
    after('freeze'),
    after('rbd-snapshot'),
    after('start-flatten'),
    after('rbd-offer'),
    after('ask-for-location'),
    after('set-location'),
)

#: Of several disks inside Ceph: what is there for some of them, not yet for
#: all.
SET_RBD_DIRECT = exhaustive.choose(
    (
        *RBD_DIRECT,
        after_call(2, 'create-glance-record'),
        after_call(2, 'rbd-snapshot'),
        after_call(3, 'rbd-snapshot'),
        after_call(2, 'rbd-clone'),
        after_call(2, 'rbd-offer'),
        after_call(3, 'rbd-offer'),
        after_call(1, 'set-location'),
        after_call(2, 'set-location'),
        after_call(3, 'set-location'),
        after_call(2, 'rbd-remove-snapshot'),
    ),
    (
        after_call(2, 'rbd-snapshot'),
        after_call(1, 'set-location'),
        after_call(3, 'set-location'),
    ),
)

#: Of the same pipelines in nova-compute, which stores in Glance for a user,
#: the points before the image is complete.
NOVA_MIRROR = exhaustive.choose(
    (
        before('create-delta'),
        after('save-xml'),
        before('undefine'),
        after('undefine'),
        after('rebase'),
        after('poll'),
        after('end-mirror'),
        after('define'),
        after('restore-definition'),
        after('flatten'),
        before('upload'),
    ),
    (after('undefine'), after('end-mirror'), after('define')),
)
NOVA_PULL = exhaustive.choose(
    (
        before('begin-export'),
        after('begin-export'),
        before('upload'),
        before('send'),
    ),
    (after('begin-export'), before('send')),
)
#: The record is nova-api's, and the guest of those tests has no agent.
NOVA_RBD_DIRECT = exhaustive.choose(
    (
        after('rbd-snapshot'),
        after('rbd-clone'),
        after('start-flatten'),
        after('rbd-offer'),
        before('ask-for-location'),
    ),
    (after('rbd-offer'),),
)

#: Of images of volumes, all points at which there is something to undo.
VOLUMES = exhaustive.choose(
    (
        after('freeze'),
        after('snapshot-volume'),
        after('wait-for-volumes'),
        before('send'),
    ),
    (after('freeze'), after('snapshot-volume'), before('send')),
)
#: Of sets of images with volumes, all points at which there is something to
#: undo; the image that is sent first is not that of the root disk.
SET_WITH_VOLUMES = exhaustive.choose(
    (
        after('freeze'),
        after('begin-export'),
        after('snapshot-volume'),
        after('thaw'),
        after('wait-for-volumes'),
        after('open-export'),
        before('send'),
        after('send'),
    ),
    (after('snapshot-volume'), after('send')),
)

#: Freezing a guest, and taking a domain snapshot of its disk.
DOMAIN_SNAPSHOT = exhaustive.choose(
    (
        before('make-file'),
        after('make-file'),
        before('name-file'),
        after('name-file'),
        after('freeze'),
        before('create-domain-snapshot'),
        after('create-domain-snapshot'),
        before('thaw'),
    ),
    (after('make-file'), after('freeze'), after('create-domain-snapshot')),
)
#: The same with memory.
DOMAIN_SNAPSHOT_OF_SYSTEM = exhaustive.choose(
    (
        after('make-file'),
        after_call(2, 'make-file'),
        after('name-file'),
        after_call(2, 'name-file'),
        before('create-domain-snapshot'),
        after('create-domain-snapshot'),
    ),
    (after('name-file'), after('create-domain-snapshot')),
)

#: Deleting a domain snapshot whose disk the guest runs on.
DELETE_CURRENT = points(
    ('forget', 'begin-commit', 'pivot', 'remove-file'),
    after('forget'),
    after('begin-commit'),
    after('pivot'),
)
#: One with another after it, while the guest runs.  The domain snapshots after
#: it are defined again twice: with another parent, and with another file.
DELETE_MIDDLE = exhaustive.choose(
    (
        *points(('set-parent', 'forget', 'begin-commit', 'remove-file')),
        after_call(1, 'redefine'),
        after_call(2, 'redefine'),
    ),
    (after_call(2, 'redefine'),),
)
#: The same while it does not run.
DELETE_STOPPED = exhaustive.choose(
    (
        *points(('set-parent', 'forget', 'commit-file', 'set-backing')),
        *points(('define', 'remove-file')),
        after_call(1, 'redefine'),
        after_call(2, 'redefine'),
        after('set-parent'),
        after('forget'),
        after('commit-file'),
        after('set-backing'),
    ),
    (
        after('set-parent'),
        after('forget'),
        after('commit-file'),
        after('set-backing'),
        after_call(2, 'redefine'),
    ),
)

#: Going back to a domain snapshot without memory, of a stopped guest.
REVERT_STOPPED = points(
    (
        *('make-file', 'name-file', 'define', 'redefine', 'start', 'destroy'),
        'remove-leftover',
    ),
    after('name-file'),
    after('define'),
    after('redefine'),
    after('start'),
)
#: To one with memory, of a guest that runs.
REVERT_RUNNING = points(
    (
        *('name-file', 'save-memory', 'define', 'redefine', 'restore-memory'),
        'remove-leftover',
    ),
    after('save-memory'),
    after('redefine'),
    after('restore-memory'),
)
#: Taking and going back to one of a stopped guest with UEFI and a TPM.  The
#: state is written a second time when libvirt has taken the domain snapshot.
KEEP_FIRMWARE = exhaustive.choose(
    (
        before('keep-firmware'),
        after_call(1, 'keep-firmware'),
        before('create-domain-snapshot'),
        after('create-domain-snapshot'),
        after_call(2, 'keep-firmware'),
    ),
    (after_call(1, 'keep-firmware'), after('create-domain-snapshot')),
)
SET_FIRMWARE = exhaustive.choose(
    (
        before('set-firmware'),
        after('set-firmware'),
        before('start'),
        after('start'),
    ),
    (after('set-firmware'),),
)
#: To an internal one.
REVERT_INTERNAL = points(
    ('create-domain-snapshot', 'revert-internal', 'delete-internal'),
    after('create-domain-snapshot'),
    after('revert-internal'),
)
