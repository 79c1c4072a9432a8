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

"""The interface of volume services, which ``cinder.py`` implements.

Open this file to see which calls of Cinder the project uses.  The terms are
Cinder's: https://docs.openstack.org/api-ref/block-storage/v3/
"""

import abc
from collections.abc import Mapping
import dataclasses
import enum


class SnapshotStatus(enum.StrEnum):
    """A status of a snapshot in Cinder; only those that this project uses."""

    CREATING = 'creating'
    AVAILABLE = 'available'
    DELETING = 'deleting'
    ERROR = 'error'
    ERROR_DELETING = 'error_deleting'


@dataclasses.dataclass(frozen=True)
class Volume:
    """A volume; ``size`` is in GiB.

    ``image_metadata`` has the properties and fields of the image that the
    volume was made from, all as strings.
    """

    id: str
    name: str
    description: str | None
    status: str
    size: int
    snapshot_id: str | None = None
    image_metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A snapshot of a volume; ``metadata`` was given at its creation.

    ``project_id`` is None if the service does not tell it to this login.
    """

    id: str
    volume_id: str
    status: str
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    project_id: str | None = None


@dataclasses.dataclass(frozen=True)
class SnapshotQuota:
    """Number of snapshots that the project has, and limit (None: none)."""

    used: int
    limit: int | None

    def has_room_for(self, count: int) -> bool:
        """Return True if so many more snapshots are allowed."""
        return self.limit is None or self.used + count <= self.limit


class VolumeService(abc.ABC):
    """A service that stores volumes.

    Every method raises, besides the errors that it names:

    * :class:`~nova_snap.exception.VolumeNotPermitted`: not logged in, or not
      allowed;
    * :class:`~nova_snap.exception.VolumeServiceUnavailable`: no answer, or
      an invalid one, after the configured number of retries;
    * :class:`~nova_snap.exception.VolumeRejected`: the service rejects the
      request.
    """

    @abc.abstractmethod
    def volume(self, volume_id: str) -> Volume:
        """Return the volume as it is now.

        :raises VolumeNotFound: the volume does not exist.
        """

    @abc.abstractmethod
    def volumes_of_snapshot(self, snapshot_id: str) -> list[Volume]:
        """Return the volumes that were made from a snapshot.

        An administrator gets those of all projects, any other user those of
        the own project.
        """

    @abc.abstractmethod
    def project_id(self) -> str | None:
        """Return the project of the login; None without a login."""

    @abc.abstractmethod
    def snapshot_quota(self) -> SnapshotQuota:
        """Return the quota of the project of the login."""

    @abc.abstractmethod
    def create_snapshot(
        self,
        volume_id: str,
        name: str,
        description: str | None,
        metadata: Mapping[str, str],
    ) -> Snapshot:
        """Request a snapshot, also of a volume that is in use.

        This method returns before the snapshot is taken.  The request is
        never retried and has a shorter timeout than others, since a guest is
        frozen meanwhile.  After a VolumeServiceUnavailable the service may
        still make the snapshot.

        :raises VolumeNotFound: the volume does not exist.
        :raises VolumeConflict: the volume's status does not allow snapshots.
        :raises VolumeQuotaExceeded: the project may have no more snapshots.
        """

    @abc.abstractmethod
    def snapshot(self, snapshot_id: str, urgent: bool = False) -> Snapshot:
        """Return the snapshot as it is now.

        :param urgent: a guest is frozen: do not retry, and use the short
            timeout.
        :raises VolumeSnapshotNotFound: the snapshot does not exist.
        """

    @abc.abstractmethod
    def snapshots(
        self, volume_id: str, metadata: Mapping[str, str]
    ) -> list[Snapshot]:
        """Return the snapshots of a volume that have this metadata."""

    @abc.abstractmethod
    def failure(self, snapshot_id: str) -> str | None:
        """Return why a snapshot is in error, if the service says so."""

    @abc.abstractmethod
    def delete_snapshot(self, snapshot_id: str) -> None:
        """Request that a snapshot be deleted, if it still exists.

        This method returns before the snapshot is deleted.

        :raises VolumeConflict: the snapshot's status does not allow it.
        """
