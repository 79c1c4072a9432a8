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


"""The undo steps of an image that is made inside Ceph.

Open this file for what becomes of an RBD image whose snapshot ended or was
killed.  The steps hold names only; the key of the user is asked of libvirt.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
import enum
from typing import Any

from oslo_log import log as logging

from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap import undo
from nova_snap import waiting
from nova_snap.virt import driver
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import host as host_lib
from nova_snap.virt.storage import disk_source as storage
from nova_snap.virt.storage import rbd

LOG = logging.getLogger(__name__)

#: Seconds in which the manager has to copy some more of an image; it has one
#: task at a time, for the whole cluster.
STALL_TIMEOUT = 600


class Flatten(enum.StrEnum):
    """Who copies the data of the disk to the image, and when."""

    TASK = 'task'
    CLIENT = 'client'
    LATER = 'later'
    NEVER = 'never'

    @property
    def is_first(self) -> bool:
        """True if the image is active only when it has its own data."""
        return self in (self.TASK, self.CLIENT)


def flatten(
    ceph: rbd.Ceph,
    image: storage.RbdLocation,
    how: str,
    progress: progress_lib.Progress | None = None,
) -> None:
    """Give an image its own data, by Ceph's manager or by this host.

    :param how: a value of :class:`Flatten`.
    :param progress: None in undo steps, which nothing may cancel.
    :raises CephError: it fails, or nothing more is copied.
    :raises SnapshotCancelled: the operation was cancelled.
    """
    size = ceph.size(image)

    def report(share: float) -> None:
        if progress is not None:
            stage = progress_lib.Stage.COPYING
            progress.report(stage, int(share * size), size)

    if how == Flatten.CLIENT or not _is_task_taken(ceph, image):
        ceph.flatten(image, report)
        return
    done = 0.0
    while True:
        for _poll in waiting.polls(STALL_TIMEOUT, progress):
            share = ceph.flatten_progress(image)
            # To open the image at each poll would be most of the traffic.
            if share is None and not ceph.has_parent(image):
                return
            before, done = done, share or done
            report(done)
            if done > before:
                break
        else:
            raise exception.CephError(
                action=f'flatten {image.pool}/{image.image} in time',
                reason='see "rbd task list"; until then the root disk cannot '
                'be removed.',
            )


def _is_task_taken(ceph: rbd.Ceph, image: storage.RbdLocation) -> bool:
    try:
        ceph.start_flatten(image)
    except exception.CephError as error:
        LOG.warning(
            'This host copies the data of image %(image)s: %(error)s',
            {'image': image.image, 'error': error},
        )
        return False
    return True


def connected(
    host: host_lib.Host, location: storage.RbdLocation
) -> contextlib.AbstractContextManager[rbd.Ceph]:
    """Connect to the cluster of an image, with the key that libvirt has.

    :raises CephError: there is no connection.
    :raises HypervisorError: libvirt does not show the secret.
    """
    key = host.secret(location.secret) if location.secret else None
    return rbd.connected(location, key)


@dataclasses.dataclass(frozen=True)
class _CephStep(undo.Step):
    """A step about an image in Ceph.

    :ivar location: fields of :class:`.disk_source.RbdLocation`.
    """

    location: Mapping[str, Any]

    # What is left takes space, but the next operation may run.
    is_blocking = False

    @property
    def image(self) -> storage.RbdLocation:
        """The location of the image."""
        return storage.RbdLocation.from_data(self.location)

    @contextlib.contextmanager
    def connected(self, resources: undo.Resources) -> Iterator[rbd.Ceph]:
        """Connect to the cluster."""
        host = resources.get(guest_lib.Guest).host
        with connected(host, self.image) as ceph:
            yield ceph


@dataclasses.dataclass(frozen=True)
class RemoveSnapshot(_CephStep, kind='remove the snapshot of the RBD image'):
    """Remove the snapshot of a root disk that an image was cloned from."""

    snapshot: str

    def undo(self, resources: undo.Resources) -> None:
        """Remove the snapshot, or let Ceph do so when its clone is gone."""
        with self.connected(resources) as ceph:
            ceph.remove_snapshot(self.image, self.snapshot)


@dataclasses.dataclass(frozen=True)
class RemoveImage(_CephStep, kind='remove the RBD image'):
    """Remove an RBD image that is known to be in no image record."""

    def undo(self, resources: undo.Resources) -> None:
        """Remove the image, if it exists."""
        with self.connected(resources) as ceph:
            ceph.remove_image(self.image)


@dataclasses.dataclass
class Outcome:
    """What the running process knows of an RBD image.

    :ivar is_given: the image service may have its location.
    """

    is_given: bool = False


@dataclasses.dataclass(frozen=True)
class SettleImage(_CephStep, kind='remove or flatten the RBD image'):
    """Remove an RBD image, or flatten it if it is in an active image.

    :ivar image_id: the record that gets the location.
    :ivar owner: the project of the record, if it is known.
    :ivar flatten: a value of :class:`Flatten`.
    :ivar outcome: only the process that made the image has it.
    """

    image_id: str
    owner: str | None
    flatten: str
    outcome: Outcome | None = dataclasses.field(
        default=None, compare=False, repr=False, metadata=undo.VOLATILE
    )

    def undo(self, resources: undo.Resources) -> None:
        """Remove the image unless the image service has it.

        :raises NovaSnapError: whether it has is not known.
        """
        if self.outcome and not self.outcome.is_given:
            return  # RemoveImage has removed it, or is in the journal
        record = driver.Record(
            self.image_id, self.owner, is_seen=self.outcome is not None
        )
        is_used = resources.get(driver.Records).settle(record)
        with self.connected(resources) as ceph:
            if not is_used:
                ceph.remove_image(self.image)
            elif self.flatten == Flatten.LATER and ceph.has_parent(self.image):
                flatten(ceph, self.image, self.flatten)
