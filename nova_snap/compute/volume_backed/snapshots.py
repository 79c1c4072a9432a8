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

"""The snapshots of an instance's volumes: requested, awaited, deleted.

Open this file when a snapshot in Cinder is left behind, or is deleted though
it should stay.  Cinder chooses the id of a snapshot, so the journal can't have
the id before the snapshot exists.  The journal has the id of the image, which
is in the metadata of each snapshot, and the ids of the volumes.  By these the
snapshots are found, also after an answer was lost or the process was killed.
The requests are sent in ``requests.py``.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import time

from oslo_log import log as logging

from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap import undo
from nova_snap import waiting
from nova_snap.compute.volume_backed import record as volume_record
from nova_snap.compute.volume_backed import requests as volume_requests
from nova_snap.image import api as image_api
from nova_snap.volume import api as volume_api

LOG = logging.getLogger(__name__)

#: The key of the image's id in the metadata of a snapshot.
IMAGE_ID = 'nova_snap_image_id'

#: Seconds in which Cinder deletes a snapshot, even one still being created.
DELETE_TIMEOUT = 120

#: Seconds after which a request without an answer makes no snapshot any more.
SETTLE_TIMEOUT = 10


class VolumeSnapshots:
    """The snapshots of one image.

    :param attached: the volumes, in the order of the requests.
    :param instance_uuid: for the log.
    """

    def __init__(
        self,
        volumes: volume_api.VolumeService,
        attached: Sequence[volume_record.AttachedVolume],
        image: image_api.Image,
        instance_uuid: str,
    ) -> None:
        self._image = image
        self._volumes = volumes
        self._attached = attached
        self._made: list[volume_api.Snapshot] = []
        self._requests = volume_requests.Requests(
            [one.volume for one in attached],
            ask=self._ask,
            look=lambda snapshot: volumes.snapshot(snapshot.id, urgent=True),
            instance_uuid=instance_uuid,
        )

    @property
    def ids(self) -> list[str]:
        """Ids of the snapshots, in the order of the volumes."""
        return [snapshot.id for snapshot in self._made]

    def delete_step(self) -> 'DeleteSnapshots':
        """Return the step that deletes the snapshots of a failed image."""
        return DeleteSnapshots(
            image_id=self._image.id,
            volume_ids=[attached.volume.id for attached in self._attached],
            project_id=self._volumes.project_id(),
            settle=self._requests.settle,
        )

    def send(self) -> None:
        """Request all snapshots at once, and return."""
        self._requests.send(watch=False)

    def request(self, progress: progress_lib.Progress) -> None:
        """Request all snapshots at once and wait; the first error is raised.

        :raises NovaSnapError: as the volume service does.
        """
        self.send()
        self._requests.wait_until_answered(progress)

    def request_until_taken(
        self, deadline: float, progress: progress_lib.Progress
    ) -> bool:
        """Request all snapshots while a guest is frozen, and wait for them.

        Return True if all were taken before the deadline.

        :param deadline: a time of the monotonic clock;
            :meth:`wait_until_available` waits for later answers.
        :raises NovaSnapError: as the volume service does.
        """
        self._requests.send(watch=True)
        return self._requests.wait_until_taken(deadline, progress)

    def _ask(self, volume: volume_api.Volume) -> volume_api.Snapshot:
        return self._volumes.create_snapshot(
            volume.id,
            f'snapshot for {self._image.name}',
            volume.description,
            {IMAGE_ID: self._image.id},
        )

    def wait_until_available(
        self, timeout: float, progress: progress_lib.Progress
    ) -> None:
        """Wait until all snapshots are available.

        :param timeout: seconds after the last answer.
        :raises VolumeSnapshotFailed: a snapshot is in error, or not
            available in time.
        """
        self._requests.wait_until_answered(progress)
        self._made = self._requests.snapshots
        self._wait(timeout, progress)
        for snapshot in self._made:
            if snapshot.status != volume_api.SnapshotStatus.AVAILABLE:
                raise exception.VolumeSnapshotFailed(
                    snapshot_id=snapshot.id,
                    volume_id=snapshot.volume_id,
                    reason=self._failure(snapshot, timeout),
                )

    def _wait(self, timeout: float, progress: progress_lib.Progress) -> None:
        for _poll in waiting.polls(timeout, progress):
            self._made = [self._look_at(made) for made in self._made]
            if not any(map(volume_requests.is_creating, self._made)):
                return

    def _look_at(self, snapshot: volume_api.Snapshot) -> volume_api.Snapshot:
        if not volume_requests.is_creating(snapshot):
            return snapshot
        return self._volumes.snapshot(snapshot.id)

    def _failure(self, snapshot: volume_api.Snapshot, timeout: float) -> str:
        if volume_requests.is_creating(snapshot):
            return (
                f'Cinder has not made it in {timeout:.0f} s ([cinder] '
                'snapshot_timeout); see whether cinder-volume runs.'
            )
        reason = self._volumes.failure(snapshot.id)
        return (
            f'it is in status {snapshot.status!r} '
            f'({reason or "Cinder does not say why; see its log"}).'
        )


@dataclasses.dataclass(frozen=True)
class DeleteSnapshots(undo.Step, kind='delete the volume snapshots'):
    """Delete the snapshots of an image that is not active.

    :ivar volume_ids: the volumes that may have a snapshot.
    :ivar project_id: the project of the snapshots; None in the journal of an
        earlier release.
    :ivar settle: waits for the answers to the requests, and returns the ids
        of the volumes whose answer did not come.  Only the process that sent
        the requests has it; after a crash, any volume may still get a
        snapshot.
    """

    image_id: str
    volume_ids: Sequence[str]
    project_id: str | None = None
    settle: Callable[[], set[str]] | None = dataclasses.field(
        default=None, compare=False, repr=False, metadata=undo.VOLATILE
    )

    # A snapshot that is left does not keep the next operation from running.
    is_blocking = False

    def undo(self, resources: undo.Resources) -> None:
        """Delete the snapshots, unless the image is active and needs them.

        :raises VolumeNotPermitted: the login is to another project.
        :raises VolumeSnapshotFailed: a snapshot could not be deleted.
        """
        if self._is_active(resources.get(image_api.ImageService)):
            return
        volumes = resources.get(volume_api.VolumeService)
        self._require_project(volumes)
        unseen = self.settle() if self.settle else set(self.volume_ids)
        began = time.monotonic()
        while True:
            left = self._left(volumes)
            for snapshot in left:
                delete_if_possible(volumes, snapshot)
                unseen.discard(snapshot.volume_id)
            waited = time.monotonic() - began
            if not left and (not unseen or waited >= SETTLE_TIMEOUT):
                return
            if left and waited > DELETE_TIMEOUT:
                _raise_left(left[0])
            time.sleep(progress_lib.POLL_INTERVAL)

    def _require_project(self, volumes: volume_api.VolumeService) -> None:
        """Raise if the login is to another project.

        Cinder lists the snapshots of the login's project only, so those of
        another would look as if they were deleted.
        """
        ours = volumes.project_id()
        if self.project_id not in (None, ours):
            raise exception.VolumeNotPermitted(
                reason=f'the snapshots for image {self.image_id} are in '
                f'project {self.project_id}, and the login in [cinder] is to '
                f'project {ours}; recover with a login to the former.'
            )

    def _left(
        self, volumes: volume_api.VolumeService
    ) -> list[volume_api.Snapshot]:
        return [
            snapshot
            for volume_id in self.volume_ids
            for snapshot in volumes.snapshots(
                volume_id, {IMAGE_ID: self.image_id}
            )
        ]

    def _is_active(self, images: image_api.ImageService) -> bool:
        try:
            image = images.get(self.image_id)
        except exception.ImageNotFound:
            return False
        return image.status == image_api.ImageStatus.ACTIVE


def delete_if_possible(
    volumes: volume_api.VolumeService, snapshot: volume_api.Snapshot
) -> None:
    """Ask Cinder to delete a snapshot, if the snapshot's status allows it.

    :raises VolumeSnapshotFailed: Cinder has failed to delete the snapshot.
    """
    match snapshot.status:
        case (
            volume_api.SnapshotStatus.AVAILABLE
            | volume_api.SnapshotStatus.ERROR
        ):
            LOG.info('Deleting volume snapshot %s.', snapshot.id)
            try:
                volumes.delete_snapshot(snapshot.id)
            except exception.VolumeConflict as error:
                # The status has changed; the caller reads it again.
                LOG.debug('%s', error)
        case volume_api.SnapshotStatus.ERROR_DELETING:
            _raise_left(snapshot)


def _raise_left(snapshot: volume_api.Snapshot) -> None:
    raise exception.VolumeSnapshotFailed(
        snapshot_id=snapshot.id,
        volume_id=snapshot.volume_id,
        reason=f'it cannot be deleted, since it is in status '
        f'{snapshot.status!r}.',
    )
