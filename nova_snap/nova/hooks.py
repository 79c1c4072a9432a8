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

"""The hooks of nova-compute, which owns the guests of its host.

Open this file for a step of a pipeline that Nova's own code has to do.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import os
import pathlib
import stat
from typing import Any

from nova import context as nova_context
from nova import exception as nova_exception
from nova import objects
from nova.compute import task_states
from nova.compute import vm_states
import nova.conf
from nova.objects import fields
import nova.privsep.path
from oslo_log import log as logging

from nova_snap import exception
from nova_snap import journal
from nova_snap import this_host
from nova_snap import undo
from nova_snap.nova import block_devices
from nova_snap.nova import devices
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import hooks as hooks_lib
from nova_snap.virt.storage import disk_source as storage

LOG = logging.getLogger(__name__)

#: Attributes of an instance that attaching devices and powering up processors
#: need.
ATTRIBUTES = (
    'flavor',
    'info_cache',
    'numa_topology',
    'pci_devices',
    'pci_requests',
    'system_metadata',
)


#: States of a migration that has ended (nova/objects/fields.py has no list;
#: nova/compute/manager.py of Nova 34 sets these).
_ENDED = ('cancelled', 'completed', 'done', 'error', 'failed')

#: States of a server that has a guest in QEMU.
_WITH_A_GUEST = (
    vm_states.ACTIVE,
    vm_states.PAUSED,
    vm_states.RESCUED,
    vm_states.RESIZED,
)


@dataclasses.dataclass(frozen=True)
class AttachDevices(undo.Step, kind='have Nova attach the devices again'):
    """Have Nova attach PCI, SR-IOV and mediated devices again.

    :ivar mediated: the uuids of the mediated devices.
    """

    mediated: Sequence[str]

    def undo(self, resources: undo.Resources) -> None:
        """Attach the missing devices, unless the server is being deleted."""
        guest = resources.get(guest_lib.Guest)
        hooks = resources.get(NovaHooks)
        if not hooks.is_being_deleted(guest.uuid):
            hooks.devices(guest).attach(self.mediated)


class NovaHooks(hooks_lib.Hooks):
    """Hooks that call Nova, for every guest of this host.

    :param driver: Nova's own driver.
    :param instance: of the snapshot; None in recovery, where the instance is
        loaded from the database.
    """

    def __init__(self, driver: Any, instance: Any = None) -> None:
        self._driver = driver
        self._instance = instance
        self._context = nova_context.get_admin_context()

    def is_being_deleted(self, instance_uuid: str) -> bool:
        """Return True if the server is being deleted, or is deleted already.

        nova-api writes the task state to the database before nova-compute
        begins.  If the database can't be asked, return False.
        """
        try:
            instance = self._load(instance_uuid, ())
        except nova_exception.InstanceNotFound:
            return True
        except Exception as error:
            LOG.warning(
                'Cannot find out whether server %(server)s is being deleted: '
                '%(error)s',
                {'server': instance_uuid, 'error': error},
                instance_uuid=instance_uuid,
            )
            return False
        return bool(instance.task_state == task_states.DELETING)

    def has_moved(
        self, instance_uuid: str, origin: this_host.Origin, xml: str
    ) -> bool:
        """Return True if the server is on another host now.

        A host that has died may come back after its servers were evacuated.

        :raises MayHaveMoved: the database can't be asked, or the server is
            being evacuated.
        """
        try:
            instance = self._load(instance_uuid, ())
            evacuations = objects.MigrationList.get_by_filters(
                self._context,
                {
                    'instance_uuid': instance_uuid,
                    'migration_type': fields.MigrationType.EVACUATION,
                },
            )
        except nova_exception.InstanceNotFound:
            return True
        except Exception as error:
            raise exception.MayHaveMoved(
                server=instance_uuid,
                reason=f"Nova's database cannot be asked: {error}",
            ) from error
        if any(one.status not in _ENDED for one in evacuations):
            raise exception.MayHaveMoved(
                server=instance_uuid, reason='it is being evacuated.'
            )
        return bool(instance.host != nova.conf.CONF.host)

    def has_to_run(self, instance_uuid: str) -> bool:
        """Return True if Nova wants the server to run, or to be paused."""
        return self._load(instance_uuid, ()).vm_state in _WITH_A_GUEST

    def take_back(self, path: pathlib.Path) -> None:
        """Change the owner by Nova's privileged helper, if libvirt did not."""
        found = path.lstat()
        if found.st_uid == os.geteuid():
            return
        if not stat.S_ISREG(found.st_mode):
            # The helper is root, and follows links.
            raise exception.SnapshotFailed(
                f'{path} is not the file that QEMU has written, so its owner '
                'is not changed.'
            )
        try:
            nova.privsep.path.chown(str(path), uid=os.geteuid())
        except Exception as error:
            raise exception.SnapshotFailed(
                f'Nova could not change the owner of {path} back from QEMU '
                f"({error}); check Nova's privileged helper, or set "
                "remember_owner = 1 in libvirt's qemu.conf."
            ) from error

    @contextlib.contextmanager
    def reading(
        self, source: storage.DiskSource, entry: journal.Entry
    ) -> Iterator[None]:
        """Make this user the owner of a block device that belongs to root.

        Nova's driver reads such a disk as root; see ``block_devices.py``.
        """
        with block_devices.lent(source, entry):
            yield

    def prepare_start(self, instance_uuid: str) -> None:
        """Power on the dedicated processors of the guest."""
        self._driver.cpu_api.power_up_for_instance(
            self._nova_instance(instance_uuid)
        )

    @contextlib.contextmanager
    def without_devices(
        self, guest: guest_lib.Guest, entry: journal.Entry
    ) -> Iterator[None]:
        """Have Nova detach PCI, SR-IOV and mediated devices for the block."""
        taken = self.devices(guest)
        if not taken.is_any():
            yield
            return
        with entry.undoing(AttachDevices(taken.mediated())):
            taken.detach()
            yield

    def devices(self, guest: guest_lib.Guest) -> devices.Devices:
        """Return the devices of the host that a guest has."""
        return devices.Devices(
            self._driver,
            self._context,
            self._nova_instance(guest.uuid),
            guest,
        )

    def _nova_instance(self, uuid: str) -> Any:
        return self._instance or self._load(uuid, ATTRIBUTES)

    def _load(self, uuid: str, attributes: tuple[str, ...]) -> Any:
        return objects.Instance.get_by_uuid(
            self._context, uuid, expected_attrs=list(attributes)
        )
