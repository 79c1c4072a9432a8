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

from collections.abc import Callable
import dataclasses
from typing import Any

import libvirt

from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import host as host_lib
from nova_snap.virt.libvirt.snapshots import metadata

_GONE = (
    libvirt.VIR_ERR_NO_DOMAIN,
    libvirt.VIR_ERR_NO_DOMAIN_SNAPSHOT,
)


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
    return frozenset(_called(guest, 'list its domain snapshots', _names))


def _names(domain: Any) -> list[str]:
    try:
        return [str(name) for name in domain.snapshotListNames()]
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
            return []
        raise


def _called(
    guest: guest_lib.Guest, action: str, function: Callable[[Any], list[str]]
) -> list[str]:
    return guest.call(action, function, insist=True)
