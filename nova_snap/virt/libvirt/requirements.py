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

"""Files and networks that a guest needs to be started from saved memory.

A running QEMU keeps its files open, so a guest does not notice that one of
them was deleted, nor that its network was stopped.  Once such a guest is
suspended, it can't be started any more.  Open this file to check one more
requirement before a guest is suspended.
"""

from collections.abc import Iterator
import os
import pathlib

# What is parsed is libvirtd's own output.
import xml.etree.ElementTree as ElementTree  # nosec B405

from nova_snap import exception
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import host as host_lib

#: Where Linux lists the network interfaces of the host.
INTERFACES = pathlib.Path('/sys/class/net')

#: Policies by which libvirt drops a medium that is missing when it restores a
#: guest.  https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms
DROPPED_IF_MISSING = ('requisite', 'optional')


def require(guest: guest_lib.Guest, xml: str, advice: str = '') -> None:
    """Raise if a guest could not be started again after suspending it.

    :param xml: the live XML.
    :param advice: a sentence on what to do instead.
    :raises UnsupportedGuest: names everything that is missing.
    """
    what = missing(guest, xml)
    if what:
        raise exception.UnsupportedGuest(
            server=guest.uuid,
            reason='it would have to be suspended, and could not be started '
            f'again: {"; ".join(what)}. {advice}'.rstrip(),
        )


def missing(guest: guest_lib.Guest, xml: str) -> tuple[str, ...]:
    """Return what is missing for a guest to be started, as phrases."""
    return tuple(_missing(guest.host, domain_xml.parse(xml)))


def _missing(
    host: host_lib.Host, domain: ElementTree.Element
) -> Iterator[str]:
    for what, path in _files(domain):
        if not _exists(path):
            yield f'{what} {path} does not exist'
    for disk in domain.iterfind("./devices/disk[@type='volume']"):
        if not _is_dropped_if_missing(disk):
            yield from _missing_of_volume(host, disk)
    for interface in domain.iterfind('./devices/interface'):
        yield from _missing_of_interface(host, interface)


def _files(domain: ElementTree.Element) -> Iterator[tuple[str, str]]:
    """Yield a phrase and the path for each file that QEMU opens to start."""
    for element in domain.iterfind('./os/*'):
        if element.tag in ('loader', 'kernel', 'initrd', 'dtb'):
            yield f'its {element.tag}', element.text or ''
    for folder in domain.iterfind("./devices/filesystem[@type='mount']"):
        yield 'its shared directory', _source(folder, 'dir')
    for disk in domain.iterfind('./devices/disk'):
        if not _is_dropped_if_missing(disk):
            yield from _layers(disk, _target(disk))


def _is_dropped_if_missing(disk: ElementTree.Element) -> bool:
    return _source(disk, 'startupPolicy') in DROPPED_IF_MISSING


def _target(disk: ElementTree.Element) -> str:
    target = disk.find('target')
    return '' if target is None else target.get('dev', '')


def _missing_of_volume(
    host: host_lib.Host, disk: ElementTree.Element
) -> Iterator[str]:
    pool, volume = _source(disk, 'pool'), _source(disk, 'volume')
    try:
        _kind, path = host.storage_volume(pool, volume)
    except exception.HypervisorError as error:
        yield f'volume {volume} of its disk {_target(disk)}: {error}'
        return
    if os.path.isabs(path) and not _exists(path):
        yield f'the file of its disk {_target(disk)} {path} does not exist'


def _layers(
    element: ElementTree.Element, disk: str
) -> Iterator[tuple[str, str]]:
    what = 'a layer of' if element.tag == 'backingStore' else 'the file of'
    path = _source(element, 'file') or _source(element, 'dev')
    if path:
        yield f'{what} its disk {disk}', path
    below = element.find('backingStore')
    if below is not None:
        yield from _layers(below, disk)


def _source(element: ElementTree.Element, attribute: str) -> str:
    source = element.find('source')
    return '' if source is None else source.get(attribute, '')


def _exists(path: str) -> bool:
    """Return False if a path certainly does not exist."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass  # libvirt may see what this user can't
    return True


def _missing_of_interface(
    host: host_lib.Host, interface: ElementTree.Element
) -> Iterator[str]:
    network = _source(interface, 'network')
    if interface.get('type') == 'network' and not _is_active(host, network):
        yield f'its network "{network}" is not active'
    if interface.get('type') not in ('bridge', 'direct'):
        return
    if interface.find('virtualport') is not None:
        return  # a bridge of Open vSwitch need not be one of Linux
    name = _source(interface, 'bridge') or _source(interface, 'dev')
    if name and not _exists(str(INTERFACES / name)):
        yield f'the interface {name} of this host does not exist'


def _is_active(host: host_lib.Host, network: str) -> bool:
    """Return False if libvirt says that a network is not active."""
    try:
        return host.is_network_active(network)
    except exception.HypervisorError:
        return True  # this libvirt has no driver for networks
