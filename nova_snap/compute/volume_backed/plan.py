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

"""Images of instances that boot from a volume: snapshots instead of data.

Open this file for the order of the steps and for the checks before the first
of them.  The snapshots are in ``snapshots.py``, the record is in
``record.py``.  Nova takes such images in its API, but does not wait for the
snapshots, and so has images that name snapshots in status error.
"""

from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import io

from nova_snap import exception
from nova_snap.compute.volume_backed import moment as volume_moment
from nova_snap.compute.volume_backed import record as volume_record
from nova_snap.compute.volume_backed import set_plan
from nova_snap.compute.volume_backed import snapshots as volume_snapshots
from nova_snap.image import api as image_api
from nova_snap.objects import instance as instance_lib
from nova_snap.virt import driver as driver_lib
from nova_snap.volume import api as volume_api


def is_volume_backed(devices: Sequence[instance_lib.BlockDevice]) -> bool:
    """Return True if the root disk, which is the first, is a volume."""
    return bool(devices) and devices[0].volume_id is not None


def wanted(
    devices: Sequence[instance_lib.BlockDevice],
    instance: instance_lib.Instance,
) -> list[instance_lib.BlockDevice]:
    """Return the volumes of which an image has to name snapshots.

    Those are all volumes of an instance that boots from one, and the volumes
    among the disks of a request that is about several.

    :param devices: the driver's, of the instance.
    """
    if not is_volume_backed(devices) and not instance.disks.is_several:
        return []
    return [device for device in devices if device.volume_id is not None]


@dataclasses.dataclass(frozen=True)
class Survey:
    """The volumes of which an image has to name snapshots.

    :ivar attached: the root volume first, if the instance boots from one.
    :ivar reads_disks: the request is also about disks that are no volumes.
    """

    attached: tuple[volume_record.AttachedVolume, ...] = ()
    boots_from_volume: bool = False
    reads_disks: bool = False


def survey(
    driver: driver_lib.ComputeDriver,
    volumes: volume_api.VolumeService | None,
    instance: instance_lib.Instance,
) -> Survey:
    """Return the volumes of which an image has to name snapshots.

    :raises UnsupportedGuest: snapshots of its volumes can't be taken here.
    :raises VolumeQuotaExceeded: the quota has no room for all snapshots.
    """
    devices = driver.block_devices(instance)
    found = wanted(devices, instance)
    if not found:
        return Survey()
    boots_from_volume = is_volume_backed(devices)
    if volumes is None:
        raise _no_cinder(instance, found, boots_from_volume)
    attached = tuple(_attached(volumes, instance, device) for device in found)
    _require_quota(volumes, len(attached))
    return Survey(
        attached,
        boots_from_volume,
        reads_disks=instance.disks.is_several and len(found) < len(devices),
    )


def _no_cinder(
    instance: instance_lib.Instance,
    found: Sequence[instance_lib.BlockDevice],
    boots_from_volume: bool,
) -> exception.UnsupportedGuest:
    if boots_from_volume:
        reason = (
            f'it boots from volume {found[0].volume_id}, and there is no '
            '[cinder] in the configuration; an image of it is made of '
            'snapshots in Cinder.'
        )
    else:
        names = ', '.join(
            f'{device.name} (volume {device.volume_id})' for device in found
        )
        reason = (
            f'of its disks, Cinder has to take the snapshot of {names}, and '
            'there is no [cinder] in the configuration. Name the other disks '
            'with --disk to leave the volumes out.'
        )
    return exception.UnsupportedGuest(server=instance.uuid, reason=reason)


def _attached(
    volumes: volume_api.VolumeService,
    instance: instance_lib.Instance,
    device: instance_lib.BlockDevice,
) -> volume_record.AttachedVolume:
    if device.in_file:
        # NFS and the like: Cinder asks Nova to have QEMU take the snapshot
        # (os-assisted-volume-snapshots), which works for Nova's guests only.
        raise exception.UnsupportedGuest(
            server=instance.uuid,
            reason=f'its volume {device.volume_id} ({device.name}) is a file '
            'of this host; Cinder leaves the snapshot of such a volume to '
            'Nova, so take the image with "openstack server image create".',
        )
    return volume_record.AttachedVolume(
        device, volumes.volume(device.volume_id or '')
    )


def _require_quota(volumes: volume_api.VolumeService, count: int) -> None:
    quota = volumes.snapshot_quota()
    if not quota.has_room_for(count):
        raise exception.VolumeQuotaExceeded(
            reason=f'the project has {quota.used} of {quota.limit}, and '
            f'{count} are needed; delete some, or have the quota raised.'
        )


