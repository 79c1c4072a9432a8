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

"""Parser of libvirt's domain XML: pure functions from text to plain types.

The XML comes from libvirtd, and a guest can't change it.  The formats and
paths of disks are taken from the XML and from nowhere else.
https://libvirt.org/formatdomain.html
"""

from collections.abc import Iterator
import dataclasses

# What is parsed is libvirtd's own output.
import xml.etree.ElementTree as ElementTree  # nosec B405
from xml.sax import saxutils  # nosec B406  it only escapes

from oslo_utils import uuidutils

from nova_snap.objects import instance as instance_lib
from nova_snap.virt.storage import disk_source as storage

#: The namespace of the metadata that Nova writes into its guests.
NOVA_NAMESPACE = 'http://openstack.org/xmlns/libvirt/nova/'

ROOT_DISK_FORMATS = ('qcow2', 'raw')

AGENT_CHANNEL = 'org.qemu.guest_agent.0'


class Unsupported(ValueError):
    """No image can be taken of the domain; the text has the reason."""


@dataclasses.dataclass(frozen=True)
class RootDisk:
    """The root disk; ``device`` is its target name, such as ``vda``.

    ``has_iothread`` is True if an iothread of QEMU, not its main loop, does
    the disk's requests.
    """

    device: str
    source: storage.DiskSource
    has_iothread: bool = False


@dataclasses.dataclass(frozen=True)
class Mirror:
    """A mirror in the live XML: the copy of a disk that is under way."""

    target: str | None
    is_ready: bool


@dataclasses.dataclass(frozen=True)
class PassthroughDevice:
    """A PCI device of the host that a guest has.

    ``address`` is that on the host, for messages; ``alias`` is libvirt's name
    of the device in the running guest; ``xml`` attaches the device again.
    """

    address: str
    alias: str
    xml: str


def names(xml: str, path: str) -> bool:
    """Return True if a path is in the XML, as libvirt escapes it there."""
    return saxutils.escape(path, {"'": '&apos;', '"': '&quot;'}) in xml


def virt_type(xml: str) -> str:
    """Return the type of the domain: ``kvm``, ``qemu``, ``lxc``, etc."""
    return _parse(xml).get('type', '')


def root_disk(xml: str) -> RootDisk:
    """Return the first device of kind ``disk``.

    :raises Unsupported: there is none, or it can't be read.
    """
    root = _parse(xml)
    for disk in _disks(root):
        source = _source(disk)
        if source.format not in ROOT_DISK_FORMATS:
            raise Unsupported(
                f'its root disk has the format {source.format!r}; '
                f'{" and ".join(ROOT_DISK_FORMATS)} are supported.'
            )
        return RootDisk(
            device=_device(disk),
            source=source,
            has_iothread=_has_iothread(root, disk),
        )
    raise Unsupported('it has no disk.')


def _has_iothread(
    root: ElementTree.Element, disk: ElementTree.Element
) -> bool:
    """Return True if a disk, or a controller it may be at, has an iothread.

    https://libvirt.org/formatdomain.html#iothreads-allocation
    """
    places = [disk]
    if _bus(disk) == 'scsi':
        places += root.iterfind("./devices/controller[@type='scsi']")
    return any(
        place.find('./driver[@iothread]') is not None
        or place.find('./driver/iothreads') is not None
        for place in places
    )


def block_devices(xml: str) -> tuple[instance_lib.BlockDevice, ...]:
    """Return all hard disks, the root disk first.

    Nova and Cinder make the id of a volume the serial number of its disk.
    """
    return tuple(
        instance_lib.BlockDevice(
            name=_device(disk),
            bus=_bus(disk),
            device_type=disk.get('device', 'disk'),
            volume_id=_volume_id(disk),
            in_file=disk.get('type') == 'file',
        )
        for disk in _parse(xml).iterfind('./devices/disk')
        if disk.get('device', 'disk') in ('disk', 'lun')
    )


def disk_devices(xml: str) -> list[str]:
    """Return the target names of all disks, CD-ROM drives included."""
    disks = _parse(xml).iterfind('./devices/disk')
    return [_device(disk) for disk in disks]


def qemu_uid(xml: str) -> int | None:
    """Return the user id that QEMU runs as, or None if it is not labelled.

    The live XML has the label of the model "dac", as ``+UID:+GID``.
    """
    for label in _parse(xml).iterfind('./seclabel'):
        if label.get('model') == 'dac':
            user = label.findtext('label', '').partition(':')[0].lstrip('+')
            return int(user) if user.isdecimal() else None
    return None


