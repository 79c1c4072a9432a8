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

"""The part of a guest's definition that an image may carry: its hardware.

Pure functions from XML to XML.  Only what ``allowed_xml.py`` lists is copied,
on both ways: when an image is made, so that nothing secret and nothing of
this host gets into it, and when a guest is made of an image, whose properties
anybody may have written.
"""

from collections.abc import Collection

# What others have written is parsed by defusedxml.
import xml.etree.ElementTree as ElementTree  # nosec B405

from nova_snap import exception
from nova_snap.virt.libvirt import allowed_xml
from nova_snap.virt.libvirt import domain_xml

#: Bytes of a definition: Glance's database has no longer properties.
MAX_SIZE = 65535


def portable(xml: str, devices: Collection[str]) -> str:
    """Return the hardware of a guest, for an image of some of its disks.

    :param xml: the definition, from libvirt.
    :param devices: target names of the disks.
    """
    domain = allowed_xml.reduced(domain_xml.parse(xml), allowed_xml.OF_IMAGE)
    _complete(domain, domain_xml.parse(xml))
    _keep_disks(domain, devices)
    # Characters of more than one byte are written as references: the image
    # service does not store all of them.
    text: bytes = ElementTree.tostring(domain, encoding='us-ascii')
    return text.decode()


def of_image(text: str) -> ElementTree.Element:
    """Return the hardware that the property of an image describes.

    :raises InvalidDefinition: the text is no definition of a guest.
    """
    # JSON can hold halves of characters, which no other encoding has.
    if len(text.encode(errors='replace')) > MAX_SIZE:
        raise exception.InvalidDefinition(
            reason=f'it has more than {MAX_SIZE} bytes.'
        )
    # Most commands read no definition from an image.
    import defusedxml
    import defusedxml.ElementTree

    try:
        found = defusedxml.ElementTree.fromstring(text, forbid_dtd=True)
    except (
        ElementTree.ParseError,
        UnicodeEncodeError,
        defusedxml.DefusedXmlException,
    ) as error:
        raise exception.InvalidDefinition(
            reason=f'it is no plain XML ({error}).'
        ) from error
    if found.tag != 'domain':
        raise exception.InvalidDefinition(
            reason='it is not the definition of a guest.'
        )
    tags = [child.tag for child in found]
    if len(tags) > len(set(tags)):
        raise exception.InvalidDefinition(
            reason='it has an element twice that a guest has once.'
        )
    domain = allowed_xml.reduced(found, allowed_xml.OF_IMAGE)
    _complete(domain, found)
    return domain


def of_guest(xml: str) -> ElementTree.Element:
    """Return the hardware of a guest of this host, for another one here.

    Unlike that of an image, it names the firmware, kernel and networks of
    this host.
    """
    found = domain_xml.parse(xml)
    domain = allowed_xml.reduced(found, allowed_xml.OF_HOST)
    _complete(domain, found)
    return domain


def _complete(
    domain: ElementTree.Element, original: ElementTree.Element
) -> None:
    """Add what replaces parts that name things of a host."""
    _name_firmware(domain, original)
    for graphics in domain.iterfind('devices/graphics'):
        # There is no password any more: only libvirt may connect a viewer.
        ElementTree.SubElement(graphics, 'listen', {'type': 'none'})
    for generator in domain.iterfind('devices/rng'):
        backend = ElementTree.SubElement(
            generator, 'backend', {'model': 'random'}
        )
        backend.text = '/dev/urandom'


def _name_firmware(
    domain: ElementTree.Element, original: ElementTree.Element
) -> None:
    """Ask for UEFI by name in place of the path of a firmware image."""
    loader = original.find('os/loader')
    found = domain.find('os')
    if (
        found is None
        or loader is None
        or loader.get('type') != 'pflash'
        or found.find('loader') is not None
        or found.get('firmware')
    ):
        return
    found.set('firmware', 'efi')
    is_secure = loader.get('secure') == 'yes'
    firmware = ElementTree.SubElement(found, 'firmware')
    ElementTree.SubElement(
        firmware,
        'feature',
        {'enabled': 'yes' if is_secure else 'no', 'name': 'secure-boot'},
    )


def _keep_disks(domain: ElementTree.Element, devices: Collection[str]) -> None:
    """Remove all disks but those with these target names."""
    found = domain.find('devices')
    if found is None:
        return
    for disk in found.findall('disk'):
        target = disk.find('target')
        if target is None or target.get('dev') not in devices:
            found.remove(disk)
