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

"""The driver for libvirt: decide, extract, upload."""

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
import os
import pathlib
import uuid

from oslo_log import log as logging
from oslo_utils import uuidutils

from nova_snap import exception
from nova_snap import journal
from nova_snap import progress as progress_lib
from nova_snap.image import api as image_api
from nova_snap.objects import instance as instance_lib
from nova_snap.objects import power_state
from nova_snap.objects import task_state
from nova_snap.virt import decision as decision_lib
from nova_snap.virt import driver
from nova_snap.virt.libvirt import backup_job
from nova_snap.virt.libvirt import block_device
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt import facts
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import hooks as owner_lib
from nova_snap.virt.libvirt import host as host_lib
from nova_snap.virt.libvirt import policy
from nova_snap.virt.libvirt import quiesce
from nova_snap.virt.libvirt import undo_steps
from nova_snap.virt.libvirt.extraction import cold
from nova_snap.virt.libvirt.extraction import context as snapshot_lib
from nova_snap.virt.libvirt.extraction import mirror
from nova_snap.virt.libvirt.extraction import pull
from nova_snap.virt.libvirt.extraction import shared_folder
from nova_snap.virt.storage import disk_source as storage
from nova_snap.virt.storage import qemu_img

LOG = logging.getLogger(__name__)

#: States in which a hypervisor process holds the disk and can't be suspended.
_UNREADABLE_STATES = {
    power_state.PowerState.NOSTATE: 'its state is not known.',
    power_state.PowerState.CRASHED: 'it has crashed; stop or reset it first.',
    power_state.PowerState.SUSPENDED: (
        'it is suspended to memory; wake it up first.'
    ),
}


@dataclasses.dataclass(frozen=True)
class Options:
    """What an operator sets; names as in the configuration.

    ``image_format`` None means the format of the root disk;
    ``reserved_space`` is in bytes, the timeouts in seconds.  A ``pull``
    begins when ``scratch_share`` of what the root disk has allocated, and at
    least ``scratch_minimum`` bytes, are free beyond the reserve.
    """

    snapshots_directory: pathlib.Path
    image_format: str | None = None
    compression: bool = False
    live_disabled: bool = False
    ephemeral_encryption: bool = False
    quiesce_timeout: int = 60
    detach_timeout: int = 20
    reserved_space: int = 0
    live_methods: tuple[decision_lib.Method, ...] = (
        decision_lib.Method.MIRROR,
    )
    streaming: pull.Options = pull.Options()
    scratch_directory: pathlib.Path | None = None
    scratch_share: float = 0.1
    scratch_minimum: int = 0
    ceph_conf: str | None = None


@dataclasses.dataclass(frozen=True)
class LibvirtPlan(driver.Plan):
    """A plan with what it was made from."""

    guest: guest_lib.Guest
    disk: domain_xml.RootDisk
    quiesce: quiesce.Quiesce


