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


"""The pipeline inside Ceph: images are clones of the disks.

No byte of a disk passes through this host.  The image shows the moment of the
snapshot; the guest, if it runs, is only frozen for that moment.  Snapshots of
several disks are taken one after the other, so the guest has to be frozen
while they are, or shut off.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import urllib.parse
import uuid

from oslo_utils import units

from nova_snap import exception
from nova_snap import journal
from nova_snap import progress as progress_lib
from nova_snap.virt import decision
from nova_snap.virt import driver
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import quiesce as quiesce_lib
from nova_snap.virt.libvirt import rbd_steps
from nova_snap.virt.libvirt.extraction import context as context_lib
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
    targets: Sequence[context_lib.DiskToRead],
    quiesce: quiesce_lib.Quiesce,
    operation: driver.Operation,
    options: Options,
) -> Iterator[tuple[driver.DiskData, ...]]:
    """Clone disks into Glance's pool, and yield the location of each.

    :raises MethodUnavailable: a step failed, or the operation has no records
        that could get a location; the disks can be read another way.
    :raises QuiesceNotPossible: freezing is required and failed.
    """
    if operation.record is None or options.pool is None:
        raise _unavailable('the data is wanted, and not a place in Ceph.')
    records = (operation.record, *operation.further_records)
    with _failure_translated(), contextlib.ExitStack() as stack:
        disks = [
            stack.enter_context(_opened(guest, target, operation.entry))
            for target in targets
        ]
        with quiesce_lib.quiesced(
            guest, quiesce, operation.entry, operation.progress
        ) as frozen:
            for disk in disks:
                disk.take_snapshot()
            if len(disks) > 1:
                _require_still(guest, frozen)
        yield tuple(
            stack.enter_context(disk.cloned(record, operation, options))
            for disk, record in zip(disks, records, strict=True)
        )


@contextlib.contextmanager
def _opened(
    guest: guest_lib.Guest,
    target: context_lib.DiskToRead,
    entry: journal.Entry,
) -> Iterator['_Disk']:
    """Connect to the cluster of a disk; remove its snapshot in the end."""
    location = target.disk.source.location
    if not isinstance(location, storage.RbdLocation):
        raise _unavailable(f'disk {target.disk.device} is not in Ceph.')
    snapshot = f'nova_snap-{uuid.uuid4()}'
    step = rbd_steps.RemoveSnapshot(dataclasses.asdict(location), snapshot)
    with (
        rbd_steps.connected(guest.host, location) as ceph,
        entry.undoing(step),
    ):
        yield _Disk(ceph, location, snapshot, target.progress)


def _require_still(guest: guest_lib.Guest, frozen: bool) -> None:
    """Raise MethodUnavailable unless snapshots are as of one moment.

    Called after the last of them, and before the guest is thawed: another
    program may have thawed the guest, or started it.
    """
    if frozen:
        try:
            is_still = guest.is_frozen()
        except exception.HypervisorError:
            is_still = False
    else:
        is_still = not guest.power_state().is_active
    if not is_still:
        raise _unavailable(
            'the guest was not frozen while snapshots of several disks were '
            'taken.'
        )


@dataclasses.dataclass(frozen=True)
class _Disk:
    """A disk that an image is made of.

    :ivar snapshot: the name of that which the image is cloned from.
    :ivar progress: of this disk.
    """

    ceph: rbd.Ceph
    location: storage.RbdLocation
    snapshot: str
    progress: progress_lib.Progress

    def take_snapshot(self) -> None:
        """Take the snapshot."""
        self.ceph.create_snapshot(self.location, self.snapshot)

    @contextlib.contextmanager
    def cloned(
        self,
        record: driver.Record,
        operation: driver.Operation,
        options: Options,
    ) -> Iterator[driver.DiskData]:
        """Make the image, for a block that gives its location to a record."""
        ceph, entry = self.ceph, operation.entry
        raw_content.require(
            ceph.read(self.location, self.snapshot, HEADER_SIZE)
        )
        # Not named after the record: if that is filled another way, Glance's
        # own RBD image has this name, and must not be taken for ours.
        image = dataclasses.replace(
            self.location,
            pool=options.pool or '',
            image=f'nova_snap-{uuid.uuid4()}',
        )
        outcome = rbd_steps.Outcome()
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
            ceph.clone(self.location, self.snapshot, image)
            if options.flatten.is_first:
                rbd_steps.flatten(ceph, image, options.flatten, self.progress)
            ceph.offer(image)
            yield _given(_url(ceph.fsid(), image), outcome)


@contextlib.contextmanager
def _given(url: str, outcome: rbd_steps.Outcome) -> Iterator[driver.Location]:
    """Yield a location, which the image service may have from then on."""
    outcome.is_given = True
    yield driver.Location(url)


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
