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

"""Deletion of an image and of the volume snapshots that it names.

Open this file when a volume snapshot is left that should be deleted, or is
deleted though it should stay.
"""

from collections.abc import Iterator
import dataclasses

from oslo_log import log as logging

from nova_snap import exception
from nova_snap import waiting
from nova_snap.compute.volume_backed import record as volume_record
from nova_snap.compute.volume_backed import snapshots as volume_snapshots
from nova_snap.image import api as image_api
from nova_snap.volume import api as volume_api

LOG = logging.getLogger(__name__)

DELETED = 'deleted'

#: Cinder answers 404 in both cases, so they can't be told apart.
NOT_FOUND = 'not found (deleted already, or hidden from this login)'


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Result of deleting one volume snapshot, as a person reads it.

    :ivar stays: True if the snapshot still exists, or may still exist.
    """

    snapshot_id: str
    text: str
    stays: bool = False


def delete(
    images: image_api.ImageService,
    volumes: volume_api.VolumeService,
    image: image_api.Image,
    timeout: float = volume_snapshots.DELETE_TIMEOUT,
) -> Iterator[Outcome]:
    """Delete the record, then each snapshot that it names.

    In this order, an interrupted deletion leaves snapshots without an image,
    and never an image that names deleted snapshots.  Only the record knows
    the ids of the snapshots, so afterwards each id is in an outcome, whatever
    Cinder answers, or in the log.

    :param timeout: seconds for each snapshot.
    :raises Invalid: the names of the snapshots can't be read; nothing was
        deleted.
    """
    snapshot_ids = volume_record.named_snapshots(image)
    names = {'image': image.id, 'ids': ', '.join(snapshot_ids)}
    LOG.info('Image %(image)s names the volume snapshots %(ids)s.', names)
    images.delete(image.id)
    try:
        for snapshot_id in snapshot_ids:
            yield _delete(volumes, image, snapshot_id, timeout)
    except BaseException:
        LOG.error(
            'Image %(image)s is deleted. Deleting its volume snapshots was '
            'interrupted; look for those that are left of %(ids)s.',
            names,
        )
        raise


def _delete(
    volumes: volume_api.VolumeService,
    image: image_api.Image,
    snapshot_id: str,
    timeout: float,
) -> Outcome:
    try:
        snapshot = volumes.snapshot(snapshot_id)
    except exception.VolumeSnapshotNotFound:
        return Outcome(snapshot_id, NOT_FOUND)
    except exception.NovaSnapError as error:
        return Outcome(snapshot_id, f'not asked for: {error}', stays=True)
    if _is_foreign(snapshot, image):
        return Outcome(
            snapshot_id,
            f'it belongs to {_project(snapshot.project_id)}, and the image to '
            f'{_project(image.owner)}',
            stays=True,
        )
    try:
        hindrance = _delete_unless_used(volumes, snapshot_id, timeout)
    except exception.NovaSnapError as error:
        hindrance = str(error)
    return Outcome(snapshot_id, hindrance or DELETED, stays=bool(hindrance))


def _is_foreign(snapshot: volume_api.Snapshot, image: image_api.Image) -> bool:
    """Return True if the snapshot may belong to another project.

    Anybody who may change an image may write any id into it, and the login of
    an administrator can delete the snapshots of all projects.  So one whose
    project is not known stays.
    """
    if snapshot.metadata.get(volume_snapshots.IMAGE_ID) == image.id:
        return False
    return image.owner is None or snapshot.project_id != image.owner


def _project(project_id: str | None) -> str:
    return f'project {project_id}' if project_id else 'an unknown project'


def _delete_unless_used(
    volumes: volume_api.VolumeService, snapshot_id: str, timeout: float
) -> str | None:
    """Delete a snapshot; return None, or the reason why it still exists."""
    users = volumes.volumes_of_snapshot(snapshot_id)
    if users:
        names = ', '.join(volume.id for volume in users)
        return f'in use by volume {names}'
    volumes.delete_snapshot(snapshot_id)
    return _wait(volumes, snapshot_id, timeout)


def _wait(
    volumes: volume_api.VolumeService, snapshot_id: str, timeout: float
) -> str | None:
    """Wait for the deletion; return None, or why the snapshot still exists."""
    for _poll in waiting.polls(timeout):
        try:
            status = volumes.snapshot(snapshot_id).status
        except exception.VolumeSnapshotNotFound:
            return None
        if status != volume_api.SnapshotStatus.DELETING:
            # Cinder sets it to "available" again when its backend fails.
            return f'Cinder did not delete it; it is {status}'
    return f'Cinder has not deleted it in {timeout:.0f} s'