def has_volatile_tpm(xml: str) -> bool:
    """Return True if the state of an emulated TPM is lost with the domain.

    https://libvirt.org/formatdomain.html#tpm-device
    """
    return any(
        backend.get('type') == 'emulator'
        and backend.get('persistent_state') != 'yes'
        for backend in _parse(xml).iterfind('./devices/tpm/backend')
    )


def mirror(xml: str, device: str) -> Mirror | None:
    """Return the mirror of a disk that is under way, or None."""
    for disk in _disks(_parse(xml)):
        element = disk.find('mirror')
        if _device(disk) == device and element is not None:
            source = element.find('source')
            return Mirror(
                target=None if source is None else source.get('file'),
                is_ready=element.get('ready') == 'yes',
            )
    return None


def has_agent(xml: str) -> bool:
    """Return True if the guest has a channel to a guest agent."""
    return _agent_channel(xml) is not None


def is_agent_connected(xml: str) -> bool:
    """Return True if an agent in the guest has opened the channel.

    Only the live XML has this state (libvirt 1.1.3).
    """
    channel = _agent_channel(xml)
    return channel is not None and channel.get('state') == 'connected'


def passthrough_devices(xml: str) -> list[PassthroughDevice]:
    """Return the PCI devices and SR-IOV interfaces of the host in a guest.

    A guest can't be saved while it has them.
    """
    found = []
    devices = _parse(xml).find('devices')
    for element in devices if devices is not None else ():
        kind = (element.tag, element.get('type'))
        if kind in (('hostdev', 'pci'), ('interface', 'hostdev')):
            found.append(_passthrough_device(element))
    return found


def nova_instance(xml: str) -> instance_lib.Instance:
    """Return the instance by Nova's metadata, or else by the domain."""
    root = _parse(xml)
    instance = instance_lib.Instance(
        uuid=root.findtext('uuid', ''), name=root.findtext('name', '')
    )
    metadata = root.find('metadata')
    for element in metadata if metadata is not None else ():
        if (
            _local_name(element) == 'instance'
            and NOVA_NAMESPACE in element.tag
        ):
            return _with_nova_metadata(instance, element)
    return instance


def _with_nova_metadata(
    instance: instance_lib.Instance, element: ElementTree.Element
) -> instance_lib.Instance:
    name = _child(element, 'name')
    owner = _child(element, 'owner')
    root = _child(element, 'root')
    is_image = root is not None and root.get('type') == 'image'
    return dataclasses.replace(
        instance,
        name=(name.text if name is not None else None) or instance.name,
        project_id=_uuid_of(owner, 'project'),
        user_id=_uuid_of(owner, 'user'),
        image_ref=root.get('uuid') if root is not None and is_image else None,
        flavor=_flavor(_child(element, 'flavor')),
    )


def _flavor(
    element: ElementTree.Element | None,
) -> instance_lib.Flavor | None:
    if element is None:
        return None

    def number(name: str) -> int:
        child = _child(element, name)
        text = child.text if child is not None else None
        return int(text) if text and text.isdecimal() else 0

    return instance_lib.Flavor(
        name=element.get('name', ''),
        memory_mb=number('memory'),
        root_gb=number('disk'),
    )


def _uuid_of(parent: ElementTree.Element | None, name: str) -> str | None:
    child = _child(parent, name) if parent is not None else None
    return child.get('uuid') if child is not None else None


def _child(
    element: ElementTree.Element | None, name: str
) -> ElementTree.Element | None:
    # By local name: the namespace ends in the version of the metadata, which
    # was 1.0, is 1.1 and may change again.
    for child in element if element is not None else ():
        if _local_name(child) == name:
            return child
    return None


def _local_name(element: ElementTree.Element) -> str:
    return element.tag.rpartition('}')[2]


def _parse(xml: str) -> ElementTree.Element:
    return ElementTree.fromstring(xml)  # noqa: S314  # nosec B314


def _disks(root: ElementTree.Element) -> Iterator[ElementTree.Element]:
    for disk in root.iterfind('./devices/disk'):
        if disk.get('device', 'disk') == 'disk':
            yield disk


def _device(disk: ElementTree.Element) -> str:
    target = disk.find('target')
    return '' if target is None else target.get('dev', '')


