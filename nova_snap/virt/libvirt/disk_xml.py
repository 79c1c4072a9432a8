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

"""Reading the disks in libvirt's domain XML: all of them, in their order.

Open this file when a disk is read wrongly, or to read more of each.  Which of
the disks is the root disk is decided in ``root_disk.py``.
https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms
"""

from collections.abc import Callable
import copy
import dataclasses

# Only libvirtd's own output is parsed.
import xml.etree.ElementTree as ElementTree  # nosec B405

from oslo_utils import uuidutils

from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.storage import disk_source as storage


class Unsupported(ValueError):
    """A disk can't be read, or there is none; the text has the reason."""


@dataclasses.dataclass(frozen=True)
class Volume:
    """A volume of one of libvirt's storage pools, by names."""

    pool: str
    name: str


#: Returns the type (file or block) and the path of a volume; raises
#: Unsupported if it has none.
VolumeFinder = Callable[[Volume], tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Mirror:
    """A mirror in the live XML: the copy of a disk that is under way."""

    target: str | None
    is_ready: bool


@dataclasses.dataclass(frozen=True)
class Disk:
    """One disk of a guest, a drive for removable media included.

    :ivar device: the target name, such as ``vda``.
    :ivar kind: libvirt's ``device``: disk, lun, cdrom or floppy.
    :ivar type: where the data is: file, block, network, etc.
    :ivar format: that of the topmost layer; '' if libvirt names none.
    :ivar readable: the data with its backing chain; None if it can't be read.
    :ivar problem: why it can't be read, a sentence.
    :ivar serial: the serial number that the guest sees, or ''.
    :ivar boot_order: the place among all bootable devices, from 1; None if
        the disk has none of its own.
    :ivar has_iothread: an iothread of QEMU, not its main loop, does the
        disk's requests.
    :ivar is_in_nova: the guest has Nova's metadata.
    :ivar mirror: the mirror that is under way.
    """

    device: str
    bus: str
    kind: str
    type: str
    format: str
    readable: storage.DiskSource | None
    problem: str = ''
    serial: str = ''
    is_readonly: bool = False
    is_shareable: bool = False
    is_transient: bool = False
    boot_order: int | None = None
    has_iothread: bool = False
    is_in_nova: bool = False
    mirror: Mirror | None = None

    @property
    def source(self) -> storage.DiskSource:
        """The data of the disk with its backing chain.

        :raises Unsupported: the disk can't be read.
        """
        if self.readable is None:
            raise Unsupported(self.problem)
        return self.readable

    @property
    def volume_id(self) -> str | None:
        """The id of the volume of Cinder that the disk is, if it is one.

        Nova makes the id the serial number.  Others give their own disks
        serial numbers of that form, so in a guest that is not Nova's, a file
        or block device is a volume only if its name, too, has the id.
        """
        if not uuidutils.is_uuid_like(self.serial):
            return None
        is_volume = (
            self.is_in_nova
            or self.type not in ('file', 'block', 'volume')
            or (
                self.readable is not None
                and self.serial.lower() in self.readable.describe().lower()
            )
        )
        return self.serial if is_volume else None

    @property
    def is_config_drive(self) -> bool:
        """True if Nova made the disk for the server's metadata.

        Nova's names of it end so: .../disk.config, .../UUID_disk.config.
        """
        return (
            self.is_in_nova
            and self.readable is not None
            and self.readable.describe().endswith('disk.config')
        )

    def with_source(self, source: storage.DiskSource) -> 'Disk':
        """Return the disk with more known of its source."""
        return dataclasses.replace(self, readable=source)


def disks(
    xml: str, find_volume: VolumeFinder | None = None
) -> tuple[Disk, ...]:
    """Return all disks of a guest, in the order of its definition.

    :param find_volume: without it, volumes of storage pools can't be read.
    """
    root = domain_xml.parse(xml)
    return tuple(
        _disk(root, element, find_volume)
        for element in root.iterfind('./devices/disk')
    )


def mirror(xml: str, device: str) -> Mirror | None:
    """Return the mirror of a disk while it is under way, else None."""
    found = (disk.mirror for disk in disks(xml) if disk.device == device)
    return next(found, None)


def _disk(
    root: ElementTree.Element,
    element: ElementTree.Element,
    find_volume: VolumeFinder | None,
) -> Disk:
    readable, problem = None, ''
    try:
        readable = _source(element, find_volume)
    except Unsupported as error:
        problem = str(error)
    return Disk(
        device=_attribute(element, 'target', 'dev'),
        bus=_attribute(element, 'target', 'bus'),
        kind=element.get('device', 'disk'),
        type=element.get('type', ''),
        format=_attribute(element, 'driver', 'type'),
        readable=readable,
        problem=problem,
        serial=element.findtext('serial', '').strip(),
        is_readonly=element.find('readonly') is not None,
        is_shareable=element.find('shareable') is not None,
        is_transient=element.find('transient') is not None,
        boot_order=_boot_order(element),
        has_iothread=_has_iothread(root, element),
        is_in_nova=domain_xml.nova_element(root) is not None,
        mirror=_mirror(element),
    )


def _attribute(element: ElementTree.Element, child: str, name: str) -> str:
    found = element.find(child)
    return '' if found is None else found.get(name, '')


def _boot_order(element: ElementTree.Element) -> int | None:
    text = _attribute(element, 'boot', 'order')
    return int(text) if text.isdecimal() else None


def _mirror(element: ElementTree.Element) -> Mirror | None:
    found = element.find('mirror')
    if found is None:
        return None
    source = found.find('source')
    return Mirror(
        target=None
        if source is None
        else source.get('file') or source.get('dev'),
        is_ready=found.get('ready') == 'yes',
    )


def _has_iothread(
    root: ElementTree.Element, disk: ElementTree.Element
) -> bool:
    """Return True if a disk, or a controller it may be at, has an iothread.

    https://libvirt.org/formatdomain.html#iothreads-allocation
    """
    places = [disk]
    if _attribute(disk, 'target', 'bus') == 'scsi':
        places += root.iterfind("./devices/controller[@type='scsi']")
    return any(
        place.find('./driver[@iothread]') is not None
        or place.find('./driver/iothreads') is not None
        for place in places
    )


def _source(
    disk: ElementTree.Element, find_volume: VolumeFinder | None
) -> storage.DiskSource:
    if disk.get('type') == 'volume' and find_volume is not None:
        disk = _with_path(disk, find_volume)
    layer = _layer(disk, _attribute(disk, 'driver', 'type'))
    if disk.find('encryption') is not None:
        layer = dataclasses.replace(
            layer, encryption_secret=_secret(disk.find('encryption'))
        )
    return layer


def _with_path(
    disk: ElementTree.Element, find_volume: VolumeFinder
) -> ElementTree.Element:
    """Return a disk as it were with the file or device of its volume.

    https://libvirt.org/formatdomain.html: the attributes of <source> for the
    disk type volume.
    """
    disk = copy.deepcopy(disk)
    source = disk.find('source')
    if source is None:
        return disk  # an empty drive
    name = Volume(source.get('pool', ''), source.get('volume', ''))
    kind, path = find_volume(name)
    disk.set('type', kind)
    source.set('dev' if kind == 'block' else 'file', path)
    return disk


def _layer(
    element: ElementTree.Element, format_name: str | None
) -> storage.DiskSource:
    """Return the layer of a ``<disk>`` or ``<backingStore>``, with its chain.

    :raises Unsupported: the element has no format or no source.
    """
    if not format_name:
        raise Unsupported(
            'libvirt does not say what format a layer of it has.'
        )
    source = element.find('source')
    if source is None:
        raise Unsupported('it has no source.')
    if source.find('slices') is not None:
        raise Unsupported('it is a slice of a file or of a device (<slices>).')
    backing = element.find('backingStore')
    is_raw = format_name == 'raw'
    return storage.DiskSource(
        type=element.get('type', ''),
        format=format_name,
        location=_location(element, source),
        backing=_backing(backing),
        is_chain_known=is_raw or _is_chain_known(backing),
        encryption_secret=_secret(source.find('encryption')),
        data_store=_data_store(source.find('dataStore')),
    )


def _data_store(
    element: ElementTree.Element | None,
) -> storage.DiskSource | None:
    """Return where the data of a qcow2 file without data is, always raw."""
    return None if element is None else _layer(element, 'raw')


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
    element: ElementTree.Element, source: ElementTree.Element
) -> str | storage.RbdLocation:
    kind = element.get('type', '')
    if kind == 'file' and source.get('file'):
        return source.get('file', '')
    if kind == 'block' and source.get('dev'):
        return source.get('dev', '')
    if kind == 'network' and source.get('protocol') == 'rbd':
        # Nova has it beside the source, and libvirt keeps it there.
        auth = source.find('auth')
        return _rbd(source, element.find('auth') if auth is None else auth)
    if kind == 'network':
        raise Unsupported(
            f'it is reached by {source.get("protocol")!r}, and of the network '
            "protocols only 'rbd' is supported."
        )
    raise Unsupported(
        f'it is of type {kind!r}; file, block and network are supported.'
    )


def _rbd(
    source: ElementTree.Element, auth: ElementTree.Element | None
) -> storage.RbdLocation:
    pool, _, image = source.get('name', '').partition('/')
    if not pool or not image:
        raise Unsupported('its RBD name has not the form POOL/IMAGE.')
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
        secret=_secret(auth) or None,
    )


def _secret(element: ElementTree.Element | None) -> str | None:
    """Return the id of an encrypted layer's secret; '' if none is named."""
    if element is None:
        return None
    secret = element.find('secret')
    return '' if secret is None else secret.get('uuid', '')
