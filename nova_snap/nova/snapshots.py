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

"""Snapshots and recovery inside nova-compute.

Open this file to see which objects of the core serve a request of Nova.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
from typing import Any

from oslo_log import log as logging

from nova_snap import exception
from nova_snap import locks
from nova_snap.compute import image_set
from nova_snap.compute import manager
from nova_snap.compute import operations
from nova_snap.nova import direct  # noqa: F401 (registers its undo step)
from nova_snap.nova import disk_request
from nova_snap.nova import errors
from nova_snap.nova import glance_pool
from nova_snap.nova import hooks as hooks_lib
from nova_snap.nova import images
from nova_snap.nova import request
from nova_snap.nova import server_progress
from nova_snap.nova import settings
from nova_snap.objects import instance as instance_lib
from nova_snap.virt.libvirt import driver as driver_lib
from nova_snap.virt.libvirt import events
from nova_snap.virt.libvirt import host
from nova_snap.virt.libvirt import plan

LOG = logging.getLogger(__name__)


class Snapshots:
    """The snapshots of one nova-compute; may be shared by threads.

    :param driver: Nova's own driver, whose libvirt event loop runs already.
    """

    def __init__(self, driver: Any) -> None:
        events.adopt_loop()
        _warn_of_state_path()
        self._driver = driver
        self._host = host.Host(settings.connection_uri())
        self._options = settings.driver_options()
        self._journal = settings.make_journal()
        self._locks = settings.make_locks()

    def take(
        self,
        context: Any,
        instance: Any,
        record: Mapping[str, Any],
        metadata: Mapping[str, Any],
        update_task_state: request.TaskStates,
        wanted: disk_request.DiskRequest,
        is_in_ceph: bool = False,
    ) -> None:
        """Send an image of a server to a record of Glance.

        :param record: as Nova's image API has it.
        :param metadata: the changes of the record before its data is sent;
            the disk format in it is the one that the image will have.
        :param wanted: the disks that the request is about.
        :param is_in_ceph: True if the root disk is.
        :raises NovaException: Nova's errors; see ``errors.py``.
        """
        hooks = hooks_lib.NovaHooks(self._driver, instance)
        image = images.image_of(record)
        with errors.translated(
            instance.uuid,
            lambda: hooks.is_being_deleted(instance.uuid),
            lambda: self._driver._can_quiesce(instance, instance.image_meta),
        ):
            options = self._options
            if is_in_ceph:
                options = self._in_ceph(context, instance, hooks)
            with server_progress.followed(instance.uuid) as progress:
                self._manager(hooks, options).snapshot_to_record(
                    request.instance_of(instance, wanted.choice),
                    image,
                    request.image_properties(instance),
                    self._images(context, instance, image.id, metadata),
                    progress,
                    update_task_state,
                    wanted.metadata,
                )

    def unlink(
        self,
        context: Any,
        instance: Any,
        image_id: str,
        record: Mapping[str, Any],
    ) -> None:
        """Remove what links a record with the set that it inherited it from.

        :param record: as Nova's image API has it.
        :raises NovaException: as of :meth:`take`.
        """
        if not image_set.links(record['properties']):
            return
        service = self._images(context, instance, image_id, {})
        try:
            image_set.relink(service, service.get(image_id), {})
        except exception.NovaSnapError as error:
            raise errors.translate(error) from error

    def _in_ceph(
        self, context: Any, instance: Any, hooks: hooks_lib.NovaHooks
    ) -> plan.Options:
        """Return the options for a server whose root disk is in Ceph."""
        image_api = self._driver._image_api
        pool = glance_pool.find(
            self._host,
            self._hypervisor(hooks, self._options),
            request.instance_of(instance, instance_lib.DiskChoice()),
            lambda: glance_pool.locations_of(
                image_api, context, instance.image_ref
            ),
        )
        return settings.in_ceph(self._options, pool)

    def _images(
        self,
        context: Any,
        instance: Any,
        image_id: str,
        metadata: Mapping[str, Any],
    ) -> images.UserImages:
        is_owner = context.project_id == instance.project_id
        return images.UserImages(
            context,
            self._driver._image_api,
            image_id,
            metadata,
            None if is_owner else instance.project_id,
        )

    def recover(self) -> bool:
        """Undo interrupted snapshots.

        :returns: True if nothing is left to undo.
        """
        self._journal.tidy()
        contents = self._journal.contents()
        if contents.is_empty:
            return True
        hooks = hooks_lib.NovaHooks(self._driver)
        service = images.of_the_service()
        done = not contents.unreadable
        for recovery in self._manager(hooks, self._options).recover(service):
            _log(recovery)
            if not (recovery.running or recovery.elsewhere):
                server_progress.write(recovery.entry.instance_uuid, 0)
            done = done and not recovery.left
        return done

    def _manager(
        self, hooks: hooks_lib.NovaHooks, options: plan.Options
    ) -> manager.SnapshotManager:
        return manager.SnapshotManager(
            self._hypervisor(hooks, options),
            self._journal,
            self._locks,
            cancel_check_interval=settings.CONF.nova_snap.cancel_check_interval,
            parallel_disks=settings.CONF.nova_snap.max_parallel_disks,
        )

    def _hypervisor(
        self, hooks: hooks_lib.NovaHooks, options: plan.Options
    ) -> driver_lib.LibvirtDriver:
        return driver_lib.LibvirtDriver(
            self._host, options, settings.disk_operation_slot, hooks
        )


@contextlib.contextmanager
def locked(instance_uuid: str) -> Iterator[None]:
    """Hold the lock of a server whose snapshot is left to Nova's driver.

    :raises InternalError: another program takes a snapshot of it.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locks.host_wide(instance_uuid))
        except exception.SnapshotInProgress as error:
            raise errors.translate(error) from error
        yield


def _warn_of_state_path() -> None:
    path = settings.state_path()
    if settings.is_in_environment(path):
        LOG.warning(
            'The journal of snapshots is in %s, among the packages of Python, '
            'and is lost when they are reinstalled; set [DEFAULT] state_path.',
            path,
        )


def _log(recovery: operations.Recovery) -> None:
    entry = recovery.entry
    if recovery.left:
        LOG.error(
            'Undo steps of an interrupted snapshot of server %(server)s '
            'failed: %(left)s. Journal: %(path)s.',
            {
                'server': entry.instance_uuid,
                'left': ', '.join(recovery.left),
                'path': entry.path,
            },
            instance_uuid=entry.instance_uuid,
        )
    elif recovery.elsewhere:
        LOG.debug(
            'The journal entry %s belongs to another host.',
            entry.path,
            instance_uuid=entry.instance_uuid,
        )
    elif not recovery.running:
        LOG.info(
            'An interrupted snapshot of server %s has been undone.',
            entry.instance_uuid,
            instance_uuid=entry.instance_uuid,
        )
