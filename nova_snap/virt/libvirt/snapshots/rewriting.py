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

"""XML of domain snapshots and guests in which a file is another one.

Open this file when libvirt keeps the name of a file that has gone.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import io

# What is written here was libvirtd's own output.
import xml.etree.ElementTree as ElementTree  # nosec B405

from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.storage import disk_source as storage

#: Prefixes that ElementTree gives itself.
_OWN_PREFIX = 'ns'


def moved(
    xml: str, device: str, path: str, new: storage.DiskSource
) -> str | None:
    """Return the XML with another file in the place of one.

    Return None if it does not name that file.  A backing chain in which the
    old file is named is left to libvirt to find out again.

    :param xml: of a domain, or of a domain snapshot.
    :param device: target name of the disk.
    """
    has_moved = False

    def move(root: ElementTree.Element) -> None:
        nonlocal has_moved
        for disk in _disks(root, device):
            if _path(disk) == path:
                _set(disk, new)
            elif all(_path(b) != path for b in disk.iter('backingStore')):
                continue
            _forget_chain(disk)
            has_moved = True

    edited = _edited(xml, move)
    return edited if has_moved else None


def with_parent(xml: str, name: str | None) -> str | None:
    """Return the XML of a domain snapshot with another parent.

    Return None if it has that parent already.

    :param name: None: it is a root.
    """
    if domain_xml.parse(xml).findtext('parent/name') == name:
        return None

    def set_parent(root: ElementTree.Element) -> None:
        for found in root.findall('parent'):
            root.remove(found)
        if name is not None:
            parent = ElementTree.SubElement(root, 'parent')
            ElementTree.SubElement(parent, 'name').text = name

    return _edited(xml, set_parent)


def reverted(
    xml: str, overlays: Mapping[str, storage.DiskSource], has_children: bool
) -> str:
    """Return the XML of a domain snapshot that the guest was reverted to.

    Its overlays are the new ones.  Where those of before have come to be the
    disks of its children, the new ones have a place of their own: libvirt
    (9.9 and later) removes what it finds there, or else the overlays, when
    the guest is reverted to another one.

    :param overlays: that the guest goes on in, by device.
    """

    def edit(root: ElementTree.Element) -> None:
        for found in root.findall('revertDisks'):
            root.remove(found)
        disks = root.find('disks')
        if not overlays or disks is None:
            return
        place = disks
        if has_children:
            place = ElementTree.Element('revertDisks')
            root.insert(list(root).index(disks) + 1, place)
        for device, overlay in overlays.items():
            disk = place.find(f"./disk[@name='{device}']")
            if disk is None:
                disk = ElementTree.SubElement(place, 'disk', {'name': device})
            disk.set('snapshot', 'external')
            _set(disk, overlay)

    return _edited(xml, edit)


def with_disks(xml: str, sources: Mapping[str, storage.DiskSource]) -> str:
    """Return the XML of a domain with other files for some of its disks."""

    def edit(root: ElementTree.Element) -> None:
        for disk in root.iterfind('./devices/disk'):
            source = sources.get(_target(disk))
            if source is not None:
                _set(disk, source)
                _forget_chain(disk)

    return _edited(xml, edit)


def with_name(xml: str, name: str) -> str:
    """Return the XML of a domain with the name that it has by now."""

    def edit(root: ElementTree.Element) -> None:
        found = root.find('name')
        if found is not None:
            found.text = name

    return _edited(xml, edit)


def domain_of(snapshot_xml: str) -> str | None:
    """Return the XML of the guest as it was at a domain snapshot.

    That is what the guest would have started with the next time.
    """
    found: list[str] = []

    def look(root: ElementTree.Element) -> None:
        for tag in ('inactiveDomain', 'domain'):
            element = root.find(tag)
            if element is not None and not found:
                element.tag = 'domain'
                element.tail = None
                found.append(ElementTree.tostring(element, encoding='unicode'))

    _edited(snapshot_xml, look)
    return found[0] if found else None


def _edited(xml: str, edit: Callable[[ElementTree.Element], None]) -> str:
    for prefix, uri in _prefixes(xml):
        # Else the prefixes that a program has chosen would be others.
        if prefix and not prefix.startswith(_OWN_PREFIX):
            ElementTree.register_namespace(prefix, uri)
    root = domain_xml.parse(xml)
    edit(root)
    return ElementTree.tostring(root, encoding='unicode')


def _prefixes(xml: str) -> Iterator[tuple[str, str]]:
    for _event, found in ElementTree.iterparse(  # noqa: S314  # nosec B314
        io.StringIO(xml), events=('start-ns',)
    ):
        yield found


def _disks(
    root: ElementTree.Element, device: str
) -> Iterator[ElementTree.Element]:
    """Yield each place where a domain or a domain snapshot has a disk."""
    places = [root] if root.tag == 'domain' else root.findall('./*')
    for place in places:
        if place.tag in ('domain', 'inactiveDomain'):
            yield from (
                disk
                for disk in place.iterfind('./devices/disk')
                if _target(disk) == device
            )
        else:
            yield from place.iterfind(f"./disk[@name='{device}']")


def _target(disk: ElementTree.Element) -> str:
    target = disk.find('target')
    return '' if target is None else target.get('dev', '')


def _path(element: ElementTree.Element) -> str | None:
    source = element.find('source')
    if source is None:
        return None
    return source.get('file') or source.get('dev')


def _set(disk: ElementTree.Element, new: storage.DiskSource) -> None:
    source, driver = disk.find('source'), disk.find('driver')
    if source is None:
        source = ElementTree.SubElement(disk, 'source')
    if driver is None:
        driver = ElementTree.SubElement(disk, 'driver')
    for name in ('file', 'dev', 'pool', 'volume', 'index', 'startupPolicy'):
        source.attrib.pop(name, None)
    disk.set('type', new.type)
    source.set('dev' if new.type == 'block' else 'file', new.describe())
    driver.set('type', new.format)


def _forget_chain(disk: ElementTree.Element) -> None:
    for backing in disk.findall('backingStore'):
        disk.remove(backing)
