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

"""Backups: images of which only some are kept, by their age.

https://docs.openstack.org/api-ref/compute/#create-server-back-up-createbackup-action
Open this file when a backup is deleted that should stay, or stays though it
should be deleted.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import datetime

from oslo_log import log as logging
from oslo_utils import timeutils

from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap.compute import image_deletion
from nova_snap.compute import image_set_deletion
from nova_snap.compute import image_set_members
from nova_snap.compute import manager as manager_lib
from nova_snap.image import api as image_api
from nova_snap.objects import instance as instance_lib
from nova_snap.volume import api as volume_api

LOG = logging.getLogger(__name__)

#: Where an image service does not say when an image was made.
UNKNOWN = '1970-01-01T00:00:00Z'

#: How strftime() writes a period in which the latest backup is kept.
_PERIODS = {'daily': '%Y-%m-%d', 'weekly': '%G-W%V', 'monthly': '%Y-%m'}


def properties(backup_type: str) -> Mapping[str, str]:
    """Return the properties by which an image is a backup of a type."""
    return {'image_type': 'backup', 'backup_type': backup_type}


@dataclasses.dataclass(frozen=True)
class Retention:
    """Which backups are kept: those that at least one of the rules keeps.

    :ivar latest: so many of the latest are kept.
    :ivar daily: so many days, of which the latest backup is kept; days
        without a backup do not count.  ``weekly`` and ``monthly`` are the
        same for weeks (ISO 8601) and months.  All are those of UTC.
    """

    latest: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0

    def rules(
        self, times: Sequence[datetime.datetime]
    ) -> list[tuple[str, ...]]:
        """Return the names of the rules that keep each of some backups.

        :param times: when they were made, the latest first.
        """
        names: list[list[str]] = [[] for _time in times]
        for kept in names[: self.latest]:
            kept.append('latest')
        for rule, form in _PERIODS.items():
            wanted: int = getattr(self, rule)
            seen: set[str] = set()
            for time, kept in zip(times, names, strict=True):
                period = time.strftime(form)
                if period not in seen and len(seen) < wanted:
                    seen.add(period)
                    kept.append(rule)
        return [tuple(kept) for kept in names]


@dataclasses.dataclass(frozen=True)
class Judged:
    """A backup, with the rules that keep it; none: it is to be deleted."""

    image: image_api.Image
    rules: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a backup.

    :ivar hindrance: why it still exists though no rule keeps it, or ''.
    """

    backup: Judged
    hindrance: str


@dataclasses.dataclass(frozen=True)
class Series:
    """The backups of one type of an instance.

    Only those of the same project count.  They are counted when a new one is
    active, so that one that fails deletes none.
    """

    images: image_api.ImageService
    instance_uuid: str
    backup_type: str
    retention: Retention

    def judged(self, latest: image_api.Image) -> list[Judged]:
        """Return what becomes of each backup, the latest first.

        :param latest: the new one.  Of others that were created in the same
            second it is the latest, whatever the image service says.
        """
        others = [
            image
            for image in self._found()
            # Anybody can write these properties into an image of their own
            # project.
            if image.owner == latest.owner and image.id != latest.id
        ]
        others.sort(key=_created, reverse=True)
        found = [latest, *others]
        rules = self.retention.rules([_created(image) for image in found])
        return [Judged(*pair) for pair in zip(found, rules, strict=True)]

    def imagined(self, name: str) -> image_api.Image:
        """Return the record of a backup as it would be made now.

        It is taken to belong to the project of the latest that exists.
        """
        owners = (image.owner for image in self._found())
        return image_api.Image(
            id='',
            name=name,
            status=image_api.ImageStatus.QUEUED,
            owner=next(owners, None),
            created_at=timeutils.utcnow().isoformat(timespec='seconds') + 'Z',
        )

    def rotate(
        self,
        latest: image_api.Image,
        volumes: volume_api.VolumeService | None = None,
    ) -> list[Outcome]:
        """Delete the backups that no rule keeps; return what became of each.

        One that can't be deleted is logged: the new backup is a success all
        the same.

        :param volumes: deletes the snapshots, too, that backups name.
        """
        return [
            Outcome(backup, self._deleted(backup, volumes))
            for backup in self.judged(latest)
        ]

    def _found(self) -> list[image_api.Image]:
        """Return the active ones whose age is known."""
        wanted = {
            'instance_uuid': self.instance_uuid,
            **properties(self.backup_type),
        }
        return [
            image
            for image in self.images.list(**wanted)
            if image.status == image_api.ImageStatus.ACTIVE
            and image.created_at
        ]

    def _deleted(
        self, backup: Judged, volumes: volume_api.VolumeService | None
    ) -> str:
        """Delete a backup that no rule keeps; return why it still exists."""
        if backup.rules:
            return ''
        try:
            why = '; '.join(_hindrances(self.images, backup.image, volumes))
        except exception.NovaSnapError as error:
            why = str(error)
        if why:
            LOG.warning(
                'Backup %(image)s of server %(server)s should be deleted, but '
                'is not: %(why)s',
                {
                    'image': backup.image.id,
                    'server': self.instance_uuid,
                    'why': why,
                },
                instance_uuid=self.instance_uuid,
            )
        return why


def take(
    manager: manager_lib.SnapshotManager,
    series: Series,
    instance: instance_lib.Instance,
    name: str,
    volumes: volume_api.VolumeService | None,
    progress: progress_lib.Progress,
) -> list[Outcome]:
    """Take a backup, and delete the backups that no rule keeps.

    Return what became of each, the new one first.

    :param name: of the image.
    :raises NovaSnapError: as snapshot_instance(); no backup was deleted.
    :raises SnapshotFailed: the backup is made, but it is not known which
        others there are.
    """
    latest, *_further = manager.snapshot_instance(
        instance,
        name,
        {},
        series.images,
        progress,
        own=properties(series.backup_type),
    )
    try:
        return series.rotate(latest, volumes)
    except exception.NovaSnapError as error:
        raise exception.SnapshotFailed(
            f'Backup {latest.id} is made, and complete; older ones are left '
            f'to the next backup: {error}'
        ) from error


def _created(image: image_api.Image) -> datetime.datetime:
    return timeutils.parse_isotime(image.created_at or UNKNOWN)


def _hindrances(
    images: image_api.ImageService,
    image: image_api.Image,
    volumes: volume_api.VolumeService | None,
) -> Iterator[str]:
    """Delete an image, or all of its set; yield why something stays."""
    members = None
    if image_set_members.claims(image):
        find = image_set_members.in_service(images)
        members = image_set_members.of_image(find, image)
    if members is not None and members.root.id == image.id:
        for one in image_set_deletion.delete(images, members, volumes):
            if one.stays:
                yield f'{one.kind} {one.id}: {one.text}'
    elif volumes is not None:
        for snapshot in image_deletion.delete(images, volumes, image):
            if snapshot.stays:
                yield f'snapshot {snapshot.snapshot_id}: {snapshot.text}'
    else:
        images.delete(image.id)
