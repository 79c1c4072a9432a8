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
import contextlib
import dataclasses
import pwd

# What is parsed is libvirtd's own output.
import xml.etree.ElementTree as ElementTree  # nosec B405
from xml.sax import saxutils  # nosec B406  it only escapes

from nova_snap.objects import instance as instance_lib

#: The namespace of the metadata that Nova writes into its guests.
NOVA_NAMESPACE = 'http://openstack.org/xmlns/libvirt/nova/'

AGENT_CHANNEL = 'org.qemu.guest_agent.0'


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
    """Return True if a path is in the XML, as libvirt escapes it there.

    In the metadata, which other programs write, apostrophes are not escaped.
    """
    quote = {'"': '&quot;'}
    return any(
        saxutils.escape(path, marks) in xml
        for marks in ({**quote, "'": '&apos;'}, quote)
    )


def parse(xml: str) -> ElementTree.Element:
    """Return the root element of a domain."""
    return ElementTree.fromstring(xml)  # noqa: S314  # nosec B314


def virt_type(xml: str) -> str:
    """Return the type of the domain: ``kvm``, ``qemu``, ``lxc``, etc."""
    return parse(xml).get('type', '')


def qemu_uid(xml: str) -> int | None:
    """Return the user id that QEMU runs as, or None if it is not labelled.

    The live XML has the label of the model "dac".  Labels that libvirt makes
    have the form ``+UID:+GID``; a definition may have names instead.
    https://libvirt.org/formatdomain.html#security-label
    """
    for label in parse(xml).iterfind('./seclabel'):
        if label.get('model') == 'dac':
            return _uid(label.findtext('label', '').partition(':')[0])
    return None


def _uid(user: str) -> int | None:
    """Return the id of a user, given as NAME, UID or +UID."""
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(user).pw_uid
    number = user.removeprefix('+')
    return int(number) if number.isdecimal() else None


def has_volatile_tpm(xml: str) -> bool:
    """Return True if the state of an emulated TPM is lost with the domain.

    https://libvirt.org/formatdomain.html#tpm-device
    """
    return any(
        backend.get('type') == 'emulator'
        and backend.get('persistent_state') != 'yes'
        for backend in parse(xml).iterfind('./devices/tpm/backend')
    )


def has_tpm(xml: str) -> bool:
    """Return True if the guest has an emulated TPM."""
    found = parse(xml).find("./devices/tpm/backend[@type='emulator']")
    return found is not None


def nvram_format(xml: str) -> str:
    """Return the format of the file with the variables of UEFI firmware.

    https://libvirt.org/formatdomain.html#bios-bootloader
    """
    nvram = parse(xml).find('./os/nvram')
    return 'raw' if nvram is None else nvram.get('format', 'raw')


def has_uefi(xml: str) -> bool:
    """Return True if the guest has UEFI firmware, with variables in flash."""
    os_element = parse(xml).find('./os')
    if os_element is None:
        return False
    loader = os_element.find('loader')
    return os_element.get('firmware') == 'efi' or (
        loader is not None and loader.get('type') == 'pflash'
    )


def memory_size(xml: str) -> int:
    """Return the bytes of memory that a guest may have."""
    # libvirt always writes it in KiB.
    text = parse(xml).findtext('memory', '').strip()
    return int(text) * 1024 if text.isdecimal() else 0


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
    devices = parse(xml).find('devices')
    for element in devices if devices is not None else ():
        kind = (element.tag, element.get('type'))
        if kind in (('hostdev', 'pci'), ('interface', 'hostdev')):
            found.append(_passthrough_device(element))
    return found


def nova_instance(xml: str) -> instance_lib.Instance:
    """Return the instance by Nova's metadata, or else by the domain."""
    root = parse(xml)
    instance = instance_lib.Instance(
        uuid=root.findtext('uuid', ''), name=root.findtext('name', '')
    )
    element = nova_element(root)
    return instance if element is None else _with_metadata(instance, element)


def nova_element(root: ElementTree.Element) -> ElementTree.Element | None:
    """Return what Nova has written into the metadata of a domain, or None."""
    for element in root.iterfind('./metadata/*'):
        if (
            _local_name(element) == 'instance'
            and NOVA_NAMESPACE in element.tag
        ):
            return element
    return None


def _with_metadata(
    instance: instance_lib.Instance, element: ElementTree.Element
) -> instance_lib.Instance:
    name = child(element, 'name')
    owner = child(element, 'owner')
    root = child(element, 'root')
    is_image = root is not None and root.get('type') == 'image'
    return dataclasses.replace(
        instance,
        name=(name.text if name is not None else None) or instance.name,
        project_id=_uuid_of(owner, 'project'),
        user_id=_uuid_of(owner, 'user'),
        image_ref=root.get('uuid') if root is not None and is_image else None,
        flavor=_flavor(child(element, 'flavor')),
    )


def _flavor(
    element: ElementTree.Element | None,
) -> instance_lib.Flavor | None:
    if element is None:
        return None

    def number(name: str) -> int:
        found = child(element, name)
        text = found.text if found is not None else None
        return int(text) if text and text.isdecimal() else 0

    return instance_lib.Flavor(
        name=element.get('name', ''),
        memory_mb=number('memory'),
        root_gb=number('disk'),
        id=element.get('id'),
        vcpus=number('vcpus'),
        swap_mb=number('swap'),
        ephemeral_gb=number('ephemeral'),
        extra_specs={
            spec.get('name', ''): spec.text or ''
            for spec in children(child(element, 'extraSpecs'))
        },
    )


def _uuid_of(parent: ElementTree.Element | None, name: str) -> str | None:
    found = child(parent, name)
    return found.get('uuid') if found is not None else None


def child(
    element: ElementTree.Element | None, name: str
) -> ElementTree.Element | None:
    """Return the child with this name, in any namespace.

    That of Nova's metadata ends in a version, which was 1.0, is 1.1 and may
    change again.
    """
    for found in children(element):
        if _local_name(found) == name:
            return found
    return None


def children(
    element: ElementTree.Element | None,
) -> Iterator[ElementTree.Element]:
    """Yield the children of an element, none if there is no element."""
    yield from element if element is not None else ()


def _local_name(element: ElementTree.Element) -> str:
    return element.tag.rpartition('}')[2]


def _agent_channel(xml: str) -> ElementTree.Element | None:
    for target in parse(xml).iterfind('./devices/channel/target'):
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
