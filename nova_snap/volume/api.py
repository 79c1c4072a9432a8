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

"""What a volume service offers: the interface of ``cinder.py``.

Open this file to see what of Cinder the project uses at all.  The words are
Cinder's: https://docs.openstack.org/api-ref/block-storage/v3/
"""

import abc
from collections.abc import Mapping
import dataclasses
import enum


class SnapshotStatus(enum.StrEnum):
    """Cinder's states of a snapshot, those that matter here."""

    CREATING = 'creating'
    AVAILABLE = 'available'
    DELETING = 'deleting'
    ERROR = 'error'
    ERROR_DELETING = 'error_deleting'


@dataclasses.dataclass(frozen=True)
class Volume:
    """A volume; ``size`` is in GiB.

    ``image_metadata`` is what it keeps of the image that it was made from,
    properties and fields together; all of it are strings.
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
    """A snapshot of a volume; ``metadata`` is what its maker wrote on it.

    ``project_id`` is None where the service does not tell this login.
    """

    id: str
    volume_id: str
    status: str
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    project_id: str | None = None


@dataclasses.dataclass(frozen=True)
class SnapshotQuota:
    """How many snapshots the project has, and may have (None: any number)."""

    used: int
    limit: int | None

    def has_room_for(self, count: int) -> bool:
        """Whether so many more are allowed."""
        return self.limit is None or self.used + count <= self.limit


class VolumeService(abc.ABC):
    """A place where volumes are.

    Every method raises, besides what it names:

    * :class:`~nova_snap.exception.VolumeNotPermitted`: not logged in, or not
      allowed;
    * :class:`~nova_snap.exception.VolumeServiceUnavailable`: no answer, or
      none that means anything, after as many tries as are configured;
    * :class:`~nova_snap.exception.VolumeRejected`: the request is not one
      that the service takes.
    """

    @abc.abstractmethod
    def volume(self, volume_id: str) -> Volume:
        """The volume as it is now.

        :raises VolumeNotFound: there is none.
        """

    @abc.abstractmethod
    def volumes_of_snapshot(self, snapshot_id: str) -> list[Volume]:
        """The volumes that were made from a snapshot.

        Those of every project for an administrator, else of this one.
        """

    @abc.abstractmethod
    def project_id(self) -> str | None:
        """The project that is logged in to; None where there is no login."""

    @abc.abstractmethod
    def snapshot_quota(self) -> SnapshotQuota:
        """The quota of the project that is logged in to."""

    @abc.abstractmethod
    def create_snapshot(
        self,
        volume_id: str,
        name: str,
        description: str | None,
        metadata: Mapping[str, str],
    ) -> Snapshot:
        """Ask for a snapshot, also of a volume that is in use.

        Returns when it is asked for, before it is taken.  Is never repeated,
        and does not wait as long as other requests do: a guest is frozen.
        After a VolumeServiceUnavailable the snapshot may come to exist.

        :raises VolumeNotFound: there is no such volume.
        :raises VolumeConflict: the volume is in no state for it.
        :raises VolumeQuotaExceeded: the project may have no more.
        """

    @abc.abstractmethod
    def snapshot(self, snapshot_id: str, urgent: bool = False) -> Snapshot:
        """The snapshot as it is now.

        :param urgent: a guest is frozen: try once, and wait less long.

        :raises VolumeSnapshotNotFound: there is none.
        """

    @abc.abstractmethod
    def snapshots(
        self, volume_id: str, metadata: Mapping[str, str]
    ) -> list[Snapshot]:
        """The snapshots of a volume that have this metadata."""

    @abc.abstractmethod
    def failure(self, snapshot_id: str) -> str | None:
        """Why a snapshot is in error, where the service says so."""

    @abc.abstractmethod
    def delete_snapshot(self, snapshot_id: str) -> None:
        """Ask that it be deleted; one that is gone is fine.

        Returns when it is asked for, before it is gone.

        :raises VolumeConflict: it is in no state for it.
        """
