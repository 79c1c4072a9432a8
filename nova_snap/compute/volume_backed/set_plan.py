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

"""Images of several disks, of which some are volumes of Cinder.

Open this file for what holds the two together: disks are read, and volumes
are snapshot in Cinder, at one moment of the guest.  The root disk's image
names the snapshots, in Nova's block device mapping.  A root disk that is a
volume has an image without data.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import io

from nova_snap import undo
from nova_snap.compute.volume_backed import moment as volume_moment
from nova_snap.compute.volume_backed import record as volume_record
from nova_snap.compute.volume_backed import snapshots as volume_snapshots
from nova_snap.image import api as image_api
from nova_snap.virt import driver as driver_lib


@dataclasses.dataclass(frozen=True)
class SetPlan(driver_lib.Plan):
    """The plan of a set of images with snapshots of volumes.

    :ivar record: that of the root disk.
    :ivar attached: the volumes, the root volume first if there is one.
    :ivar disks: the plan of the disks that are read.
    """

    record: image_api.Image
    attached: tuple[volume_record.AttachedVolume, ...]
    disks: driver_lib.Plan
    snapshots: volume_snapshots.VolumeSnapshots
    quiesce_required: bool
    options: volume_moment.Options

    @property
    def method(self) -> str:
        """The method of the disks that are read."""
        return self.disks.method

    @contextlib.contextmanager
    def extracted(
        self, operation: driver_lib.Operation
    ) -> Iterator[driver_lib.Extraction]:
        """Read the disks, with snapshots of the volumes at the same moment."""
        moment = volume_moment.SnapshotMoment(
            self.snapshots,
            self.options,
            self.quiesce_required,
            operation,
            reads_disks=True,
        )
        with self.disks.extracted(
            dataclasses.replace(operation, moment=moment)
        ) as extraction:
            self.snapshots.wait_until_available(
                self.options.snapshot_timeout, operation.progress
            )
            yield driver_lib.Extraction(
                disks=(*self._without_data(operation), *extraction.disks),
                properties={**extraction.properties, **self._mapping()},
            )

    def alternatives(self) -> Iterator[driver_lib.Plan]:
        """Yield the same, with other ways to read the disks."""
        for disks in self.disks.alternatives():
            yield dataclasses.replace(self, disks=disks)

    def named_step(self) -> undo.Step | None:
        """Return the step that deletes the snapshots of a failed set."""
        return self.snapshots.delete_step()

    @property
    def _boots_from_volume(self) -> bool:
        return len(self.images) > len(self.disks.images)

    def _without_data(
        self, operation: driver_lib.Operation
    ) -> Iterator[driver_lib.DiskData]:
        """Yield the empty data of the root disk, if that is a volume."""
        if self._boots_from_volume:
            yield contextlib.nullcontext(
                driver_lib.ImageData(
                    stream=io.BytesIO(),
                    format=self.images[0].format,
                    size=0,
                    progress=operation.progress,
                )
            )

    def _mapping(self) -> dict[str, str]:
        root = None if self._boots_from_volume else self.images[0].device
        return volume_record.mapping(self.attached, self.snapshots.ids, root)
