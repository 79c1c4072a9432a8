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

"""Calls of libvirt about domain snapshots.

Open this file for the calls alone; what their XML means is in
``metadata.py``.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

import libvirt

from nova_snap import exception
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import host as host_lib
from nova_snap.virt.libvirt.snapshots import metadata

_GONE = (
    libvirt.VIR_ERR_NO_DOMAIN,
    libvirt.VIR_ERR_NO_DOMAIN_SNAPSHOT,
)

#: What libvirt does with a guest: taking a domain snapshot, saving its memory.
TAKING = int(libvirt.VIR_DOMAIN_JOB_OPERATION_SNAPSHOT)
SAVING = int(libvirt.VIR_DOMAIN_JOB_OPERATION_SAVE)

#: State and reason of a guest that is paused while its memory is written.  One
#: that a migration has paused may run on another host.
_PAUSED = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_SNAPSHOT)

#: Those of one that is off because its memory was saved.
_SAVED = (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SAVED)


@dataclasses.dataclass(frozen=True)
class Flags:
    """How a domain snapshot is taken; ``reuses``: new files are there."""

    disk_only: bool
    reuses: bool
    live: bool
    halts: bool


@dataclasses.dataclass(frozen=True)
class Domain:
    """A domain of the host with its domain snapshots.

    ``xml`` is the live one of a guest that runs, ``definition`` what it starts
    with the next time.
    """

    uuid: str
    name: str
    xml: str = dataclasses.field(repr=False)
    definition: str = dataclasses.field(repr=False)
    snapshots: tuple[metadata.Metadata, ...]


def domains(host: host_lib.Host) -> tuple[Domain, ...]:
    """Read all domains of a host, without those that are gone meanwhile."""

    def read(connection: Any) -> tuple[Domain, ...]:
        found = map(_domain, connection.listAllDomains())
        return tuple(domain for domain in found if domain is not None)

    return host.call('list the domain snapshots', read, insist=True)


def _domain(domain: Any) -> Domain | None:
    try:
        return Domain(
            uuid=domain.UUIDString(),
            name=domain.name(),
            xml=domain.XMLDesc(),
            definition=domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE),
            snapshots=_snapshots(domain),
        )
    except libvirt.libvirtError as error:
        if error.get_error_code() in _GONE:
            return None
        raise


def _snapshots(domain: Any) -> tuple[metadata.Metadata, ...]:
    try:
        found = domain.listAllSnapshots()
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
            return ()
        raise
    read = []
    for snapshot in found:
        try:
            xml, is_current = snapshot.getXMLDesc(0), snapshot.isCurrent()
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN_SNAPSHOT:
                raise
            continue  # deleted meanwhile
        read.append(metadata.parse(xml, bool(is_current)))
    return tuple(read)


def names(guest: guest_lib.Guest) -> frozenset[str]:
    """Return the names of the domain snapshots of a guest.

    :raises GuestGone: the guest does not exist.
    """
    listed: list[str] = guest.call(
        'list its domain snapshots', _names, insist=True
    )
    return frozenset(listed)


def _names(domain: Any) -> list[str]:
    return [str(name) for name in domain.snapshotListNames()]


def has_checkpoints(guest: guest_lib.Guest) -> bool:
    """Return True if libvirt has a checkpoint of the guest."""

    def has(domain: Any) -> bool:
        try:
            return bool(domain.listAllCheckpoints())
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
                return False
            raise

    return guest.call('list its checkpoints', has, insist=True)


def is_paused_by_snapshot(guest: guest_lib.Guest) -> bool:
    """Return True if libvirt has paused the guest to write its memory."""
    try:
        state = guest.call(
            'read its state', lambda domain: domain.state(), insist=True
        )
    except exception.GuestGone:
        return False
    return tuple(state) == _PAUSED


def is_saved(guest: guest_lib.Guest) -> bool:
    """Return True if the guest was stopped by saving its memory.

    A libvirtd that was restarted since does not know.
    """
    state = guest.call(
        'read its state', lambda domain: domain.state(), insist=True
    )
    return tuple(state) == _SAVED


def create(guest: guest_lib.Guest, xml: str, creation: Flags) -> None:
    """Take a domain snapshot; return when it is whole.

    :raises HypervisorError: libvirt refused, or failed; the guest is as it
        was.
    """
    flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC
    for is_wanted, flag in (
        (creation.disk_only, libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY),
        (creation.reuses, libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT),
        (creation.live, libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_LIVE),
        (creation.halts, libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_HALT),
    ):
        flags |= flag if is_wanted else 0
    guest.call(
        'take a domain snapshot',
        lambda domain: domain.snapshotCreateXML(xml, flags),
    )


def xmls(guest: guest_lib.Guest) -> Mapping[str, tuple[str, bool]]:
    """Return the XML of each domain snapshot, and whether it is the current.

    The XML is that with passwords, from which it can be defined again.
    """

    def read(domain: Any) -> dict[str, tuple[str, bool]]:
        flags = libvirt.VIR_DOMAIN_SNAPSHOT_XML_SECURE
        return {
            str(snapshot.getName()): (
                snapshot.getXMLDesc(flags),
                bool(snapshot.isCurrent()),
            )
            for snapshot in domain.listAllSnapshots()
        }

    return guest.call('read its domain snapshots', read, insist=True)


def created(guest: guest_lib.Guest) -> Mapping[str, int]:
    """Return when each domain snapshot was taken, in seconds of the epoch.

    :raises GuestGone: the guest does not exist.
    """
    return {
        name: int(found.created_at.timestamp())
        for name, (xml, is_current) in xmls(guest).items()
        if (found := metadata.parse(xml, is_current)).created_at is not None
    }


def redefine(guest: guest_lib.Guest, xml: str, is_current: bool) -> None:
    """Replace what libvirt keeps of a domain snapshot; no file is touched.

    :param is_current: it is the one that the guest runs on from.
    """
    name = metadata.parse(xml, is_current).name

    def define(domain: Any) -> None:
        flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE
        # What libvirt (9.9) keeps of the last revert is dropped if the current
        # one becomes the current one.
        if is_current and _current(domain) != name:
            flags |= libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT
        domain.snapshotCreateXML(xml, flags)

    guest.call('define a domain snapshot again', define, insist=True)


def _current(domain: Any) -> str | None:
    """Return the name of the current domain snapshot, None if none is."""
    if not domain.hasCurrentSnapshot():
        return None
    return str(domain.snapshotCurrent().getName())


def forget(guest: guest_lib.Guest, name: str) -> None:
    """Delete what libvirt keeps of a domain snapshot; no file is touched.

    Its parent is that of its children from now on, and is the current one if
    it was.
    """
    _delete(guest, name, libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)


def delete_internal(guest: guest_lib.Guest, name: str) -> None:
    """Delete a domain snapshot, and what the files of the disks have of it."""
    _delete(guest, name, 0)


def _delete(guest: guest_lib.Guest, name: str, flags: int) -> None:
    guest.call(
        f'delete its domain snapshot {name}',
        lambda domain: domain.snapshotLookupByName(name).delete(flags),
    )


def save(guest: guest_lib.Guest, path: str) -> None:
    """Write the memory of a guest to a file, and stop the guest."""
    guest.call('save its memory', lambda domain: domain.saveFlags(path))


def saved_definition(host: host_lib.Host, path: str) -> str | None:
    """Return the XML, with passwords, in a file of saved memory.

    Return None if it is no whole file of that kind.
    """
    flags = libvirt.VIR_DOMAIN_SAVE_IMAGE_XML_SECURE
    try:
        xml: str = host.call(
            'read a file of saved memory',
            lambda connection: connection.saveImageGetXMLDesc(path, flags),
            insist=True,
        )
    except exception.HypervisorError as error:
        if error.code == libvirt.VIR_ERR_OPERATION_FAILED:
            return None
        raise
    return xml


def restore(
    guest: guest_lib.Guest, path: str, xml: str | None, paused: bool
) -> None:
    """Start a guest from a file of saved memory.

    :param xml: the guest as it is from then on; None: as in the file.
    """
    flags = (
        libvirt.VIR_DOMAIN_SAVE_PAUSED
        if paused
        else libvirt.VIR_DOMAIN_SAVE_RUNNING
    )
    guest.host.call(
        'start it from saved memory',
        lambda connection: connection.restoreFlags(path, xml, flags),
    )


def revert_internal(
    guest: guest_lib.Guest, name: str, paused: bool | None
) -> None:
    """Go back to an internal domain snapshot.

    :param paused: what the guest is from then on; None: as it was then.
    """
    flags = libvirt.VIR_DOMAIN_SNAPSHOT_REVERT_FORCE
    if paused is not None:
        flags |= (
            libvirt.VIR_DOMAIN_SNAPSHOT_REVERT_PAUSED
            if paused
            else libvirt.VIR_DOMAIN_SNAPSHOT_REVERT_RUNNING
        )
    guest.call(
        f'revert to its domain snapshot {name}',
        lambda domain: domain.revertToSnapshot(
            domain.snapshotLookupByName(name), flags
        ),
    )


@dataclasses.dataclass(frozen=True)
class BlockJob:
    """A job of a disk; ``done`` and ``total`` are bytes as QEMU counts."""

    type: int
    done: int
    total: int

    @property
    def is_commit(self) -> bool:
        """True if data of one layer is written into one below it."""
        return self.type in (
            libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT,
            libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT,
        )


def block_job(guest: guest_lib.Guest, device: str) -> BlockJob | None:
    """Return the job of a disk, or None."""
    flags = libvirt.VIR_DOMAIN_BLOCK_JOB_INFO_BANDWIDTH_BYTES
    found = guest.call(
        f'read the block job of its disk {device}',
        lambda domain: domain.blockJobInfo(device, flags),
        insist=True,
    )
    if not found:
        return None
    return BlockJob(found['type'], found['cur'], found['end'])


def begin_commit(
    guest: guest_lib.Guest,
    device: str,
    layers: tuple[str, str],
    rate: int,
    is_active: bool,
) -> None:
    """Begin to write the data of a layer into the one below it.

    :param layers: the paths of both, as libvirt has them.
    :param rate: bytes a second; 0: as fast as it can.
    :param is_active: the first is the topmost layer; the job then waits for
        :func:`pivot` when all data is written.
    """
    flags = libvirt.VIR_DOMAIN_BLOCK_COMMIT_BANDWIDTH_BYTES
    flags |= libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE if is_active else 0
    top, base = layers
    guest.call(
        f'merge layers of its disk {device}',
        lambda domain: domain.blockCommit(device, base, top, rate, flags),
    )


def pivot(guest: guest_lib.Guest, device: str) -> None:
    """Let the guest go on with the lower layer; the job ends."""
    guest.call(
        f'merge layers of its disk {device}',
        lambda domain: domain.blockJobAbort(
            device, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT
        ),
    )


def is_being_taken(guest: guest_lib.Guest) -> bool:
    """Return True if libvirt takes a domain snapshot of the guest now."""
    return guest.job() == TAKING


def memory_written(guest: guest_lib.Guest, job: int) -> tuple[int, int] | None:
    """Return the bytes of memory that are written, and of all of it.

    Return None if no such job runs.

    :param job: TAKING or SAVING.
    """
    if guest.job() != job:
        return None
    found = guest.call('read its job', lambda domain: domain.jobStats())
    total = found.get(libvirt.VIR_DOMAIN_JOB_MEMORY_TOTAL)
    if total is None:
        return None
    return found.get(libvirt.VIR_DOMAIN_JOB_MEMORY_PROCESSED, 0), total


def abort(guest: guest_lib.Guest, job: int) -> None:
    """Ask libvirt to end a job, if it runs.

    :param job: TAKING or SAVING.
    """
    # Another program's job that libvirt lets end first is not ours to end.
    if guest.job() == job:
        guest.call('end its job', lambda domain: domain.abortJob())
