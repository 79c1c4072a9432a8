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

"""The definition of a new guest: pure functions from hardware to XML."""

from collections.abc import Mapping
import dataclasses
import pathlib
import xml.etree.ElementTree as ElementTree  # nosec B405  no parser is used

from nova_snap import exception

#: Elements of a disk that say where its data is.
#: Each is a thread of QEMU, whether a disk uses it or not.
MAX_IOTHREADS = 64

_PLACES = ('source', 'backingStore', 'mirror', 'auth', 'encryption')

#: Bytes of the units of memory, as libvirt's virScaleInteger has them.
_UNITS = {
    **dict.fromkeys(('b', 'bytes'), 1),
    **dict.fromkeys(('k', 'KiB', ''), 1 << 10),
    **dict.fromkeys(('M', 'MiB'), 1 << 20),
    **dict.fromkeys(('G', 'GiB'), 1 << 30),
    **dict.fromkeys(('T', 'TiB'), 1 << 40),
    'KB': 10**3,
    'MB': 10**6,
    'GB': 10**9,
    'TB': 10**12,
}


@dataclasses.dataclass(frozen=True)
class File:
    """The file of a disk, and its format."""

    path: pathlib.Path
    format: str


def disk_devices(domain: ElementTree.Element) -> list[str]:
    """Return the target names of the hard disks, the first to boot first."""
    found = []
    for disk in domain.iterfind('devices/disk'):
        target, boot = disk.find('target'), disk.find('boot')
        if target is None or disk.get('device', 'disk') != 'disk':
            continue
        order = '' if boot is None else boot.get('order', '')
        found.append((int(order) if order.isdecimal() else 1 << 30, target))
    found.sort(key=lambda pair: pair[0])
    return [target.get('dev', '') for _order, target in found]


def require_size(
    domain: ElementTree.Element, memory: int, processors: int
) -> None:
    """Raise InvalidDefinition for more than this host has.

    :param memory: in bytes.
    """
    # libvirt takes the sum of the cells for the memory of the guest.
    cells = domain.findall('cpu/numa/cell')
    for amount in (
        sum(_bytes(cell, cell.get('memory', '')) for cell in cells),
        *(_bytes(one, one.text or '') for one in domain.iterfind('memory')),
    ):
        if amount > memory:
            raise exception.InvalidDefinition(
                reason='its memory is more than this host has.'
            )
    for element in domain.iterfind('iothreads'):
        if int(element.text or '0') > MAX_IOTHREADS:
            raise exception.InvalidDefinition(
                reason=f'it has more than {MAX_IOTHREADS} I/O threads.'
            )
    for element in domain.iterfind('vcpu'):
        if int(element.text or '0') > processors:
            raise exception.InvalidDefinition(
                reason='it has more processors than this host.'
            )


def _bytes(element: ElementTree.Element, number: str) -> int:
    """Return an amount of memory; its unit is an attribute of the element."""
    unit = _UNITS.get(element.get('unit', ''))
    if unit is None or not (number.isascii() and number.isdecimal()):
        raise exception.InvalidDefinition(
            reason=f'{number!r} {element.get("unit", "")} is no amount of '
            'memory.'
        )
    return int(number) * unit


def has_unconnected(domain: ElementTree.Element) -> bool:
    """Return True if there is an interface without a network."""
    return any(
        interface.find('source') is None
        for interface in domain.iterfind("devices/interface[@type='network']")
    )


def connect(domain: ElementTree.Element, network: str | None) -> None:
    """Connect interfaces without a network; None removes them."""
    for devices in domain.iterfind('devices'):
        for interface in devices.findall("interface[@type='network']"):
            if interface.find('source') is not None:
                continue
            if network is None:
                devices.remove(interface)
            else:
                ElementTree.SubElement(
                    interface, 'source', {'network': network}
                )


def assembled(
    domain: ElementTree.Element,
    name: str,
    uuid: str,
    files: Mapping[str, File],
    keeps_other_disks: bool,
) -> str:
    """Return the definition of a new guest with this hardware.

    libvirt chooses new MAC addresses and a new file for firmware variables.

    :param files: of the disks, by their target names.
    """
    for tag in ('name', 'uuid', 'genid'):
        for element in domain.findall(tag):
            domain.remove(element)
    for tag, text in (('uuid', uuid), ('name', name)):
        element = ElementTree.Element(tag)
        element.text = text
        domain.insert(0, element)
    for nvram in domain.iterfind('os/nvram'):
        nvram.text = None
        for source in nvram.findall('source'):
            nvram.remove(source)
    for devices in domain.iterfind('devices'):
        for interface in devices.iterfind('interface'):
            for mac in interface.findall('mac'):
                interface.remove(mac)
        _set_disks(devices, files, keeps_other_disks)
    return ElementTree.tostring(domain, encoding='unicode')


def _set_disks(
    devices: ElementTree.Element,
    files: Mapping[str, File],
    keeps_others: bool,
) -> None:
    for disk in devices.findall('disk'):
        target = disk.find('target')
        file = files.get('' if target is None else target.get('dev', ''))
        if file is not None:
            set_source(disk, file)
        elif not keeps_others:
            devices.remove(disk)


def set_source(disk: ElementTree.Element, file: File) -> None:
    """Give a disk another file; its labels stay, and other places go."""
    labels = disk.findall("source/seclabel")
    for tag in _PLACES:
        for element in disk.findall(tag):
            disk.remove(element)
    disk.set('type', 'file')
    driver = disk.find('driver')
    if driver is None:
        driver = ElementTree.SubElement(disk, 'driver')
    driver.set('name', 'qemu')
    driver.set('type', file.format)
    source = ElementTree.SubElement(disk, 'source', {'file': str(file.path)})
    source.extend(labels)
