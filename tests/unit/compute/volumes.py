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

"""Volumes in memory: a double, since Cinder's faults have to come at will."""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import itertools

from nova_snap import exception
from nova_snap.objects import instance as instance_lib
from nova_snap.volume import api

ROOT = '11111111-1b7a-4f4e-9d0e-52f6a7f2f2a9'
DATA = '22222222-1b7a-4f4e-9d0e-52f6a7f2f2a9'

#: What Cinder keeps of the root volume's image.
IMAGE = {
    'image_id': '33333333-1b7a-4f4e-9d0e-52f6a7f2f2a9',
    'image_name': 'base',
    'checksum': 'of the image',
    'container_format': 'bare',
    'disk_format': 'qcow2',
    'size': '1000',
    'min_disk': '3',
    'min_ram': '64',
    'hw_disk_bus': 'scsi',
    'img_signature': 'of the image',
}


def device(
    name: str = 'vda', volume_id: str | None = ROOT, in_file: bool = False
) -> instance_lib.BlockDevice:
    """Make a disk of an instance."""
    return instance_lib.BlockDevice(name, 'virtio', 'disk', volume_id, in_file)


def volume(volume_id: str = ROOT, **fields: object) -> api.Volume:
    """Make a volume that is in use."""
    known = {'name': 'root', 'description': 'why', 'size': 5}
    return api.Volume(id=volume_id, status='in-use', **{**known, **fields})  # type: ignore[arg-type]


class MemoryVolumes(api.VolumeService):
    """Snapshots become ``available`` after ``looks`` looks at each.

    ``on_create`` is called with a volume's id before its snapshot is made,
    ``after_create`` behind that; either may raise.
    """

    def __init__(self) -> None:
        self.volumes = {
            ROOT: volume(image_metadata=IMAGE),
            DATA: volume(DATA, name='data', description=None, size=7),
        }
        self.made: dict[str, api.Snapshot] = {}
        self.names: list[str] = []
        self.quota = api.SnapshotQuota(used=0, limit=None)
        self.looks = 2
        self.end = api.SnapshotStatus.AVAILABLE
        self.events: list[str] = []
        self.on_create: Callable[[str], None] = lambda volume_id: None
        self.after_create: Callable[[str], None] = lambda volume_id: None
        self.reason: str | None = 'no room'
        self.project: str | None = 'ours'
        self._numbers = itertools.count(1)
        self._seen: dict[str, int] = {}

    def volume(self, volume_id: str) -> api.Volume:
        if volume_id not in self.volumes:
            raise exception.VolumeNotFound(volume_id=volume_id)
        return self.volumes[volume_id]

    def volumes_of_snapshot(self, snapshot_id: str) -> list[api.Volume]:
        return [
            v for v in self.volumes.values() if v.snapshot_id == snapshot_id
        ]

    def project_id(self) -> str | None:
        return self.project

    def snapshot_quota(self) -> api.SnapshotQuota:
        return self.quota

    def create_snapshot(
        self,
        volume_id: str,
        name: str,
        description: str | None,
        metadata: Mapping[str, str],
    ) -> api.Snapshot:
        self.on_create(volume_id)
        self.events.append('create')
        self.names.append(name)
        snapshot = api.Snapshot(
            f'snapshot-{next(self._numbers)}',
            volume_id,
            api.SnapshotStatus.CREATING,
            metadata,
        )
        self.made[snapshot.id] = snapshot
        self.after_create(volume_id)
        return snapshot

    def snapshot(self, snapshot_id: str, urgent: bool = False) -> api.Snapshot:
        if snapshot_id not in self.made:
            raise exception.VolumeSnapshotNotFound(snapshot_id=snapshot_id)
        found = self.made[snapshot_id]
        looks = self._seen[snapshot_id] = self._seen.get(snapshot_id, 0) + 1
        if found.status == 'creating' and looks >= self.looks:
            found = dataclasses.replace(found, status=self.end)
            self.events.append(found.status)
            self.made[snapshot_id] = found
        return found

    def snapshots(
        self, volume_id: str, metadata: Mapping[str, str]
    ) -> list[api.Snapshot]:
        return [
            self.snapshot(found.id)
            for found in list(self.made.values())
            if found.volume_id == volume_id and found.metadata == metadata
        ]

    def failure(self, snapshot_id: str) -> str | None:
        return self.reason

    def delete_snapshot(self, snapshot_id: str) -> None:
        self.events.append('delete')
        del self.made[snapshot_id]
