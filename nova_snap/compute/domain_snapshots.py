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

"""Domain snapshots of instances, within the frame of every operation."""

from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap.compute import manager as manager_lib
from nova_snap.image import api as image_api
from nova_snap.objects import domain_snapshot
from nova_snap.objects import instance as instance_lib
from nova_snap.virt import domain_snapshot as domain_snapshot_api
from nova_snap.virt import driver as driver_lib


class DomainSnapshotManager:
    """The domain snapshots of the instances of one driver.

    :param manager: begins the operations; it shares their locks and journal.
    """

    def __init__(
        self,
        driver: driver_lib.ComputeDriver,
        manager: manager_lib.SnapshotManager,
    ) -> None:
        self._driver = driver
        self._manager = manager

    def create(
        self,
        instance: instance_lib.Instance,
        request: domain_snapshot_api.Request,
        images: image_api.ImageService,
        progress: progress_lib.Progress,
    ) -> domain_snapshot.DomainSnapshot:
        """Take a domain snapshot, and return it.

        :param images: undo steps of earlier operations may need it.
        :raises DomainSnapshotRefused: nothing was begun.
        :raises SnapshotInProgress: another operation on the instance runs.
        :raises NovaSnapError: it failed, and the guest is as it was.
        """
        snapshots = self._driver.domain_snapshots(instance)
        with self._manager.begun(
            instance, progress, images, takes_slot=request.has_memory
        ) as operation:
            plan = snapshots.plan_creation(request)
            plan.create(operation.entry, progress)
        found = snapshots.tree().get(plan.name)
        if found is None:
            raise exception.SnapshotFailed(
                f'libvirt has no domain snapshot {plan.name} of server '
                f'{instance.uuid} any more: somebody has deleted it.'
            )
        return found

    def delete(
        self,
        instance: instance_lib.Instance,
        request: domain_snapshot_api.DeletionRequest,
        images: image_api.ImageService,
        progress: progress_lib.Progress,
    ) -> tuple[str, ...]:
        """Delete a domain snapshot, and return the names of what is deleted.

        :param images: undo steps of earlier operations may need it.
        :raises DomainSnapshotNotFound: there is none of that name.
        :raises DomainSnapshotRefused: nothing was begun.
        :raises SnapshotInProgress: another operation on the instance runs.
        :raises NovaSnapError: it failed; what was begun is in the journal,
            and the disks of the guest read as before.
        """
        snapshots = self._driver.domain_snapshots(instance)
        with self._manager.begun(instance, progress, images) as operation:
            plan = snapshots.plan_deletion(request)
            plan.delete(operation.entry, progress)
        return plan.names

    def revert(
        self,
        instance: instance_lib.Instance,
        request: domain_snapshot_api.RevertRequest,
        images: image_api.ImageService,
        progress: progress_lib.Progress,
    ) -> domain_snapshot.DomainSnapshot | None:
        """Go back to a domain snapshot, and return it.

        :param images: undo steps of earlier operations may need it.
        :raises DomainSnapshotNotFound: there is none of that name.
        :raises DomainSnapshotRefused: nothing was begun.
        :raises SnapshotInProgress: another operation on the instance runs.
        :raises NovaSnapError: it failed, and the guest is as it was.
        """
        snapshots = self._driver.domain_snapshots(instance)
        with self._manager.begun(instance, progress, images) as operation:
            plan = snapshots.plan_revert(request)
            plan.revert(operation.entry, progress)
        return snapshots.tree().get(request.name)
