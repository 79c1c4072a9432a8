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
"""Reading of guests for a person or a client who looks at them.

Open this file when a field of a server is missing or wrong, though libvirt or
Nova's metadata has it.  Each guest is read once, and no QEMU is asked.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import datetime
import functools
import ipaddress
import itertools
import pathlib

# What is parsed is libvirtd's own output.
import xml.etree.ElementTree as ElementTree  # nosec B405

from nova_snap import exception
from nova_snap.objects import instance as instance_lib
from nova_snap.objects import instance_details
from nova_snap.virt.libvirt import disk_xml
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt import host as host_lib
from nova_snap.virt.libvirt import rebuild_xml
from nova_snap.virt.libvirt import root_disk

#: The connection whose files are these.
SYSTEM_URI = 'qemu:///system'
DEFINITIONS = pathlib.Path('/etc/libvirt/qemu')
RUNS = pathlib.Path('/run/libvirt/qemu')

#: Characters of a port's uuid in the name of its interface on the host, which
#: Nova makes of "tap" and this.
_PORT_DIGITS = 11

#: Addresses by the MAC address of an interface, of the network that is named.
Leases = Callable[[str], Mapping[str, tuple[str, ...]]]


@dataclasses.dataclass(frozen=True)
class Interface:
    """A network interface of a guest.

    ``network`` is libvirt's network, or else the bridge or device of the host
    that it is connected to; ``target`` is its name on the host.
    """

    mac: str
    network: str
    target: str
    is_leased: bool


def read_all(
    host: host_lib.Host,
) -> list[instance_details.InstanceDetails]:
    """Read every guest of a host; the leases of each network once."""
    leases = functools.cache(host.leases)
    return [_details(reading, host.uri, leases) for reading in host.readings()]


def read(host: host_lib.Host, uuid: str) -> instance_details.InstanceDetails:
    """Read a guest.

    :raises InstanceNotFound: there is none.
    """
    reading = host.reading(uuid)
    if reading is None:
        raise exception.InstanceNotFound(server=uuid)
    return _details(reading, host.uri, host.leases)


def _details(
    reading: host_lib.Reading, uri: str, leases: Leases
) -> instance_details.InstanceDetails:
    root = domain_xml.parse(reading.xml)
    instance = domain_xml.nova_instance(reading.xml)
    domain_name = root.findtext('name', '')
    disks = disk_xml.disks(reading.xml)
    hard_disks = root_disk.hard_disks(disks)
    changed = list(_dates(uri, domain_name))
    created = _created(root) or min(changed, default=None)
    return instance_details.InstanceDetails(
        instance=instance,
        domain_name=domain_name,
        flavor=instance.flavor or _flavor(root),
        power_state=host_lib.power_state_of(reading.state),
        is_saved=reading.is_saved,
        is_of_nova=domain_xml.nova_element(root) is not None,
        created_at=created,
        updated_at=max(changed, default=created),
        description=root.findtext('description'),
        addresses=tuple(_addresses(root, leases)),
        volumes=tuple(d.volume_id for d in disks if d.volume_id is not None),
        root_device=f'/dev/{hard_disks[0].device}' if hard_disks else None,
        has_config_drive=any(disk.is_config_drive for disk in disks),
        image_id=rebuild_xml.image_of(root),
    )


def _flavor(root: ElementTree.Element) -> instance_lib.Flavor:
    """Return a flavor for a guest that Nova has not made.

    As in Nova, ``root_gb`` 0 means that the root disk has any size.
    """
    # libvirt always writes the memory in KiB.
    memory = _number(root.findtext('memory', '')) // 1024
    vcpus = _number(root.findtext('vcpu', ''))
    return instance_lib.Flavor(
        f'{vcpus}-vcpus-{memory}-mib', memory, 0, vcpus=vcpus
    )


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _created(root: ElementTree.Element) -> datetime.datetime | None:
    """Return the time at which Nova has made the metadata."""
    element = domain_xml.child(domain_xml.nova_element(root), 'creationTime')
    try:
        return datetime.datetime.strptime(
            (element.text or '') if element is not None else '',
            '%Y-%m-%d %H:%M:%S',
        ).replace(tzinfo=datetime.UTC)
    except ValueError:
        return None


def _dates(uri: str, domain_name: str) -> Iterator[datetime.datetime]:
    """Yield when a guest was defined and started, by libvirt's own files."""
    if uri != SYSTEM_URI:
        return
    for path in (
        DEFINITIONS / f'{domain_name}.xml',
        RUNS / f'{domain_name}.pid',
    ):
        try:
            modified = path.stat().st_mtime
        except OSError:
            continue
        yield datetime.datetime.fromtimestamp(modified, datetime.UTC)


def _addresses(
    root: ElementTree.Element, leases: Leases
) -> Iterator[instance_details.Address]:
    """Yield the addresses that Nova has written down, or that are leased."""
    interfaces = list(map(_interface, root.iterfind('./devices/interface')))
    ports = domain_xml.child(domain_xml.nova_element(root), 'ports')
    if ports is not None:
        yield from itertools.chain.from_iterable(
            _port_addresses(port, interface)
            for port, interface in _paired(list(ports), interfaces)
        )
        return
    for interface in interfaces:
        known = leases(interface.network) if interface.is_leased else {}
        for text in known.get(interface.mac, ()):
            yield from _address(interface, text)


def _interface(element: ElementTree.Element) -> Interface:
    source = element.find('source')
    names = dict(source.attrib) if source is not None else {}
    network = next(
        (names[key] for key in ('network', 'bridge', 'dev') if key in names),
        element.get('type', ''),
    )
    mac, target = element.find('mac'), element.find('target')
    return Interface(
        mac=(mac.get('address', '') if mac is not None else '').lower(),
        network=network,
        target=target.get('dev', '') if target is not None else '',
        is_leased='network' in names,
    )


def _paired(
    ports: list[ElementTree.Element], interfaces: list[Interface]
) -> Iterator[tuple[ElementTree.Element, Interface]]:
    """Yield each of Nova's ports with the interface that it is.

    By the name of the interface; where the names are others, by the order, in
    which Nova has written both.
    """
    by_name = {interface.target: interface for interface in interfaces}
    by_order = interfaces if len(interfaces) == len(ports) else []
    for port, same in itertools.zip_longest(ports, by_order):
        name = f'tap{port.get("uuid", "")[:_PORT_DIGITS]}'
        interface = by_name.get(name, same)
        if interface is not None:
            yield port, interface


def _port_addresses(
    port: ElementTree.Element, interface: Interface
) -> Iterator[instance_details.Address]:
    for ip in port:
        kind = 'floating' if ip.get('type') == 'floating' else 'fixed'
        yield from _address(interface, ip.get('address', ''), kind)


def _address(
    interface: Interface, text: str, kind: str = 'fixed'
) -> Iterator[instance_details.Address]:
    """Yield the address, if it is one."""
    try:
        version = ipaddress.ip_address(text).version
    except ValueError:
        return
    yield instance_details.Address(
        interface.network, text, version, interface.mac, kind
    )
