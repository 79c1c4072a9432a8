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

Open this file for the order of the steps and for what is refused before the
first; the snapshots themselves are in ``volume_snapshots.py``, the record in
``volume_record.py``.  Nova does the same in its API, but does not wait for
the snapshots, and so has images that name snapshots in error.
"""

from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import io
import time

from oslo_log import log as logging

from nova_snap import exception
from nova_snap import journal as journal_lib
from nova_snap import progress as progress_lib
from nova_snap.compute import prepared as prepared_lib
from nova_snap.compute.volume_backed import record as volume_record
from nova_snap.compute.volume_backed import snapshots as volume_snapshots
from nova_snap.image import api as image_api
from nova_snap.objects import instance as instance_lib
from nova_snap.objects import task_state
from nova_snap.virt import driver as driver_lib
from nova_snap.volume import api as volume_api

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Options:
    """What an operator sets; names as in the configuration; seconds."""

    snapshot_timeout: float = 600
    frozen_timeout: float = 10


def is_volume_backed(devices: Sequence[instance_lib.BlockDevice]) -> bool:
    """Whether the root disk, which is the first, is a volume."""
    return bool(devices) and devices[0].volume_id is not None


def survey(
    driver: driver_lib.ComputeDriver,
    volumes: volume_api.VolumeService | None,
    instance: instance_lib.Instance,
) -> list[volume_record.AttachedVolume]:
    """The volumes of an instance that boots from one, the root volume first.

    None at all if it does not boot from a volume.

    :raises UnsupportedGuest: its volumes can't be snapshot from here.
    :raises VolumeQuotaExceeded: the quota has no room for all.
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
        # NFS and its kin: Cinder asks Nova to have QEMU take the snapshot
        # (os-assisted-volume-snapshots), and it is Nova that QEMU belongs to.
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
    """Makes images that name snapshots of volumes.

    :param volumes: None where there is no ``[cinder]``.
    :param non_inheritable: see :func:`.image_record.build`.
    """

    def __init__(
        self,
        driver: driver_lib.ComputeDriver,
        images: image_api.ImageService,
        volumes: volume_api.VolumeService | None,
        options: Options,
        non_inheritable: Collection[str] = (),
    ) -> None:
        self._driver = driver
        self._images = images
        self._volumes = volumes
        self._options = options
        self._non_inheritable = non_inheritable

    def prepare(
        self,
        instance: instance_lib.Instance,
        name: str,
        metadata: Mapping[str, str],
    ) -> prepared_lib.Prepared | None:
        """Find out whatever would make it fail; touches nothing.

        None if the instance does not boot from a volume.

        :raises QuiesceNotPossible: os_require_quiesce can't be met; besides
            what :func:`survey` raises.
        """
        attached = survey(self._driver, self._volumes, instance)
        if not attached or self._volumes is None:
            return None
        record = volume_record.build(
            instance, attached[0], name, metadata, self._non_inheritable
        )
        base = volume_record.base_image(attached[0].volume)
        making = _Making(
            server=instance.uuid,
            images=self._images,
            record=record,
            attached=attached,
            snapshots=volume_snapshots.VolumeSnapshots(
                self._volumes, attached, record
            ),
            undoing=volume_snapshots.Undoing(self._volumes, self._images),
            quiesced=self._driver.quiescing(instance, base.properties),
            quiesce_required=driver_lib.requires_quiesce(base.properties),
            options=self._options,
        )
        return prepared_lib.Prepared(instance, record, making.take)

    def undoers(self) -> Mapping[str, journal_lib.Undo]:
        """How the duties are undone that it puts into an entry."""
        if self._volumes is None:
            return {}  # they stay owed until there is a [cinder] again
        undoing = volume_snapshots.Undoing(self._volumes, self._images)
        return {volume_snapshots.DELETE_SNAPSHOTS: undoing.delete}


@dataclasses.dataclass(frozen=True)
class _Making:
    """One image, and all that it takes."""

    server: str
    images: image_api.ImageService
    record: image_api.Image
    attached: Sequence[volume_record.AttachedVolume]
    snapshots: volume_snapshots.VolumeSnapshots
    undoing: volume_snapshots.Undoing
    quiesced: driver_lib.Quiesced
    quiesce_required: bool
    options: Options

    def take(
        self,
        entry: journal_lib.Entry,
        progress: progress_lib.Progress,
        update_task_state: driver_lib.UpdateTaskState,
    ) -> None:
        """Take the snapshots, then make the record an active image."""
        with entry.owing(
            volume_snapshots.DELETE_SNAPSHOTS,
            self.undoing.of(self.snapshots),
            **self.snapshots.duty(),
        ):
            with self.quiesced(entry) as frozen:
                if frozen:
                    self._take_frozen(progress)
                else:
                    self.snapshots.request(progress)
            self.snapshots.wait_until_available(
                self.options.snapshot_timeout, progress
            )
            update_task_state(task_state.TaskState.IMAGE_UPLOADING)
            self._activate(progress)

    def _take_frozen(self, progress: progress_lib.Progress) -> None:
        """Let no snapshot be taken after the guest is thawed.

        Cinder answers a request with 202 and takes the snapshot later.  Nova
        keeps the guest frozen until then, too, but sends one request after
        the other and has no limit (unquiesce_instance, Nova 34).
        """
        began = time.monotonic()
        limit = self.options.frozen_timeout
        if not limit:
            self._require_no_quiesce()
            self.snapshots.request(progress)
        elif not self.snapshots.request_until_taken(began + limit, progress):
            self._thaw_early(time.monotonic() - began)

    def _require_no_quiesce(self) -> None:
        """Refuse what would be thawed before a snapshot is taken."""
        if self.quiesce_required:
            raise exception.QuiesceNotPossible(
                server=self.server,
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
                server=self.server, reason=reason
            )
        LOG.warning(
            'Server %(server)s is thawed early, so its volumes may show '
            'different moments: %(reason)s',
            {'server': self.server, 'reason': reason},
        )

    def _activate(self, progress: progress_lib.Progress) -> None:
        """An image without data becomes active by the upload of nothing."""
        mapping = volume_record.mapping(self.attached, self.snapshots.ids)
        self.images.update(self.record.id, properties=mapping)
        self.images.upload(self.record.id, io.BytesIO(), 0, progress)
