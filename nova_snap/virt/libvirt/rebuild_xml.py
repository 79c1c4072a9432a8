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


"""The definition of a guest that is rebuilt: pure functions from XML to XML.

The disks that were replaced are written into the metadata of the definition,
which changes at one moment together with the disks.  Nothing else of the text
is changed.  https://libvirt.org/formatdomain.html#general-metadata
"""

from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import xml.etree.ElementTree as ElementTree  # nosec B405  libvirt's own XML

from nova_snap import exception
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt import new_guest_xml
from nova_snap.virt.libvirt import xml_text

NAMESPACE = 'urn:nova-snap:replaced-disks:1'

#: The prefix of the namespace in what is written.
KEY = 'nova_snap'

_ROOT = f'{{{NAMESPACE}}}replaced'
_DISK = f'{{{NAMESPACE}}}disk'

_DISKS = ('domain', 'devices', 'disk')
_METADATA = ('domain', 'metadata')


@dataclasses.dataclass(frozen=True)
class Replaced:
    """A disk that was replaced, and is kept.

    :ivar device: the target name.
    :ivar path: the file; '' if it is a device of the host.
    :ivar by: the file of the disk that has its place.
    :ivar xml: the element of the definition.
    """

    device: str
    path: str
    by: str
    xml: str = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class Replacement:
    """The file that a disk gets, and the one that it had ('' if none)."""

    new: new_guest_xml.File
    old: str


def replaced_disks(xml: str) -> tuple[Replaced, ...]:
    """Return the disks that a definition says are kept."""
    root = domain_xml.parse(xml).find(f'metadata/{_ROOT}')
    return tuple(
        Replaced(
            device=disk.get('device', ''),
            path=disk.get('path', ''),
            by=disk.get('by', ''),
            xml=disk.text or '',
        )
        for disk in (() if root is None else root.iterfind(_DISK))
    )


def image(xml: str) -> str | None:
    """Return the id of the image that the disks of a guest are of, if any."""
    return image_of(domain_xml.parse(xml))


def image_of(domain: ElementTree.Element) -> str | None:
    """Return the same of a definition that is parsed."""
    note = domain.find(f'metadata/{_ROOT}')
    return None if note is None else note.get('image') or None


def with_new_disks(
    xml: str, image_id: str, disks: Mapping[str, Replacement]
) -> str:
    """Return a definition with other files for disks, and a note of the old.

    A note of an earlier time is dropped.

    :param image_id: of the image that the new disks are of.
    :param disks: by their target names; the guest has all of them.
    """
    note = _note(image_id)
    note.set('before', image(xml) or '')
    edits = []
    for span, device in _disks(xml):
        if device not in disks:
            continue
        old = ElementTree.SubElement(
            note,
            _DISK,
            {
                'device': device,
                'path': disks[device].old,
                'by': str(disks[device].new.path),
            },
        )
        old.text = span.text
        disk = domain_xml.parse(span.text)
        new_guest_xml.set_source(disk, disks[device].new)
        edits.append(span.replaced(_text(disk)))
    return _with_note(xml_text.edited(xml, edits), note)


def with_old_disks(xml: str, old: Sequence[Replaced]) -> str:
    """Return a definition with the disks that were replaced.

    :raises InvalidDefinition: the guest has no such disk any more.
    """
    spans = {device: span for span, device in _disks(xml)}
    for one in old:
        if one.device not in spans:
            raise exception.InvalidDefinition(
                reason=f'it has no disk {one.device} any more.'
            )
    note = domain_xml.parse(xml).find(f'metadata/{_ROOT}')
    before = '' if note is None else note.get('before', '')
    edits = [spans[one.device].replaced(one.xml) for one in old]
    return _with_note(
        xml_text.edited(xml, edits), _note(before) if before else None
    )


def with_image(xml: str, image_id: str) -> str:
    """Return a definition with a note of the image that its disks are of."""
    return _with_note(xml, _note(image_id))


def note_without_disks(xml: str) -> str:
    """Return the note of a definition as it is when the disks are removed.

    libvirt adds the namespace when it writes an element into metadata.
    """
    note = _note(image(xml) or '')
    note.tag = note.tag.rpartition('}')[2]
    return _text(note)


def without_disks(xml: str, devices: Collection[str]) -> str:
    """Return a definition without some of its disks."""
    return xml_text.edited(
        xml,
        [
            span.replaced('')
            for span, device in _disks(xml)
            if device in devices
        ],
    )


def _disks(xml: str) -> list[tuple[xml_text.Span, str]]:
    """Return the text of each disk, and its target name."""
    return [
        (span, _device(domain_xml.parse(span.text)))
        for span in xml_text.spans(xml, _DISKS)
    ]


def _with_note(xml: str, note: ElementTree.Element | None) -> str:
    """Return a definition with another note, or none."""
    own = xml_text.spans(xml, (*_METADATA, _ROOT))
    xml = xml_text.edited(xml, [span.replaced('') for span in own])
    (domain,) = xml_text.spans(xml, ('domain',))
    metadata = xml_text.spans(xml, _METADATA)
    if note is not None:
        if not metadata:
            text = f'<metadata>{_text(note)}</metadata>'
            return xml_text.edited(xml, [domain.begun_with(text)])
        return xml_text.edited(xml, [metadata[0].begun_with(_text(note))])
    if domain_xml.parse(xml).find('metadata/*') is not None:
        return xml
    return xml_text.edited(xml, [span.replaced('') for span in metadata])


def _note(image_id: str) -> ElementTree.Element:
    return ElementTree.Element(_ROOT, {'image': image_id})


def _text(element: ElementTree.Element) -> str:
    ElementTree.register_namespace(KEY, NAMESPACE)
    return ElementTree.tostring(element, encoding='unicode')


def _device(disk: ElementTree.Element) -> str:
    target = disk.find('target')
    return '' if target is None else target.get('dev', '')
