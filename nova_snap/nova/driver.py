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

"""Nova's libvirt driver with this project's snapshots.

Open this file for the methods that nova-compute calls; every method that is
not overridden is Nova's.  ``[DEFAULT] compute_driver =
nova_snap.LibvirtDriver`` selects this driver.
"""

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from nova import exception as nova_exception
from nova.virt.libvirt import driver

from nova_snap import exception
from nova_snap.nova import disk_request
from nova_snap.nova import errors
from nova_snap.nova import recovery
from nova_snap.nova import request
from nova_snap.nova import root_disk
from nova_snap.nova import settings
from nova_snap.nova import snapshots


class LibvirtDriver(driver.LibvirtDriver):  # type: ignore[misc]
    """Nova's driver with ``snapshot()`` replaced."""

    def __init__(self, virtapi: Any, read_only: bool = False) -> None:
        settings.register()
        super().__init__(virtapi, read_only)

    def init_host(self, host: str) -> None:
        """Start as Nova does, then undo interrupted snapshots.

        nova-compute checks its instances after this has returned.
        """
        super().init_host(host)
        self._snapshots = snapshots.Snapshots(self)
        recovery.run(self._snapshots)

    def snapshot(
        self,
        context: Any,
        instance: Any,
        image_id: str,
        update_task_state: Callable[..., None],
    ) -> None:
        """Send an image of a server to the record that nova-api has made.

        :param context: Nova's request context, with the user's token.
        :param instance: Nova's instance object.
        :param update_task_state: nova-compute's callback for this request.
        :raises InstanceNotRunning: libvirt does not know the server.
        :raises NovaException: see ``errors.py``.
        """
        disk = self._root_disk(instance)
        record = self._image_api.get(context, image_id)
        wanted = self._wanted(instance, record)
        if settings.is_left_to_nova():
            self._snapshots.unlink(context, instance, image_id, record)
            with snapshots.locked(instance.uuid):
                super().snapshot(
                    context, instance, image_id, update_task_state
                )
            return
        metadata = self._create_snapshot_metadata(
            instance.image_meta, instance, disk.image_format, record['name']
        )
        self._snapshots.take(
            context,
            instance,
            record,
            metadata,
            request.TaskStates(update_task_state),
            wanted,
            disk.is_rbd,
        )

    @staticmethod
    def _wanted(
        instance: Any, record: Mapping[str, Any]
    ) -> disk_request.DiskRequest:
        """Return what a request asks for.

        :raises InternalError: it can't be had, or is not valid.
        """
        try:
            wanted = disk_request.DiskRequest.of(
                instance, record['properties'], record['name']
            )
            if wanted.is_explicit:
                settings.require_own_snapshots(instance.uuid)
        except exception.NovaSnapError as error:
            raise errors.translate(error) from error
        return wanted

    def _root_disk(self, instance: Any) -> root_disk.RootDisk:
        try:
            guest = self._host.get_guest(instance)
        except nova_exception.InstanceNotFound:
            raise nova_exception.InstanceNotRunning(
                instance_id=instance.uuid
            ) from None
        return root_disk.RootDisk.of(guest)
