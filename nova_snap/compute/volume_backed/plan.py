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
import time

from oslo_log import log as logging

from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap.compute.volume_backed import record as volume_record
from nova_snap.compute.volume_backed import snapshots as volume_snapshots
from nova_snap.image import api as image_api
from nova_snap.objects import instance as instance_lib
from nova_snap.virt import driver as driver_lib
from nova_snap.volume import api as volume_api

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of ``[cinder]``, named as there; in seconds."""

    snapshot_timeout: float = 600
    frozen_timeout: float = 10


def is_volume_backed(devices: Sequence[instance_lib.BlockDevice]) -> bool:
    """Return True if the root disk, which is the first, is a volume."""
    return bool(devices) and devices[0].volume_id is not None


def survey(
    driver: driver_lib.ComputeDriver,
    volumes: volume_api.VolumeService | None,
    instance: instance_lib.Instance,
) -> list[volume_record.AttachedVolume]:
    """Return the volumes of an instance that boots from a volume.

    The root volume is the first; the list is empty if the instance does not
    boot from a volume.

    :raises UnsupportedGuest: snapshots of its volumes can't be taken here.
    :raises VolumeQuotaExceeded: the quota has no room for all snapshots.
    """
    devices = driver.block_devices(instance)
    if not is_volume_backed(devices):
        return []
    if volumes is None:
        raise exception.UnsupportedGuest(
            server=instance.uuid,
            reason=f'it boots from volume {devices[0].volume_id}, and there '
            'is no [cinder] in the configuration; an image of it is made of '
            'snapshots in Cinder.',
        )
    attached = [
        _attached(volumes, instance, device)
        for device in devices
        if device.volume_id is not None
    ]
    _require_quota(volumes, len(attached))
    return attached


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
        options: Options,
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
    ) -> 'VolumeBackedPlan | None':
        """Check everything that can be checked before the first snapshot.

        Return None if the instance does not boot from a volume.  Raises what
        :func:`survey` does, and besides:

        :raises QuiesceNotPossible: os_require_quiesce can't be met.
        """
        attached = survey(self._driver, self.volumes, instance)
        if not attached or self.volumes is None:
            return None
        record = volume_record.build(
            instance, attached[0], name, metadata, self._non_inheritable
        )
        base = volume_record.base_image(attached[0].volume)
        return VolumeBackedPlan(
            instance=instance,
            images=(
                driver_lib.DiskImage(
                    device=attached[0].device.name,
                    format=record.disk_format or volume_record.DISK_FORMAT,
                    virtual_size=0,
                ),
            ),
            record=record,
            attached=attached,
            volumes=self.volumes,
            quiesced=self._driver.quiescing(instance, base.properties),
            quiesce_required=driver_lib.requires_quiesce(base.properties),
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
    options: Options

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
            with self.quiesced(operation.entry) as frozen:
                if frozen:
                    self._take_frozen(snapshots, progress)
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

    def _take_frozen(
        self,
        snapshots: volume_snapshots.VolumeSnapshots,
        progress: progress_lib.Progress,
    ) -> None:
        """Request the snapshots and return when they are taken.

        The guest stays frozen meanwhile, for frozen_timeout seconds at most.
        Cinder answers a request with 202 and takes the snapshot later.  Nova
        keeps the guest frozen until then, too, but sends one request after
        the other and has no limit (unquiesce_instance, Nova 34).
        """
        began = time.monotonic()
        limit = self.options.frozen_timeout
        if not limit:
            self._require_no_quiesce()
            snapshots.request(progress)
        elif not snapshots.request_until_taken(began + limit, progress):
            self._thaw_early(time.monotonic() - began)

    def _require_no_quiesce(self) -> None:
        """Raise if quiescing is required: the guest would be thawed early."""
        if self.quiesce_required:
            raise exception.QuiesceNotPossible(
                server=self.instance.uuid,
                reason='[cinder] frozen_timeout is 0, so they would be '
                'thawed before Cinder takes the snapshots.',
            )

    def _thaw_early(self, seconds: float) -> None:
        reason = (
            f'Cinder had not taken all snapshots when its file systems had '
            f'been frozen for {seconds:.1f} s ([cinder] frozen_timeout).'
        )
        if self.quiesce_required:
            raise exception.QuiesceNotPossible(
                server=self.instance.uuid, reason=reason
            )
        LOG.warning(
            'Server %(server)s is thawed early, so its volumes may show '
            'different moments: %(reason)s',
            {'server': self.instance.uuid, 'reason': reason},
            instance_uuid=self.instance.uuid,
        )
