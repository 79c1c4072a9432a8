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

"""The driver for libvirt: finds guests, decides and plans.

Open this file for the checks that are made before a snapshot begins.
"""

from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import pathlib
import uuid

from oslo_log import log as logging
from oslo_utils import uuidutils

from nova_snap import exception
from nova_snap.objects import instance as instance_lib
from nova_snap.objects import power_state
from nova_snap.virt import decision as decision_lib
from nova_snap.virt import driver
from nova_snap.virt.libvirt import backup_job
from nova_snap.virt.libvirt import block_device
from nova_snap.virt.libvirt import disk_xml
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt import facts
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import hooks as hooks_lib
from nova_snap.virt.libvirt import host as host_lib
from nova_snap.virt.libvirt import inspection as inspection_lib
from nova_snap.virt.libvirt import plan as plan_lib
from nova_snap.virt.libvirt import policy
from nova_snap.virt.libvirt import quiesce
from nova_snap.virt.libvirt import requirements
from nova_snap.virt.libvirt import root_disk
from nova_snap.virt.libvirt import undo_steps
from nova_snap.virt.libvirt.extraction import context as context_lib
from nova_snap.virt.libvirt.extraction import rbd_direct
from nova_snap.virt.storage import disk_source as storage
from nova_snap.virt.storage import qemu_img
from nova_snap.virt.storage import rbd

LOG = logging.getLogger(__name__)

#: States in which QEMU has the disk open and can't be suspended.
_UNREADABLE_STATES = {
    power_state.PowerState.NOSTATE: 'its state is not known.',
    power_state.PowerState.CRASHED: 'it has crashed; stop or reset it first.',
    power_state.PowerState.SUSPENDED: (
        'it is suspended to memory; wake it up first.'
    ),
}