def _bus(disk: ElementTree.Element) -> str:
    target = disk.find('target')
    return '' if target is None else target.get('bus', '')


def _volume_id(disk: ElementTree.Element) -> str | None:
    serial = disk.findtext('serial', '').strip()
    return serial if uuidutils.is_uuid_like(serial) else None


def _source(disk: ElementTree.Element) -> storage.DiskSource:
    driver = disk.find('driver')
    layer = _layer(disk, None if driver is None else driver.get('type'))
    if disk.find('encryption') is not None:
        layer = dataclasses.replace(
            layer, encryption_secret=_secret(disk.find('encryption'))
        )
    return layer


def _layer(
    element: ElementTree.Element, format_name: str | None
) -> storage.DiskSource:
    """Return the layer of a ``<disk>`` or ``<backingStore>``, with its chain.

    :raises Unsupported: the element has no format or no source.
    """
    if not format_name:
        raise Unsupported('libvirt does not say what format its disk has.')
    source = element.find('source')
    if source is None:
        raise Unsupported('its root disk has no source.')
    backing = element.find('backingStore')
    is_raw = format_name == 'raw'
    return storage.DiskSource(
        type=element.get('type', ''),
        format=format_name,
        location=_location(element.get('type', ''), source),
        backing=_backing(backing),
        is_chain_known=is_raw or _is_chain_known(backing),
        encryption_secret=_secret(source.find('encryption')),
    )


def _backing(
    element: ElementTree.Element | None,
) -> storage.DiskSource | None:
    if element is None or element.find('source') is None:
        return None
    name = element.find('format')
    return _layer(element, None if name is None else name.get('type'))


def _is_chain_known(element: ElementTree.Element | None) -> bool:
    """Return True if an empty <backingStore/> ends the chain.

    Without one the chain may go on.
    """
    if element is None:
        return False
    if element.find('source') is None:
        return True
    name = element.find('format')
    is_raw = name is not None and name.get('type') == 'raw'
    return is_raw or _is_chain_known(element.find('backingStore'))


def _location(
    kind: str, source: ElementTree.Element
) -> str | storage.RbdLocation:
    if kind == 'file' and source.get('file'):
        return source.get('file', '')
    if kind == 'block' and source.get('dev'):
        return source.get('dev', '')
    if kind == 'network' and source.get('protocol') == 'rbd':
        return _rbd(source)
    if kind == 'network':
        raise Unsupported(
            f'its root disk is reached by {source.get("protocol")!r}, and '
            "of the network protocols only 'rbd' is supported."
        )
    raise Unsupported(
        f'its root disk is of type {kind!r}; file, block and network are '
        'supported.'
    )


def _rbd(source: ElementTree.Element) -> storage.RbdLocation:
    pool, _, image = source.get('name', '').partition('/')
    if not pool or not image:
        raise Unsupported(
            'its RBD root disk has no name of the form POOL/IMAGE.'
        )
    auth = source.find('auth')
    config = source.find('config')
    return storage.RbdLocation(
        pool=pool,
        image=image,
        hosts=tuple(
            (host.get('name', ''), host.get('port', '6789'))
            for host in source.iterfind('host')
        ),
        user=None if auth is None else auth.get('username'),
        conf=None if config is None else config.get('file'),
    )


def _secret(element: ElementTree.Element | None) -> str | None:
    """Return the id of an encrypted layer's secret; '' if none is named."""
    if element is None:
        return None
    secret = element.find('secret')
    return '' if secret is None else secret.get('uuid', '')


def _agent_channel(xml: str) -> ElementTree.Element | None:
    for target in _parse(xml).iterfind('./devices/channel/target'):
        if target.get('name') == AGENT_CHANNEL:
            return target
    return None


def _passthrough_device(element: ElementTree.Element) -> PassthroughDevice:
    alias = element.find('alias')
    address = element.find('source/address')
    return PassthroughDevice(
        address=_pci_address(address),
        alias='' if alias is None else alias.get('name', ''),
        xml=ElementTree.tostring(element, encoding='unicode'),
    )


def _pci_address(element: ElementTree.Element | None) -> str:
    """Return a PCI address as lspci prints it: 0000:03:00.1."""
    if element is None:
        return 'unknown'

    def number(name: str) -> int:
        return int(element.get(name, '0'), 16)

    return (
        f'{number("domain"):04x}:{number("bus"):02x}:'
        f'{number("slot"):02x}.{number("function"):x}'
    )
