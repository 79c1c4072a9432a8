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


"""The pipeline inside Ceph: the image is a clone of the root disk.

No byte of the disk passes through this host.  The image shows the moment of
the snapshot; the guest, if it runs, is only frozen for that moment.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import urllib.parse
import uuid

from oslo_utils import units

from nova_snap import exception
from nova_snap import journal
from nova_snap.virt import decision
from nova_snap.virt import driver
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import quiesce as quiesce_lib
from nova_snap.virt.libvirt import rbd_steps
from nova_snap.virt.storage import disk_source as storage
from nova_snap.virt.storage import raw_content
from nova_snap.virt.storage import rbd

#: Bytes that are read of a disk: all headers of formats are in them.
HEADER_SIZE = 256 * units.Ki


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of images inside Ceph.

    ``pool`` is Glance's, None if there is none; ``user`` and ``secret``, the
    uuid of a libvirt secret, are for disks whose definition names no user.
    """

    pool: str | None = None
    flatten: rbd_steps.Flatten = rbd_steps.Flatten.TASK
    user: str | None = None
    secret: str | None = None


def size(guest: guest_lib.Guest, disk: storage.RbdLocation) -> int:
    """Return the size of a disk in bytes."""
    with rbd_steps.connected(guest.host, disk) as ceph:
        return ceph.size(disk)


def problem(
    guest: guest_lib.Guest, disk: storage.RbdLocation, pool: str
) -> str | None:
    """Return why Glance's pool can't be used, or None."""
    try:
        with rbd_steps.connected(guest.host, disk) as ceph:
            ceph.require_writable(pool)
    except (exception.CephError, exception.HypervisorError) as error:
        return str(error)
    return None


@contextlib.contextmanager
def extracted(
    guest: guest_lib.Guest,
    disk: storage.RbdLocation,
    quiesce: quiesce_lib.Quiesce,
    operation: driver.Operation,
    options: Options,
) -> Iterator[driver.Location]:
    """Clone the root disk into Glance's pool, and yield the location.

    :raises MethodUnavailable: a step failed, or the operation has no record
        that could get a location; the disk can be read another way.
    :raises QuiesceNotPossible: freezing is required and failed.
    """
    record = operation.record
    if record is None or options.pool is None:
        raise _unavailable('the data is wanted, and not a place in Ceph.')
    entry = operation.entry
    snapshot = f'nova_snap-{uuid.uuid4()}'
    # Not named after the record: if that is filled another way, Glance's own
    # RBD image has this name, and must not be taken for ours.
    image = dataclasses.replace(
        disk, pool=options.pool, image=f'nova_snap-{uuid.uuid4()}'
    )
    outcome = rbd_steps.Outcome()
    with (
        _failure_translated(),
        rbd_steps.connected(guest.host, disk) as ceph,
        entry.undoing(
            rbd_steps.RemoveSnapshot(dataclasses.asdict(disk), snapshot)
        ),
    ):
        with quiesce_lib.quiesced(guest, quiesce, entry):
            ceph.create_snapshot(disk, snapshot)
        raw_content.require(ceph.read(disk, snapshot, HEADER_SIZE))
        settling = rbd_steps.SettleImage(
            dataclasses.asdict(image),
            record.image_id,
            record.owner,
            options.flatten,
            outcome,
        )
        with (
            entry.undoing(settling),
            _removed_unless_given(entry, image, outcome),
        ):
            operation.progress.check()
            ceph.clone(disk, snapshot, image)
            if options.flatten.is_first:
                rbd_steps.flatten(
                    ceph, image, options.flatten, operation.progress
                )
            ceph.offer(image)
            location = driver.Location(_url(ceph.fsid(), image))
            outcome.is_given = True
            yield location


@contextlib.contextmanager
def _removed_unless_given(
    entry: journal.Entry,
    image: storage.RbdLocation,
    outcome: rbd_steps.Outcome,
) -> Iterator[None]:
    """Remove an image whose location nobody has, if the block fails.

    Its record stays, to be filled another way.
    """
    try:
        yield
    except BaseException as error:
        is_refused = isinstance(error, exception.MethodUnavailable)
        if outcome.is_given and not is_refused:
            raise
        with entry.undoing(rbd_steps.RemoveImage(dataclasses.asdict(image))):
            outcome.is_given = False
            raise


def _url(fsid: str, image: storage.RbdLocation) -> str:
    """Return the location as Glance's rbd store has it."""
    parts = (fsid, image.pool, image.image, rbd.GLANCE_SNAPSHOT)
    return 'rbd://' + '/'.join(urllib.parse.quote(part, '') for part in parts)


@contextlib.contextmanager
def _failure_translated() -> Iterator[None]:
    """Translate failures before anything of the guest was changed.

    :raises MethodUnavailable: the disk can be read another way.
    """
    try:
        yield
    except (exception.CephError, raw_content.NotRaw) as error:
        raise _unavailable(error) from error


def _unavailable(reason: object) -> exception.MethodUnavailable:
    return exception.MethodUnavailable(
        method=decision.Method.RBD_DIRECT, reason=reason
    )