class LibvirtDriver(driver.ComputeDriver):
    """The driver for the guests of one libvirt connection.

    :param disk_operation_slot: held while an image is converted.
    :param hooks: of the program that owns the guests.
    """

    def __init__(
        self,
        host: host_lib.Host,
        options: plan_lib.Options,
        disk_operation_slot: context_lib.DiskOperationSlot,
        hooks: hooks_lib.Hooks = hooks_lib.NONE,
    ) -> None:
        self._host = host
        self._options = options
        self._disk_operation_slot = disk_operation_slot
        self._hooks = hooks

    def instances(
        self,
    ) -> list[tuple[instance_lib.Instance, power_state.PowerState]]:
        """Return all guests of this host, without those deleted meanwhile."""
        found = []
        for domain_uuid, name in self._host.domain_uuids():
            guest = guest_lib.Guest(self._host, domain_uuid, name)
            with contextlib.suppress(exception.GuestGone):
                instance = domain_xml.nova_instance(guest.xml())
                found.append((instance, guest.power_state()))
        return found

    def instance(self, server: str) -> instance_lib.Instance:
        """Return the instance with this uuid, libvirt name or Nova name.

        Users choose the names in Nova, so an ID is none of them: a name may
        not keep others from finding a guest by its ID.
        """
        if uuidutils.is_uuid_like(server):
            wanted = str(uuid.UUID(server))
            uuids = {
                domain_uuid
                for domain_uuid, name in self._host.domain_uuids()
                if domain_uuid == wanted or name == server
            }
            if uuids:
                return self._instance_by_uuid(_only(uuids, server))
        found = {
            instance.uuid: instance
            for instance, domain_name in self._named_instances()
            if server in (instance.name, domain_name)
        }
        if not found:
            raise exception.InstanceNotFound(server=server)
        return found[_only(found, server)]

    def block_devices(
        self, instance: instance_lib.Instance
    ) -> tuple[instance_lib.BlockDevice, ...]:
        """Return the disks of an instance, as in its current XML."""
        disks = disk_xml.disks(
            self._guest(instance).xml(),
            inspection_lib.volume_finder(self._host),
        )
        with _unsupported(instance):
            hard = root_disk.hard_disks(disks, instance.root_device)
        return tuple(map(_block_device, hard))

    def quiescing(
        self,
        instance: instance_lib.Instance,
        image_properties: Mapping[str, str],
    ) -> driver.Quiesced:
        """Return a function that freezes a guest by its agent."""
        found = inspection_lib.inspect(self._guest(instance))
        plan = self._plan_quiesce(found, image_properties)
        return lambda entry: quiesce.quiesced(
            found.guest, plan, entry, limit=None
        )

    def explain(
        self, instance: instance_lib.Instance
    ) -> decision_lib.Decision:
        """Decide by the current state of the guest."""
        found = inspection_lib.inspect(self._guest(instance))
        choice = self._root_disk(instance, found)
        decision = self._decide(found, choice)
        self._require_suspendable(found, decision)
        self._completed(choice.disk, decision)
        return decision

    def plan(
        self,
        instance: instance_lib.Instance,
        image_properties: Mapping[str, str],
    ) -> plan_lib.LibvirtPlan:
        """Decide, and check everything that could make the snapshot fail."""
        return self._plan(instance, image_properties)

    def _plan(
        self,
        instance: instance_lib.Instance,
        image_properties: Mapping[str, str],
        *excluded: decision_lib.Method,
    ) -> plan_lib.LibvirtPlan:
        found = inspection_lib.inspect(self._guest(instance))
        choice = self._root_disk(instance, found)
        decision = self._decide(found, choice, *excluded)
        disk = choice.disk
        self._require_suspendable(found, decision)
        _require_no_backup(found)
        if found.power_state.is_active:
            quiesce.require_no_job(found.guest)
        self._require_no_block_job(found, disk, decision)
        share = self._required_share(found, disk, decision)
        disk = self._completed(disk, decision)
        if decision.method is None:
            for secret in disk.source.secrets:
                self._host.secret(secret)  # raises
        return plan_lib.LibvirtPlan(
            instance=instance,
            decision=decision,
            disk_format=self._image_format(disk.source),
            virtual_size=_virtual_size(found, disk),
            guest=found,
            disk=disk,
            share=share,
            quiesce=self._plan_quiesce(found, image_properties),
            options=self._options,
            disk_operation_slot=self._disk_operation_slot,
            hooks=self._hooks,
            without=lambda method: self._plan(
                instance, image_properties, *excluded, method
            ),
        )

    def _completed(
        self, disk: disk_xml.Disk, decision: decision_lib.Decision
    ) -> disk_xml.Disk:
        """Return the disk with all its layers.

        :raises UnsafeDisk: a header names what it may not name.
        """
        _require_no_data_file(disk, decision)
        reader = self._options.chain_reader
        return disk.with_source(reader.completed(disk.source))

    def resources(self, instance_uuid: str) -> Sequence[object]:
        """Return what the undo steps of a guest work on.

        The guest need not exist any more.
        """
        guest = guest_lib.Guest(self._host, instance_uuid, instance_uuid)
        folders = undo_steps.Folders(self._options.directories())
        return guest, folders, self._hooks

    def _guest(self, instance: instance_lib.Instance) -> guest_lib.Guest:
        return guest_lib.Guest(self._host, instance.uuid, instance.name)

    def _named_instances(
        self,
    ) -> Iterator[tuple[instance_lib.Instance, str]]:
        for domain_uuid, name in self._host.domain_uuids():
            guest = guest_lib.Guest(self._host, domain_uuid, name)
            with contextlib.suppress(exception.GuestGone):
                yield domain_xml.nova_instance(guest.xml()), name

    def _instance_by_uuid(self, domain_uuid: str) -> instance_lib.Instance:
        guest = guest_lib.Guest(self._host, domain_uuid, domain_uuid)
        try:
            return domain_xml.nova_instance(guest.xml())
        except exception.GuestGone:
            raise exception.InstanceNotFound(server=domain_uuid) from None

    def _root_disk(
        self,
        instance: instance_lib.Instance,
        found: inspection_lib.Inspection,
    ) -> root_disk.Choice:
        with _unsupported(instance):
            choice = root_disk.choose(found.disks, instance.root_device)
        disk = choice.disk
        location = disk.source.location
        if isinstance(location, storage.RbdLocation):
            location = self._options.completed(location)
        source = dataclasses.replace(disk.source, location=location)
        return dataclasses.replace(choice, disk=disk.with_source(source))

    def _decide(
        self,
        found: inspection_lib.Inspection,
        choice: root_disk.Choice,
        *excluded: decision_lib.Method,
    ) -> decision_lib.Decision:
        disk = choice.disk
        methods = [
            method
            for method in self._options.methods(disk.source.source_type)
            if method not in excluded
        ]
        image_format = self._image_format(disk.source)
        gathered = facts.gather(
            found,
            disk,
            image_format,
            self._options.ephemeral_encryption,
            self._options.live_disabled,
            self._options.streaming.compression
            if self._is_compressed(image_format)
            else None,
            self._options.rbd.pool,
        )
        decision = policy.decide(gathered, methods)
        which = decision_lib.Reason(
            fact='root disk',
            value=disk.device,
            allows=policy.known(gathered),
            meaning=choice.reason,
        )
        return dataclasses.replace(
            decision, reasons=(which, *decision.reasons)
        )

    def _plan_quiesce(
        self,
        found: inspection_lib.Inspection,
        image_properties: Mapping[str, str],
    ) -> quiesce.Quiesce:
        required = driver.requires_quiesce(image_properties)
        return quiesce.plan(found, required, self._options.quiesce_timeout)

    def _require_suspendable(
        self,
        found: inspection_lib.Inspection,
        decision: decision_lib.Decision,
    ) -> None:
        reason = _UNREADABLE_STATES.get(found.power_state)
        if reason is None and decision.suspends:
            reason = _why_not_suspended(found, decision)
        if reason is not None:
            raise exception.UnsupportedGuest(
                server=found.guest.uuid, reason=reason
            )
        if decision.suspends:
            requirements.require(
                found.guest, found.xml, _without_suspending(decision)
            )

    def _require_no_block_job(
        self,
        found: inspection_lib.Inspection,
        disk: disk_xml.Disk,
        decision: decision_lib.Decision,
    ) -> None:
        """Raise if another program's block job runs on the disk.

        A mirror would end that job, and libvirt saves no guest that has one.
        """
        if decision.method is decision_lib.Method.MIRROR or decision.suspends:
            device = block_device.BlockDevice(found.guest, disk.device)
            device.require_no_foreign_job(self._options.directories()[0])

    def _required_share(
        self,
        found: inspection_lib.Inspection,
        disk: disk_xml.Disk,
        decision: decision_lib.Decision,
    ) -> int:
        """Return the bytes that an extraction may take, if they are free."""
        if decision.method is decision_lib.Method.RBD_DIRECT:
            return 0
        directory, share = self._options.directory(decision), 0
        context_lib.require_directory(directory)
        if decision.method is decision_lib.Method.PULL:
            _require_short(directory)
            device = block_device.BlockDevice(found.guest, disk.device)
            share = max(
                int(self._options.scratch_share * device.allocation()),
                self._options.scratch_minimum,
            )
        self._options.space().require_to_begin(directory, share)
        return share

    def _image_format(self, source: storage.DiskSource) -> str:
        return storage.disk_format(
            source.source_type, self._options.image_format
        )

    def _is_compressed(self, image_format: str) -> bool:
        return self._options.compression and image_format == 'qcow2'