class VolumeBacked:
    """Plans images that name snapshots of volumes.

    :param volumes: None where there is no ``[cinder]``.
    :param non_inheritable: see :func:`.image_record.build`.
    """

    def __init__(
        self,
        driver: driver_lib.ComputeDriver,
        volumes: volume_api.VolumeService | None,
        options: volume_moment.Options,
        non_inheritable: Collection[str] = (),
    ) -> None:
        self.volumes = volumes
        self._driver = driver
        self._options = options
        self._non_inheritable = non_inheritable

    def plan(
        self,
        instance: instance_lib.Instance,
        name: str,
        metadata: Mapping[str, str],
    ) -> 'VolumeBackedPlan | set_plan.SetPlan | None':
        """Check everything that can be checked before the first snapshot.

        Return None if the instance does not boot from a volume.  Raises what
        :func:`survey` and the driver do, and besides:

        :raises QuiesceNotPossible: os_require_quiesce can't be met.
        """
        if not is_volume_backed(self._driver.block_devices(instance)):
            return None
        found = survey(self._driver, self.volumes, instance)
        if not found.boots_from_volume or self.volumes is None:
            return None
        root = found.attached[0]
        record = volume_record.build(
            instance, root, name, metadata, self._non_inheritable
        )
        properties = volume_record.base_image(root.volume).properties
        image = driver_lib.DiskImage(
            device=root.device.name,
            format=record.disk_format or volume_record.DISK_FORMAT,
            virtual_size=0,
        )
        if found.reads_disks:
            disks = self._driver.plan(instance, properties)
            return self._set_plan(disks, record, found, properties, image)
        return VolumeBackedPlan(
            instance=instance,
            images=(image,),
            record=record,
            attached=found.attached,
            volumes=self.volumes,
            quiesced=self._driver.quiescing(instance, properties),
            quiesce_required=driver_lib.requires_quiesce(properties),
            options=self._options,
        )

    def with_volumes(
        self,
        disks: driver_lib.Plan,
        record: image_api.Image,
        properties: Mapping[str, str],
    ) -> driver_lib.Plan:
        """Return a plan that takes the snapshots of further volumes, too.

        Raises what :func:`survey` does.

        :param disks: the plan of the disks that are read, the root disk first.
        :param record: that of the root disk; it will name the snapshots.
        :param properties: those of the base image.
        """
        if not disks.instance.disks.is_several:
            return disks
        found = survey(self._driver, self.volumes, disks.instance)
        if not found.attached:
            return disks
        return self._set_plan(disks, record, found, properties)

    def _set_plan(
        self,
        disks: driver_lib.Plan,
        record: image_api.Image,
        found: Survey,
        properties: Mapping[str, str],
        *images: driver_lib.DiskImage,
    ) -> set_plan.SetPlan:
        volumes = self.volumes
        if volumes is None:
            raise _no_cinder(
                disks.instance,
                [attached.device for attached in found.attached],
                found.boots_from_volume,
            )
        return set_plan.SetPlan(
            instance=disks.instance,
            images=(*images, *disks.images),
            record=record,
            attached=found.attached,
            disks=disks,
            snapshots=volume_snapshots.VolumeSnapshots(
                volumes, found.attached, record, disks.instance.uuid
            ),
            quiesce_required=driver_lib.requires_quiesce(properties),
            options=self._options,
        )


@dataclasses.dataclass(frozen=True)
class VolumeBackedPlan(driver_lib.Plan):
    """The plan of one image that names snapshots of volumes."""

    record: image_api.Image
    attached: Sequence[volume_record.AttachedVolume]
    volumes: volume_api.VolumeService
    quiesced: driver_lib.Quiesced
    quiesce_required: bool
    options: volume_moment.Options

    @property
    def method(self) -> str:
        """Return ``volumes``: no disk is read."""
        return 'volumes'

    @contextlib.contextmanager
    def extracted(
        self, operation: driver_lib.Operation
    ) -> Iterator[driver_lib.Extraction]:
        """Take the snapshots and yield empty data with their ids.

        An image that names snapshots becomes active when no data is uploaded.
        """
        progress = operation.progress
        snapshots = volume_snapshots.VolumeSnapshots(
            self.volumes, self.attached, self.record, self.instance.uuid
        )
        with operation.entry.undoing(snapshots.delete_step()):
            moment = volume_moment.SnapshotMoment(
                snapshots, self.options, self.quiesce_required, operation
            )
            with self.quiesced(operation.entry, progress) as frozen:
                if frozen:
                    moment.take(driver_lib.Stillness.HELD)
                else:
                    snapshots.request(progress)
            snapshots.wait_until_available(
                self.options.snapshot_timeout, progress
            )
            empty = driver_lib.ImageData(
                stream=io.BytesIO(),
                format=self.images[0].format,
                size=0,
                progress=progress,
            )
            yield driver_lib.Extraction(
                disks=(contextlib.nullcontext(empty),),
                properties=volume_record.mapping(self.attached, snapshots.ids),
            )
