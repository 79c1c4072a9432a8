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

"""Planning a domain snapshot: the facts, and the names of its new files.

Open this file to see what is looked at before anything is changed; what
follows from it is in ``policy.py``.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import os
import pathlib
import time

from oslo_utils import units

from nova_snap import exception
from nova_snap.virt import domain_snapshot
from nova_snap.virt.libvirt import block_device
from nova_snap.virt.libvirt import disk_xml
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import inspection as inspection_lib
from nova_snap.virt.libvirt import plan as plan_lib
from nova_snap.virt.libvirt import quiesce
from nova_snap.virt.libvirt import root_disk
from nova_snap.virt.libvirt.snapshots import calls
from nova_snap.virt.libvirt.snapshots import creation
from nova_snap.virt.libvirt.snapshots import firmware_state
from nova_snap.virt.libvirt.snapshots import policy
from nova_snap.virt.storage import qemu_img

#: Bytes that have to be free for a new overlay, which is empty at first.
OVERLAY_SIZE = 1 * units.Mi

#: Bytes of the name of a file; what Linux allows.
MAX_FILE_NAME = 255


def plan(
    guest: guest_lib.Guest,
    options: plan_lib.Options,
    request: domain_snapshot.Request,
) -> creation.LibvirtCreation:
    """Read a guest, and plan a domain snapshot.

    :raises DomainSnapshotRefused: with all reasons.
    :raises NotEnoughSpace: there is no room.
    """
    found = inspection_lib.inspect(guest)
    name = request.name or str(int(time.time()))
    _require_name(request, name)
    disks = _chosen(found, request) if request.has_disks else []
    files = _new_files(found, disks, request, name)
    others = _firmware(found, options, request)
    readable = firmware_state.read(others)
    facts = dataclasses.replace(
        _facts(found, disks, files, request, name),
        keeps_nvram=firmware_state.NVRAM in readable,
        keeps_tpm=firmware_state.TPM in readable,
    )
    _refuse(guest, request, name, facts)
    _require_room(found, options, files, request, disks)
    freezing = quiesce.plan(
        found, required=request.quiesces, timeout=options.quiesce_timeout
    )
    return creation.LibvirtCreation(
        request=request,
        snapshot_name=name,
        found=found,
        disks=tuple(disks),
        files=files,
        freezing=freezing,
        notes=policy.notes(request, facts),
        firmware=others,
        store=options.firmware,
    )


def _firmware(
    found: inspection_lib.Inspection,
    options: plan_lib.Options,
    request: domain_snapshot.Request,
) -> firmware_state.Files:
    """Return the files of the firmware and the TPM that are kept."""
    if (
        found.power_state.is_active
        or request.is_internal
        or options.firmware is None
    ):
        return {}
    return firmware_state.files(found.guest, found.xml)


def _refuse(
    guest: guest_lib.Guest,
    request: domain_snapshot.Request,
    name: str,
    facts: policy.Facts,
) -> None:
    reasons = policy.refusals(request, facts)
    if reasons:
        raise exception.DomainSnapshotRefused(
            action='take',
            name=name,
            server=guest.uuid,
            reason='; '.join(reasons) + '.',
        )


def _require_name(request: domain_snapshot.Request, name: str) -> None:
    """Raise unless a name can be one of a file, as libvirt makes it one."""
    if request.is_internal and policy.is_number_of_qemu(name):
        raise exception.Invalid(
            f'{name!r} cannot be the name of an internal domain snapshot: '
            'QEMU may take it for the number of another one.'
        )
    if (
        not name.isprintable()
        or not 0 < len(name.encode()) <= policy.MAX_NAME
        or name.startswith(('.', '-'))
        or '/' in name
    ):
        raise exception.Invalid(
            f'{name!r} cannot be the name of a domain snapshot: it becomes '
            f'part of the names of files (at most {policy.MAX_NAME} bytes, no '
            '"/", and not beginning with "." or "-").'
        )


def _chosen(
    found: inspection_lib.Inspection, request: domain_snapshot.Request
) -> list[disk_xml.Disk]:
    """Return the disks that are asked for, else all that can be written."""
    return [
        disk
        for disk in root_disk.hard_disks(found.disks)
        if (
            disk.device in request.devices
            if request.devices
            else not disk.is_readonly
        )
    ]


def _facts(
    found: inspection_lib.Inspection,
    disks: Sequence[disk_xml.Disk],
    files: creation.NewFiles,
    request: domain_snapshot.Request,
    name: str,
) -> policy.Facts:
    guest, state = found.guest, found.power_state
    root = domain_xml.parse(found.xml)
    hard_disks = {d.device for d in root_disk.hard_disks(found.disks)}
    devices = domain_xml.passthrough_devices(found.xml)
    return policy.Facts(
        power_state=state,
        libvirt_version=guest.host.libvirt_version(),
        disks=tuple(
            dataclasses.replace(
                _disk_facts(found, disk),
                has_internal=request.is_internal and _has_internal(disk, name),
            )
            for disk in disks
        ),
        is_of_nova=domain_xml.nova_element(root) is not None,
        is_persistent=found.is_persistent,
        unknown_devices=tuple(
            device for device in request.devices if device not in hard_disks
        ),
        left_out=tuple(
            disk.device
            for disk in root_disk.hard_disks(found.disks)
            if disk not in disks and not disk.is_readonly
        ),
        host_devices=tuple(device.address for device in devices),
        has_uefi=domain_xml.has_uefi(found.xml),
        nvram_format=domain_xml.nvram_format(found.xml),
        has_tpm=domain_xml.has_tpm(found.xml),
        has_checkpoints=calls.has_checkpoints(guest),
        has_saved_memory=guest.has_managed_save() or found.has_saved_memory,
        has_job=found.has_backup_job
        or (state.is_active and guest.job() is not None),
        unfreezable=_unfreezable(found) if request.quiesces else '',
        existing=tuple(_existing(guest, files, name)),
    )


def _unfreezable(found: inspection_lib.Inspection) -> str:
    if not found.power_state.is_active:
        return 'it does not run.'
    return quiesce.hindrance(found) or ''


def _existing(
    guest: guest_lib.Guest, files: creation.NewFiles, name: str
) -> Iterator[str]:
    if name in calls.names(guest):
        yield f'it has a domain snapshot {name}'
    for path in files.paths:
        if len(os.fsencode(path.name)) > MAX_FILE_NAME:
            yield f'the name {path.name} of a new file would be too long'
        elif os.path.lexists(path):
            yield f'{path} exists'
    if len(set(files.paths)) < len(files.paths):
        yield 'two new files would have the same name (leave a disk out)'


def _disk_facts(
    found: inspection_lib.Inspection, disk: disk_xml.Disk
) -> policy.DiskFacts:
    return policy.DiskFacts(
        device=disk.device,
        type=disk.type,
        format=disk.format,
        is_readonly=disk.is_readonly,
        is_shareable=disk.is_shareable,
        is_transient=disk.is_transient,
        is_encrypted=disk.readable is not None and disk.source.is_encrypted,
        is_passthrough=disk.kind == 'lun',
        has_job=has_job(found, disk),
        runs_elsewhere=runs_elsewhere(found, disk),
    )


def _has_internal(disk: disk_xml.Disk, name: str) -> bool:
    """Return True if a file has an internal snapshot of a name.

    QEMU would replace one of a running guest, and make a second one of the
    same name of one that is stopped.
    """
    if disk.format != 'qcow2' or disk.readable is None:
        return False
    return name in qemu_img.info(disk.readable).internal_snapshots


def has_job(found: inspection_lib.Inspection, disk: disk_xml.Disk) -> bool:
    """Return True if a block job runs on a disk."""
    if not found.power_state.is_active:
        return False
    if disk.mirror is not None:
        return True
    device = block_device.BlockDevice(found.guest, disk.device)
    return device.supports_block_jobs() and device.job() is not None


def runs_elsewhere(
    found: inspection_lib.Inspection, disk: disk_xml.Disk
) -> bool:
    """Return True if a guest would start with another file next time."""
    if not found.power_state.is_active or not found.is_persistent:
        return False
    defined = {
        other.device: other.readable
        for other in disk_xml.disks(
            found.guest.definition().xml,
            inspection_lib.volume_finder(found.guest.host),
        )
    }
    other = defined.get(disk.device)
    if other is None or disk.readable is None:
        return disk.device not in defined
    return other.location != disk.readable.location


def _new_files(
    found: inspection_lib.Inspection,
    disks: Sequence[disk_xml.Disk],
    request: domain_snapshot.Request,
    name: str,
) -> creation.NewFiles:
    """Return the new files, named as libvirt names them."""
    if request.is_internal:
        return creation.NewFiles({}, None)
    overlays = {
        disk.device: path.with_name(f'{path.stem}.{name}')
        for disk in disks
        if (path := _place(disk, request)) is not None
    }
    return creation.NewFiles(overlays, _memory(found, request, name))


def _place(
    disk: disk_xml.Disk, request: domain_snapshot.Request
) -> pathlib.Path | None:
    """Return a path beside which a new file goes; None: nowhere."""
    location = None if disk.readable is None else disk.readable.location
    if not isinstance(location, str):
        return None
    path = pathlib.Path(location)
    return path if request.directory is None else request.directory / path.name


def _memory(
    found: inspection_lib.Inspection,
    request: domain_snapshot.Request,
    name: str,
) -> pathlib.Path | None:
    if not request.has_memory:
        return None
    places: Mapping[pathlib.Path, None] = {
        path: None
        for disk in root_disk.hard_disks(found.disks)
        if disk.type == 'file' or request.directory is not None
        if (path := _place(disk, request)) is not None
    }
    for path in places:
        return path.with_name(f'{path.stem}.{name}.memory')
    raise exception.Invalid(
        'No disk of the server is a file, so --directory has to say where its '
        'memory goes.'
    )


def _require_room(
    found: inspection_lib.Inspection,
    options: plan_lib.Options,
    files: creation.NewFiles,
    request: domain_snapshot.Request,
    disks: Sequence[disk_xml.Disk],
) -> None:
    """Raise NotEnoughSpace; the reserve for the disks of guests counts."""
    needed: dict[pathlib.Path, int] = {}
    for path in files.overlays.values():
        needed[path.parent] = needed.get(path.parent, 0) + OVERLAY_SIZE
    memory = files.memory
    if request.is_internal and found.power_state.is_active and disks:
        memory = pathlib.Path(disks[0].source.describe())
    if memory is not None:
        size = domain_xml.memory_size(found.xml)
        needed[memory.parent] = needed.get(memory.parent, 0) + size
    for folder, count in needed.items():
        try:
            options.space().require_to_begin(folder, count)
        except OSError as error:
            raise exception.Invalid(
                f'Nothing can be put into {folder}: {error.strerror}.'
            ) from error
