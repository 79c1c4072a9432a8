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

"""Images of root disks on RBD, made inside Ceph without moving data.

Nova's image backend does the work (``direct_snapshot``), as long as this
project has no such method of its own.  It takes a snapshot of the RBD image,
clones it into Glance's pool and flattens the clone; then the location is added
to the image record.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
from typing import Any

from nova import exception as nova_exception
from oslo_utils import uuidutils

from nova_snap import exception
from nova_snap import undo
from nova_snap.image import api as image_api
from nova_snap.objects import instance as instance_lib
from nova_snap.virt import driver as driver_lib
from nova_snap.virt.libvirt import driver

#: Nova's errors after which the image has to be taken another way.
IMPOSSIBLE = (
    NotImplementedError,
    nova_exception.ImageUnacceptable,
    nova_exception.Forbidden,
    # Glance accepts no locations from this user; Nova's own driver fails then.
    nova_exception.ImageNotAuthorized,
)


@dataclasses.dataclass(frozen=True)
class Source:
    """Arguments of Nova's ``direct_snapshot``.

    :ivar root_disk: Nova's image backend of the disk.
    :ivar context: Nova's request context.
    :ivar base_image: the id of the image that the server was booted from.
    """

    root_disk: Any
    context: Any
    image_id: str
    image_format: str
    base_image: str | None


@dataclasses.dataclass(frozen=True)
class RemoveClone(undo.Step, kind='remove the image inside Ceph'):
    """Remove the RBD image of a direct snapshot that is not an active image.

    :ivar snapshot: the name of the snapshot of the root disk.
    :ivar made: the location of the RBD image ("url"), once Nova has made it;
        empty before.
    :ivar clean_up: removes the RBD image.  Only the process that made it has
        this function, since Nova returns the location at the end.
    """

    image_id: str
    snapshot: str
    made: Mapping[str, str] | None = dataclasses.field(
        default=None, compare=False, repr=False, metadata=undo.VOLATILE
    )
    clean_up: Callable[[], None] | None = dataclasses.field(
        default=None, compare=False, repr=False, metadata=undo.VOLATILE
    )

    # A clone that is left takes space, but the next operation may run.
    is_blocking = False

    def undo(self, resources: undo.Resources) -> None:
        """Remove the RBD image, or name what a person has to look for.

        :raises SnapshotFailed: a person has to look for it in Ceph.
        """
        if self.made == {}:
            return  # Nova's function failed, and has cleaned up itself
        if self._is_active(resources.get(image_api.ImageService)):
            return
        if self.clean_up is None:
            raise exception.SnapshotFailed(
                f'image {self.image_id}, made inside Ceph, is not active as '
                'far as this login can see. If "openstack image show" as an '
                'administrator says that it is active, remove only this '
                'entry of the journal. Else remove the RBD image of that '
                "name from Glance's pool and the snapshot "
                f'{self.snapshot} of the root disk if they exist, then this '
                'entry.'
            )
        self.clean_up()

    def _is_active(self, images: image_api.ImageService) -> bool:
        try:
            status = images.get(self.image_id).status
        except exception.ImageNotFound:
            return False
        return status == image_api.ImageStatus.ACTIVE


@dataclasses.dataclass(frozen=True)
class DirectPlan(driver_lib.Plan):
    """The plan to make the image inside Ceph, or else to read the disk.

    :ivar plan_reading: makes the plan to read the disk.
    """

    source: Source
    requires_quiesce: bool
    plan_reading: Callable[[], driver_lib.Plan]

    @contextlib.contextmanager
    def extracted(
        self, operation: driver_lib.Operation
    ) -> Iterator[driver_lib.Extraction]:
        """Have Nova make the image, and yield its location."""
        if self.requires_quiesce:
            raise exception.MethodUnavailable(
                method='direct snapshot',
                reason='the guest has to be frozen at the moment of the '
                'snapshot (os_require_quiesce), which Nova does not do in a '
                'direct snapshot, so the disk is read.',
            )
        operation.progress.check()
        made: dict[str, str] = {}
        snapshot = uuidutils.generate_uuid(dashed=False)
        step = RemoveClone(
            self.source.image_id, snapshot, made, lambda: self._clean_up(made)
        )
        with operation.entry.undoing(step):
            try:
                made['url'] = self.source.root_disk.direct_snapshot(
                    self.source.context,
                    snapshot,
                    self.source.image_format,
                    self.source.image_id,
                    self.source.base_image,
                )
            except IMPOSSIBLE as error:
                raise exception.MethodUnavailable(
                    method='direct snapshot', reason=error
                ) from error
            operation.progress.check()
            location = driver_lib.Location(made['url'])
            yield driver_lib.Extraction((contextlib.nullcontext(location),))

    def alternatives(self) -> Iterator[driver_lib.Plan]:
        """Yield the plan to read the disk."""
        yield self.plan_reading()

    def _clean_up(self, made: Mapping[str, str]) -> None:
        """Remove the clone; Nova has removed its intermediate snapshots."""
        self.source.root_disk.cleanup_direct_snapshot(
            dict(made) or None, also_destroy_volume=True, ignore_errors=True
        )


class DirectDriver(driver.LibvirtDriver):
    """The driver for one request about a root disk on RBD."""

    def __init__(self, source: Source, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._source = source

    def plan(  # type: ignore[override]
        self,
        instance: instance_lib.Instance,
        image_properties: Mapping[str, str],
    ) -> driver_lib.Plan:
        """Plan to make the image inside Ceph, or else to read the disk.

        Several disks are read: a direct snapshot is one of the root disk.
        """
        read = super().plan
        if instance.disks.is_every:
            plan = read(instance, image_properties)
            if len(plan.images) > 1:
                return plan
        return DirectPlan(
            instance=instance,
            images=(
                driver_lib.DiskImage(
                    device='', format=self._source.image_format, virtual_size=0
                ),
            ),
            source=self._source,
            requires_quiesce=driver_lib.requires_quiesce(image_properties),
            plan_reading=lambda: read(instance, image_properties),
        )
