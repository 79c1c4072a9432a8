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

"""The driver for libvirt: decides how guests are read, and plans.

Open this file for the checks that are made before a snapshot begins.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import itertools

from oslo_log import log as logging

from nova_snap import exception
from nova_snap.objects import host_details
from nova_snap.objects import instance as instance_lib
from nova_snap.objects import instance_details
from nova_snap.objects import power_state
from nova_snap.virt import creation as creation_lib
from nova_snap.virt import decision as decision_lib
from nova_snap.virt import driver
from nova_snap.virt.libvirt import block_device
from nova_snap.virt.libvirt import details as details_lib
from nova_snap.virt.libvirt import disk_set
from nova_snap.virt.libvirt import disk_xml
from nova_snap.virt.libvirt import facts
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import hooks as hooks_lib
from nova_snap.virt.libvirt import host as host_lib
from nova_snap.virt.libvirt import inspection as inspection_lib
from nova_snap.virt.libvirt import lookup
from nova_snap.virt.libvirt import new_guest
from nova_snap.virt.libvirt import plan as plan_lib
from nova_snap.virt.libvirt import plan_checks
from nova_snap.virt.libvirt import policy
from nova_snap.virt.libvirt import power as power_lib
from nova_snap.virt.libvirt import quiesce
from nova_snap.virt.libvirt import rebuild as rebuild_lib
from nova_snap.virt.libvirt import root_disk
from nova_snap.virt.libvirt import undo_steps
from nova_snap.virt.libvirt.extraction import context as context_lib
from nova_snap.virt.libvirt.extraction import rbd_direct
from nova_snap.virt.libvirt.snapshots import domain_snapshots
from nova_snap.virt.storage import disk_source as storage
from nova_snap.virt.storage import qemu_img
from nova_snap.virt.storage import rbd

LOG = logging.getLogger(__name__)


class LibvirtDriver(driver.ComputeDriver):
    """The driver for the guests of one libvirt connection.

    :param disk_operation_slot: held while an image is converted.
    :param hooks: of the program that owns the guests.
    :param timeouts: of guests that are asked to shut down.
    """

    def __init__(
        self,
        host: host_lib.Host,
        options: plan_lib.Options,
        disk_operation_slot: context_lib.DiskOperationSlot,
        hooks: hooks_lib.Hooks = hooks_lib.NONE,
        timeouts: power_lib.Timeouts = power_lib.DEFAULT,
    ) -> None:
        self._host = host
        self._options = options
        self._disk_operation_slot = disk_operation_slot
        self._hooks = hooks
        self._timeouts = timeouts

    def instances(
        self,
    ) -> list[tuple[instance_lib.Instance, power_state.PowerState]]:
        """Return all guests of this host, without those deleted meanwhile."""
        return lookup.instances(self._host)

    def instance(self, server: str) -> instance_lib.Instance:
        """Return the instance with this uuid, libvirt name or Nova name."""
        return lookup.find(self._host, server)

    def all_details(self) -> list[instance_details.InstanceDetails]:
        """Return what libvirt and Nova's metadata say of all guests."""
        return details_lib.read_all(self._host)

    def details(self, instance_uuid: str) -> instance_details.InstanceDetails:
        """Return what libvirt and Nova's metadata say of a guest."""
        return details_lib.read(self._host, instance_uuid)

    def host_details(self) -> host_details.HostDetails:
        """Return what libvirt says of this host."""
        return self._host.details()

    def block_devices(
        self, instance: instance_lib.Instance
    ) -> tuple[instance_lib.BlockDevice, ...]:
        """Return the disks of an instance, as in its current XML.

        If the request is about several disks, return these.
        """
        disks = disk_xml.disks(
            self._guest(instance).xml(),
            inspection_lib.volume_finder(self._host),
        )
        with _unsupported(instance):
            if instance.disks.is_several:
                wanted = disk_set.choose(disks, instance.disks).wanted
            else:
                wanted = tuple(
                    root_disk.hard_disks(disks, instance.disks.root)
                )
        return tuple(map(_block_device, wanted))

    def rbd_root_disk(
        self, instance: instance_lib.Instance
    ) -> storage.RbdLocation | None:
        """Return where the root disk of an instance is, if that is Ceph."""
        found = inspection_lib.inspect(self._guest(instance))
        location = self._disks(instance, found).root.disk.source.location
        return location if isinstance(location, storage.RbdLocation) else None

    def quiescing(
        self,
        instance: instance_lib.Instance,
        image_properties: Mapping[str, str],
    ) -> driver.Quiesced:
        """Return a function that freezes a guest by its agent."""
        found = inspection_lib.inspect(self._guest(instance))
        plan = self._plan_quiesce(found, image_properties)
        return lambda entry, progress: quiesce.quiesced(
            found.guest, plan, entry, progress, limit=None
        )

    def explain(
        self, instance: instance_lib.Instance
    ) -> decision_lib.Decision:
        """Decide by the current state of the guest."""
        found = inspection_lib.inspect(self._guest(instance))
        chosen = self._disks(instance, found)
        decision = self._decide(found, chosen)
        plan_checks.require_suspendable(found, decision)
        for disk in chosen.disks:
            self._completed(disk, decision)
        return decision

    def plan(
        self,
        instance: instance_lib.Instance,
        image_properties: Mapping[str, str],
    ) -> plan_lib.LibvirtPlan:
        """Decide, and check everything that could make the snapshot fail."""
        if instance.disks.if_live:
            return self._plan_if_live(instance, image_properties)
        return self._plan(instance, image_properties)

    def _plan_if_live(
        self,
        instance: instance_lib.Instance,
        image_properties: Mapping[str, str],
    ) -> plan_lib.LibvirtPlan:
        """Plan for all disks, unless the guest would suffer from that."""
        every: plan_lib.LibvirtPlan | None = None
        try:
            every = self._plan(instance, image_properties)
            reason = every.decision.summary
        except exception.UnsupportedGuest as error:
            reason = str(error)
        if every is not None and not every.decision.suspends:
            return every
        disks = dataclasses.replace(instance.disks, is_every=False)
        root_only = dataclasses.replace(instance, disks=disks)
        plan = self._plan(root_only, image_properties)
        if every is not None and plan.decision.suspends:
            return every  # the root disk alone takes a suspension, too
        _warn_of_root_only(instance, reason)
        return plan

    def _plan(
        self,
        instance: instance_lib.Instance,
        image_properties: Mapping[str, str],
        *excluded: decision_lib.Method,
    ) -> plan_lib.LibvirtPlan:
        found = inspection_lib.inspect(self._guest(instance))
        chosen = self._disks(instance, found)
        decision = self._decide(found, chosen, *excluded)
        plan_checks.require_suspendable(found, decision)
        plan_checks.require_no_backup(found)
        if found.power_state.is_active:
            quiesce.require_no_job(found.guest)
        self._require_no_block_job(found, chosen.disks, decision)
        share = self._required_share(found, chosen.disks, decision)
        disks = tuple(self._completed(disk, decision) for disk in chosen.disks)
        if decision.method is None:
            for secret in itertools.chain(*(d.source.secrets for d in disks)):
                self._host.secret(secret)  # raises
        if decision.suspends:
            self._require_room_for(disks, decision)
        return plan_lib.LibvirtPlan(
            instance=instance,
            decision=decision,
            images=tuple(self._image(found, disk) for disk in disks),
            guest=found,
            disks=disks,
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
        plan_checks.require_no_data_file(disk, decision)
        reader = self._options.chain_reader
        return disk.with_source(reader.completed(disk.source))

    def power(self, instance: instance_lib.Instance) -> power_lib.LibvirtPower:
        """Return what changes the power of a guest."""
        directory, *_scratch = self._options.directories()
        guest = self._guest(instance)
        return power_lib.LibvirtPower(guest, self._timeouts, directory)

    def creation(
        self, instance: instance_lib.Instance, wanted: creation_lib.Wanted
    ) -> new_guest.NewGuest:
        """Check whether a guest can be made of images."""
        return new_guest.planned(
            self._host, instance, wanted, self._options.reserved_space
        )

    def rebuild(
        self, instance: instance_lib.Instance, includes_nova: bool = False
    ) -> rebuild_lib.LibvirtRebuild:
        """Return what replaces the disks of a guest."""
        directory, *_scratch = self._options.directories()
        return rebuild_lib.LibvirtRebuild(
            self._guest(instance),
            rebuild_lib.Options(
                directory,
                self._options.reserved_space,
                self._timeouts.stop,
                includes_nova,
            ),
        )

    def domain_snapshots(
        self, instance: instance_lib.Instance
    ) -> domain_snapshots.LibvirtDomainSnapshots:
        """Return the domain snapshots of a guest."""
        return domain_snapshots.LibvirtDomainSnapshots(
            self._guest(instance), self._options
        )

    def resources(self, instance_uuid: str) -> Sequence[object]:
        """Return what the undo steps of a guest work on.

        The guest need not exist any more.
        """
        guest = guest_lib.Guest(self._host, instance_uuid, instance_uuid)
        folders = undo_steps.Folders(self._options.directories())
        found = (guest, folders, self._hooks, self._options.chain_reader)
        store = self._options.firmware
        return found if store is None else (*found, store)

    def _guest(self, instance: instance_lib.Instance) -> guest_lib.Guest:
        return guest_lib.Guest(self._host, instance.uuid, instance.name)

    def _disks(
        self,
        instance: instance_lib.Instance,
        found: inspection_lib.Inspection,
    ) -> disk_set.DiskSet:
        with _unsupported(instance):
            chosen = disk_set.choose(found.disks, instance.disks)
        root = dataclasses.replace(
            chosen.root, disk=self._configured(chosen.root.disk)
        )
        return dataclasses.replace(
            chosen,
            root=root,
            further=tuple(map(self._configured, chosen.further)),
        )

    def _configured(self, disk: disk_xml.Disk) -> disk_xml.Disk:
        """Return the disk with what only the configuration knows of it."""
        if disk.readable is None:
            return disk  # a volume that Cinder alone can reach
        location = disk.source.location
        if isinstance(location, storage.RbdLocation):
            location = self._options.completed(location)
        source = dataclasses.replace(disk.source, location=location)
        return disk.with_source(source)

    def _decide(
        self,
        found: inspection_lib.Inspection,
        chosen: disk_set.DiskSet,
        *excluded: decision_lib.Method,
    ) -> decision_lib.Decision:
        is_asked = bool(self._options.rbd.pool and chosen.is_set_in_ceph)
        can_be_still = not is_asked or quiesce.can_be_still(found)
        first, *further = (
            self._facts(found, chosen, disk, can_be_still)
            for disk in chosen.disks
        )
        methods = [
            method
            for method in self._options.methods(first.source_type)
            if method not in excluded
        ]
        decision = policy.decide(first, methods, further)
        known = policy.known(first)
        which = decision_lib.Reason(
            fact='root disk',
            value=chosen.root.disk.device,
            allows=known,
            meaning=chosen.root.reason,
        )
        return dataclasses.replace(
            decision,
            reasons=(which, *decision.reasons, *_left_out(chosen, known)),
        )

    def _facts(
        self,
        found: inspection_lib.Inspection,
        chosen: disk_set.DiskSet,
        disk: disk_xml.Disk,
        can_be_still: bool,
    ) -> policy.Facts:
        image_format = self._image_format(disk.source)
        is_root = disk == chosen.root.disk
        return facts.gather(
            found,
            disk,
            image_format,
            self._options,
            None
            if chosen.further and not chosen.is_set_in_ceph
            else facts.rbd_facts(found, disk, self._options.rbd.pool),
            'root disk' if is_root else f'disk {disk.device}',
            can_be_still,
        )

    def _image(
        self, found: inspection_lib.Inspection, disk: disk_xml.Disk
    ) -> driver.DiskImage:
        return driver.DiskImage(
            device=disk.device,
            format=self._image_format(disk.source),
            virtual_size=_virtual_size(found, disk),
        )

    def _plan_quiesce(
        self,
        found: inspection_lib.Inspection,
        image_properties: Mapping[str, str],
    ) -> quiesce.Quiesce:
        required = driver.requires_quiesce(image_properties)
        return quiesce.plan(found, required, self._options.quiesce_timeout)

    def _require_no_block_job(
        self,
        found: inspection_lib.Inspection,
        disks: Sequence[disk_xml.Disk],
        decision: decision_lib.Decision,
    ) -> None:
        """Raise if another program's block job runs on one of the disks.

        A mirror would end that job, and libvirt saves no guest that has one.
        """
        if decision.method is decision_lib.Method.MIRROR or decision.suspends:
            for disk in disks:
                device = block_device.BlockDevice(found.guest, disk.device)
                device.require_no_foreign_job(self._options.directories()[0])

    def _required_share(
        self,
        found: inspection_lib.Inspection,
        disks: Sequence[disk_xml.Disk],
        decision: decision_lib.Decision,
    ) -> int:
        """Return the bytes that an extraction may take, if they are free."""
        if decision.method is decision_lib.Method.RBD_DIRECT:
            return 0
        directory, share = self._options.directory(decision.method), 0
        context_lib.require_directory(directory)
        if decision.method is decision_lib.Method.PULL:
            allocated = sum(
                block_device.BlockDevice(found.guest, d.device).allocation()
                for d in disks
            )
            share = max(
                int(self._options.scratch_share * allocated),
                self._options.scratch_minimum,
            )
        self._options.space().require_to_begin(directory, share)
        return share

    def _require_room_for(
        self,
        disks: Sequence[disk_xml.Disk],
        decision: decision_lib.Decision,
    ) -> None:
        """Raise if the images of disks are too large for the free space.

        Else a guest would be suspended until that is noticed, for nothing.
        How much a compressed image takes is not known.
        """
        needed = sum(
            qemu_img.flat_size(disk.source) or 0
            for disk in disks
            if not self._options.compresses(
                self._image_format(disk.source), decision.method
            )
        )
        directory = self._options.directory(decision.method)
        self._options.space().require_to_begin(directory, needed)

    def _image_format(self, source: storage.DiskSource) -> str:
        return storage.disk_format(
            source.source_type, self._options.image_format
        )


def _warn_of_root_only(instance: instance_lib.Instance, reason: str) -> None:
    LOG.warning(
        'Server %(server)s: an image is made of its root disk only. For all '
        'of its disks: %(reason)s',
        {'server': instance.uuid, 'reason': reason},
        instance_uuid=instance.uuid,
    )


@contextlib.contextmanager
def _unsupported(instance: instance_lib.Instance) -> Iterator[None]:
    """Turn Unsupported, of a disk, into UnsupportedGuest."""
    try:
        yield
    except disk_xml.Unsupported as error:
        raise exception.UnsupportedGuest(
            server=instance.uuid, reason=str(error)
        ) from error


def _left_out(
    chosen: disk_set.DiskSet, known: frozenset[decision_lib.Method]
) -> Iterator[decision_lib.Reason]:
    """Yield the disks of which no image is made, which forbid no method."""
    for left in chosen.left_out:
        yield decision_lib.Reason(
            fact=f'disk {left.disk.device}',
            value='left out',
            allows=known,
            meaning=left.reason,
        )


def _block_device(disk: disk_xml.Disk) -> instance_lib.BlockDevice:
    return instance_lib.BlockDevice(
        name=disk.device,
        bus=disk.bus,
        device_type=disk.kind,
        volume_id=disk.volume_id,
        in_file=disk.type == 'file',
    )


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
