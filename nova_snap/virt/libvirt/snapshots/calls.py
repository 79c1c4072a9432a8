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

#: State and reason of a guest that is paused while its memory is written.
_PAUSED = (
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_SNAPSHOT),
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_SAVE),
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION),
)


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
    return tuple(state) in _PAUSED


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


def abort_job(guest: guest_lib.Guest) -> None:
    """Ask libvirt to end the job that writes the memory of the guest."""
    guest.call('end its job', lambda domain: domain.abortJob())