@contextlib.contextmanager
def _unsupported(instance: instance_lib.Instance) -> Iterator[None]:
    """Turn Unsupported, of a disk, into UnsupportedGuest."""
    try:
        yield
    except disk_xml.Unsupported as error:
        raise exception.UnsupportedGuest(
            server=instance.uuid, reason=str(error)
        ) from error


def _only(uuids: Collection[str], server: str) -> str:
    """Return the only uuid.

    :raises InstanceAmbiguous: there are several.
    """
    if len(uuids) > 1:
        raise exception.InstanceAmbiguous(
            server=server, uuids=', '.join(sorted(uuids))
        )
    return next(iter(uuids))


def _block_device(disk: disk_xml.Disk) -> instance_lib.BlockDevice:
    return instance_lib.BlockDevice(
        name=disk.device,
        bus=disk.bus,
        device_type=disk.kind,
        volume_id=disk.volume_id,
        in_file=disk.type == 'file',
    )


def _require_no_backup(found: inspection_lib.Inspection) -> None:
    """Raise Conflict if another program's backup of the guest runs.

    blockJobAbort before a mirror would end a backup, too (libvirt 9.0), and
    so would suspending the guest.
    """
    if found.has_backup_job:
        raise exception.Conflict(
            'Another program takes a backup of server '
            f'{found.guest.uuid} (see "virsh domjobinfo"); wait until it has '
            'ended, then try again.'
        )


