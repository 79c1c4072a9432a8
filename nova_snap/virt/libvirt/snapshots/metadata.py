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

"""Parser of libvirt's XML of a domain snapshot: from text to plain types.

Open this file when a domain snapshot is read wrongly.
https://libvirt.org/formatsnapshot.html
"""

import dataclasses
import datetime

# What is parsed is libvirtd's own output.
import xml.etree.ElementTree as ElementTree  # nosec B405

from nova_snap.objects import domain_snapshot
from nova_snap.virt.libvirt import disk_xml
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.storage import disk_source as storage

EXTERNAL = 'external'
INTERNAL = 'internal'

#: The state of a guest that ran while a snapshot of disks alone was taken.
DISK_STATE = 'disk-snapshot'


@dataclasses.dataclass(frozen=True)
class Disk:
    """A disk in a domain snapshot.

    :ivar mode: libvirt's: internal, external, manual, or no.
    :ivar frozen: the topmost layer as of then, without those below; None if
        that is not known.
    :ivar overlay: the layer that was put on it, None if there is none.
    """

    device: str
    mode: str
    frozen: storage.DiskSource | None
    overlay: storage.DiskSource | None

    @property
    def is_in(self) -> bool:
        """True if the domain snapshot has the disk."""
        return self.mode in (EXTERNAL, INTERNAL)


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What libvirt keeps of a domain snapshot; see ``DomainSnapshot``."""

    name: str
    description: str
    state: str
    created_at: datetime.datetime | None
    parent: str | None
    is_current: bool
    memory: str
    memory_file: str | None
    disks: tuple[Disk, ...]

    @property
    def is_internal(self) -> bool:
        """True if a qcow2 file has it in itself."""
        return self.memory == INTERNAL or any(
            disk.mode == INTERNAL for disk in self.disks
        )

    @property
    def paths(self) -> frozenset[str]:
        """The files that it names."""
        layers = [
            layer
            for disk in self.disks
            for layer in (disk.frozen, disk.overlay)
            if layer is not None and disk.is_in
        ]
        paths = {layer.describe() for layer in layers}
        return frozenset(paths | ({self.memory_file or ''} - {''}))

    @property
    def has_disks(self) -> bool:
        """True if it has a disk, and not the memory alone."""
        return any(disk.is_in for disk in self.disks)

    @property
    def kind(self) -> domain_snapshot.Kind:
        """What of the guest it keeps."""
        if self.memory not in (EXTERNAL, INTERNAL):
            return domain_snapshot.Kind.DISK
        if self.has_disks:
            return domain_snapshot.Kind.SYSTEM
        return domain_snapshot.Kind.MEMORY


def parse(xml: str, is_current: bool) -> Metadata:
    """Return what the XML of a domain snapshot says."""
    root = domain_xml.parse(xml)
    memory = root.find('memory')
    frozen = _frozen(root.find('domain'))
    return Metadata(
        name=root.findtext('name', ''),
        description=root.findtext('description', ''),
        state=root.findtext('state', ''),
        created_at=_time(root.findtext('creationTime', '')),
        parent=root.findtext('parent/name'),
        is_current=is_current,
        memory='no' if memory is None else memory.get('snapshot', 'no'),
        memory_file=None if memory is None else memory.get('file'),
        disks=tuple(
            _disk(element, frozen) for element in root.iterfind('disks/disk')
        ),
    )


def _time(text: str) -> datetime.datetime | None:
    if not text.isdecimal():
        return None
    return datetime.datetime.fromtimestamp(int(text), datetime.UTC)


def _frozen(
    element: ElementTree.Element | None,
) -> dict[str, storage.DiskSource]:
    """Return the topmost layer of each disk in the definition of then."""
    if element is None:
        return {}
    # libvirt 1.0 and later keep the definition; what merged layers since has
    # changed what is below.
    disks = disk_xml.disks(ElementTree.tostring(element, encoding='unicode'))
    return {
        disk.device: dataclasses.replace(
            disk.readable, backing=None, is_chain_known=False
        )
        for disk in disks
        if disk.readable is not None
    }


def _disk(
    element: ElementTree.Element, frozen: dict[str, storage.DiskSource]
) -> Disk:
    name = element.get('name', '')
    mode = element.get('snapshot', 'no')
    return Disk(
        device=name,
        mode=mode,
        frozen=frozen.get(name),
        overlay=_overlay(element) if mode == EXTERNAL else None,
    )


def _overlay(element: ElementTree.Element) -> storage.DiskSource | None:
    source, driver = element.find('source'), element.find('driver')
    if source is None:
        return None
    path = source.get('file') or source.get('dev')
    if not path:
        return None
    return storage.DiskSource(
        type=element.get('type', 'file'),
        format='qcow2' if driver is None else driver.get('type', 'qcow2'),
        location=path,
        is_chain_known=False,
    )