class LibvirtDriver(driver.ComputeDriver):
    """The guests of one libvirt connection.

    :param disk_operation_slot: held while an image is converted.
    :param owner: of the guests, besides libvirt.
    """

    def __init__(
        self,
        host: host_lib.Host,
        options: Options,
        disk_operation_slot: snapshot_lib.DiskOperationSlot,
        owner: owner_lib.Owner = owner_lib.NOBODY,
    ) -> None:
        self._host = host
        self._options = options
        self._disk_operation_slot = disk_operation_slot
        self._owner = owner

    def instances(
        self,
    ) -> list[tuple[instance_lib.Instance, power_state.PowerState]]:
        """All guests of this host; one that goes meanwhile is left out."""
        found = []
        for domain_uuid, name in self._host.domain_uuids():
            guest = guest_lib.Guest(self._host, domain_uuid, name)
            with contextlib.suppress(exception.GuestGone):
                instance = domain_xml.nova_instance(guest.xml())
                found.append((instance, guest.power_state()))
        return found

    def instance(self, server: str) -> instance_lib.Instance:
        """The instance with this uuid, Nova name or libvirt name."""
        if uuidutils.is_uuid_like(server):
            return self._instance_by_uuid(str(uuid.UUID(server)), server)
        found = {
            instance.uuid: instance
            for instance, domain_name in self._named_instances()
            if server in (instance.name, domain_name)
        }
        if not found:
            raise exception.InstanceNotFound(server=server)
        if len(found) > 1:
            raise exception.InstanceAmbiguous(
                server=server, uuids=', '.join(sorted(found))
            )
        return next(iter(found.values()))

    def block_devices(
        self, instance: instance_lib.Instance
    ) -> tuple[instance_lib.BlockDevice, ...]:
        """Its disks, as the XML has them now."""
        return domain_xml.block_devices(self._guest(instance).xml())

    def quiescing(
        self,
        instance: instance_lib.Instance,
        image_properties: Mapping[str, str],
    ) -> driver.Quiesced:
        """Freezing by the guest's agent, if it has one."""
        guest = self._guest(instance)
        plan = self._plan_quiesce(guest, image_properties)
        return lambda entry: quiesce.quiesced(guest, plan, entry)

    def explain(
        self, instance: instance_lib.Instance
    ) -> decision_lib.Decision:
        """The decision by what is so now."""
        guest = self._guest(instance)
        decision = self._decide(guest, self._root_disk(guest))
        self._require_suspendable(guest, decision)
        return decision

    def plan(
        self,
        instance: instance_lib.Instance,
        image_properties: Mapping[str, str],
    ) -> driver.Plan:
        """Decide, and look for whatever would make the snapshot fail."""
        guest = self._guest(instance)
        disk = self._root_disk(guest)
        decision = self._decide(guest, disk)
        self._require_suspendable(guest, decision)
        self._require_no_backup(guest)
        self._require_space(guest, disk, decision)
        disk = dataclasses.replace(
            disk, source=qemu_img.with_known_chain(disk.source)
        )
        return LibvirtPlan(
            instance=instance,
            decision=decision,
            disk_format=self._image_format(disk.source),
            virtual_size=self._virtual_size(guest, disk),
            guest=guest,
            disk=disk,
            quiesce=self._plan_quiesce(guest, image_properties),
        )

    def snapshot(
        self,
        plan: driver.Plan,
        image_id: str,
        images: image_api.ImageService,
        entry: journal.Entry,
        progress: progress_lib.Progress,
        update_task_state: driver.UpdateTaskState,
    ) -> None:
        """Extract, and upload."""
        update_task_state(task_state.TaskState.IMAGE_PENDING_UPLOAD)
        with self.extracted(plan, entry, progress) as data:
            update_task_state(task_state.TaskState.IMAGE_UPLOADING)
            images.upload(image_id, data.stream, data.size, data.progress)

    @contextlib.contextmanager
    def extracted(
        self,
        plan: driver.Plan,
        entry: journal.Entry,
        progress: progress_lib.Progress,
    ) -> Iterator[driver.ImageData]:
        """Read the root disk as was decided."""
        if not isinstance(plan, LibvirtPlan):
            raise TypeError('The plan is not one of this driver.')
        decision, options = plan.decision, self._options
        LOG.info(
            'Snapshot of server %(server)s: %(path)s. %(summary)s',
            {
                'server': plan.instance.uuid,
                'path': decision.path,
                'summary': decision.summary,
            },
        )
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(self._folder(plan, entry))
            snapshot = self._snapshot(plan, folder, entry, progress)
            if decision.method is decision_lib.Method.PULL:
                extracted = pull.extracted(snapshot, options.streaming)
            elif decision.method is decision_lib.Method.MIRROR:
                extracted = mirror.extracted(snapshot)
            else:
                extracted = cold.extracted(
                    snapshot, decision.suspends, options.detach_timeout
                )
            yield stack.enter_context(extracted)

    def undoers(self, instance_uuid: str) -> Mapping[str, journal.Undo]:
        """The undoing for a guest, which need not exist any more."""
        guest = guest_lib.Guest(self._host, instance_uuid, instance_uuid)
        return {
            **undo_steps.Undoing(guest, self._owner).undoers(),
            **self._owner.undoers(guest),
        }

    def _snapshot(
        self,
        plan: LibvirtPlan,
        folder: pathlib.Path,
        entry: journal.Entry,
        progress: progress_lib.Progress,
    ) -> snapshot_lib.Snapshot:
        return snapshot_lib.Snapshot(
            guest=plan.guest,
            disk=plan.disk,
            virtual_size=plan.virtual_size,
            image_format=plan.disk_format,
            compress=self._options.compression and plan.disk_format == 'qcow2',
            quiesce=plan.quiesce,
            folder=folder,
            reserved_space=self._options.reserved_space,
            entry=entry,
            progress=progress,
            disk_operation_slot=self._disk_operation_slot,
            owner=self._owner,
        )

    @contextlib.contextmanager
    def _folder(
        self, plan: LibvirtPlan, entry: journal.Entry
    ) -> Iterator[pathlib.Path]:
        """A folder that only QEMU and we can use."""
        folder = self._directory(plan.decision) / str(uuid.uuid4())
        with entry.owing(
            undo_steps.Kind.REMOVE_FOLDER,
            undo_steps.Undoing(plan.guest).remove_folder,
            folder=str(folder),
        ):
            if plan.decision.method is decision_lib.Method.PULL:
                uid = domain_xml.qemu_uid(plan.guest.xml())
                shared_folder.make(
                    folder, os.geteuid() if uid is None else uid
                )
            else:
                folder.mkdir()
                # QEMU may enter it, and nobody may list it.
                folder.chmod(0o701)
            yield folder

    def _directory(self, decision: decision_lib.Decision) -> pathlib.Path:
        """Where the temporary files of a snapshot are."""
        options = self._options
        if decision.method is decision_lib.Method.PULL:
            return options.scratch_directory or options.snapshots_directory
        return options.snapshots_directory

    def _guest(self, instance: instance_lib.Instance) -> guest_lib.Guest:
        return guest_lib.Guest(self._host, instance.uuid, instance.name)

    def _named_instances(
        self,
    ) -> Iterator[tuple[instance_lib.Instance, str]]:
        for domain_uuid, name in self._host.domain_uuids():
            guest = guest_lib.Guest(self._host, domain_uuid, name)
            with contextlib.suppress(exception.GuestGone):
                yield domain_xml.nova_instance(guest.xml()), name

    def _instance_by_uuid(
        self, domain_uuid: str, server: str
    ) -> instance_lib.Instance:
        guest = guest_lib.Guest(self._host, domain_uuid, server)
        try:
            return domain_xml.nova_instance(guest.xml())
        except exception.GuestGone:
            raise exception.InstanceNotFound(server=server) from None

    def _root_disk(self, guest: guest_lib.Guest) -> domain_xml.RootDisk:
        try:
            disk = domain_xml.root_disk(guest.xml())
        except domain_xml.Unsupported as error:
            raise exception.UnsupportedGuest(
                server=guest.uuid, reason=str(error)
            ) from error
        location = disk.source.location
        if isinstance(location, storage.RbdLocation) and not location.conf:
            location = dataclasses.replace(
                location, conf=self._options.ceph_conf
            )
        source = dataclasses.replace(disk.source, location=location)
        return dataclasses.replace(disk, source=source)

    def _decide(
        self, guest: guest_lib.Guest, disk: domain_xml.RootDisk
    ) -> decision_lib.Decision:
        image_format = self._image_format(disk.source)
        found = facts.gather(
            guest,
            disk,
            image_format,
            self._options.ephemeral_encryption,
            self._options.live_disabled,
            self._options.streaming.compression
            if self._is_compressed(image_format)
            else None,
        )
        return policy.decide(found, self._options.live_methods)

    def _plan_quiesce(
        self, guest: guest_lib.Guest, image_properties: Mapping[str, str]
    ) -> quiesce.Quiesce:
        required = driver.requires_quiesce(image_properties)
        return quiesce.plan(guest, required, self._options.quiesce_timeout)

    def _require_suspendable(
        self, guest: guest_lib.Guest, decision: decision_lib.Decision
    ) -> None:
        reason = _UNREADABLE_STATES.get(guest.power_state())
        if decision.suspends and not guest.is_persistent():
            reason = (
                'it would have to be suspended, and libvirt suspends only '
                'persistent guests; define it first ("virsh define").'
            )
        if reason is not None:
            raise exception.UnsupportedGuest(server=guest.uuid, reason=reason)

    def _require_no_backup(self, guest: guest_lib.Guest) -> None:
        """Refuse while another program backs the guest up.

        A mirror begins with blockJobAbort, and that ends a backup, too
        (libvirt 9.0); so does suspending the guest.
        """
        if guest.power_state().is_active and backup_job.is_running(guest):
            raise exception.Conflict(
                f'Another program takes a backup of server {guest.uuid} '
                '(see "virsh domjobinfo"); wait until it has ended, then try '
                'again.'
            )

    def _require_space(
        self,
        guest: guest_lib.Guest,
        disk: domain_xml.RootDisk,
        decision: decision_lib.Decision,
    ) -> None:
        directory = self._directory(decision)
        snapshot_lib.require_directory(directory)
        needed = self._options.reserved_space
        if decision.method is decision_lib.Method.PULL:
            _require_short(directory)
            device = block_device.BlockDevice(guest, disk.device)
            share = self._options.scratch_share * device.allocation()
            needed += max(int(share), self._options.scratch_minimum)
        snapshot_lib.require_space(directory, needed)

    def _image_format(self, source: storage.DiskSource) -> str:
        if self._options.image_format:
            return self._options.image_format
        if source.source_type is storage.SourceType.QCOW2:
            return 'qcow2'
        # As Nova has it: LVM and RBD hold raw bytes.
        return 'raw'

    def _is_compressed(self, image_format: str) -> bool:
        return self._options.compression and image_format == 'qcow2'

    def _virtual_size(
        self, guest: guest_lib.Guest, disk: domain_xml.RootDisk
    ) -> int:
        if guest.power_state().is_active or disk.source.type == 'block':
            # A block device may be libvirt's to read and not ours.
            device = block_device.BlockDevice(guest, disk.device)
            return device.virtual_size()
        return qemu_img.info(disk.source).virtual_size


def _require_short(directory: pathlib.Path) -> None:
    """Refuse a directory in which the path of a socket gets too long."""
    if not backup_job.is_short_enough(directory):
        raise exception.InvalidConfiguration(
            option='[snapshot] scratch_directory',
            reason=f'{directory} is too long for the sockets in it; choose '
            'one with a shorter path.',
        )