def _why_not_suspended(
    found: inspection_lib.Inspection, decision: decision_lib.Decision
) -> str | None:
    """Return a sentence on why a guest can't be suspended, or None."""
    for disk in found.disks:
        if disk.is_transient:
            return (
                f'libvirt neither copies a transient disk ({disk.device}, '
                '<transient/>) of a running guest, nor suspends such a guest; '
                'shut it off first.'
            )
    if not found.is_persistent:
        return (
            'it would have to be suspended, and libvirt suspends only '
            'persistent guests; define it first ("virsh define").'
        )
    if found.has_saved_memory:
        advice = _without_suspending(decision)
        return (
            'it would have to be suspended, which would overwrite the memory '
            'of an earlier run that libvirt keeps. If nobody needs that, '
            f'remove it ("virsh managedsave-remove {found.guest.uuid}"). '
            f'{advice}'
        ).rstrip()
    return None


def _without_suspending(decision: decision_lib.Decision) -> str:
    """Return a sentence that names live methods to configure, or ''."""
    methods = sorted(decision.alternatives)
    if not methods:
        return ''
    return (
        f'With [snapshot] live_method = {" or ".join(methods)} it would keep '
        'running.'
    )


def _require_no_data_file(
    disk: disk_xml.Disk, decision: decision_lib.Decision
) -> None:
    """Raise now if qemu-img would refuse a layer later; see ``qemu_img``."""
    match decision.method:
        case decision_lib.Method.PULL | decision_lib.Method.RBD_DIRECT:
            return  # QEMU reads all of the disk, or nobody does
        case decision_lib.Method.MIRROR:
            source = disk.source.backing
        case _:
            source = disk.source
    if source is not None:
        qemu_img.require_no_data_file(source, is_in_use=True)


def _virtual_size(
    found: inspection_lib.Inspection, disk: disk_xml.Disk
) -> int:
    if found.power_state.is_active or disk.source.type == 'block':
        # Only libvirt may have the permission to read a block device.
        device = block_device.BlockDevice(found.guest, disk.device)
        return device.virtual_size()
    location = disk.source.location
    if (
        isinstance(location, storage.RbdLocation)
        and disk.source.format == 'raw'
        and rbd.is_installed()
    ):
        # qemu-img would wait for five minutes for a Ceph that is gone.
        return rbd_direct.size(found.guest, location)
    return qemu_img.info(disk.source).virtual_size


def _require_short(directory: pathlib.Path) -> None:
    """Raise if the path of a socket in the directory would be too long."""
    if not backup_job.is_short_enough(directory):
        raise exception.InvalidConfiguration(
            option='[snapshot] scratch_directory',
            reason=f'{directory} is too long for the sockets in it; choose '
            'one with a shorter path.',
        )
