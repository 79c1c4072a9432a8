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

"""Image properties for the hardware that a guest boots on: a pure function.

Nova makes a guest by the properties of its image, and by the defaults of the
cloud where there are none.  Open this file when the image of a guest that Nova
has not made does not boot in OpenStack.  What Nova 34 accepts:
https://docs.openstack.org/glance/latest/admin/useful-image-properties.html
"""

from collections.abc import Iterator

# Only libvirtd's own output is parsed.
import xml.etree.ElementTree as ElementTree  # nosec B405

from nova_snap.virt.libvirt import domain_xml

#: Machine types without their version, which other hosts may not have, by how
#: QEMU and distributions begin their names.
_MACHINES = {
    'q35': 'q35',
    'pc-q35': 'q35',
    'pc': 'pc',
    'virt': 'virt',
    'pseries': 'pseries',
    's390-ccw-virtio': 's390-ccw-virtio',
}

#: Of the architectures of guests, those that have one name in libvirt and in
#: Nova, which refuses to boot an image with an unknown one.
_ARCHITECTURES = (
    'aarch64',
    'armv7l',
    'i686',
    'ppc64',
    'ppc64le',
    's390x',
    'x86_64',
)

_DISK_BUSES = ('fdc', 'ide', 'sata', 'scsi', 'usb', 'virtio')

_SCSI_MODELS = (
    'buslogic',
    'ibmvscsi',
    'lsilogic',
    'lsisas1068',
    'lsisas1078',
    'virtio-scsi',
    'vmpvscsi',
)

_VIF_MODELS = (
    'e1000',
    'e1000e',
    'igb',
    'ne2k_pci',
    'pcnet',
    'rtl8139',
    'spapr-vlan',
    'virtio',
    'vmxnet3',
)

#: libvirt's names of one device at two kinds of PCI slot.
_VIRTIO_SUFFIXES = ('-transitional', '-non-transitional')


def image_properties(xml: str, device: str) -> dict[str, str]:
    """Return the properties with which Nova makes such a guest.

    A property whose value Nova would not accept is left out.

    :param device: the target name of the disk that the image is made of.
    """
    root = domain_xml.parse(xml)
    return {key: value for key, value in _found(root, device) if value}


def _found(
    root: ElementTree.Element, device: str
) -> Iterator[tuple[str, str | None]]:
    machine = root.find('os/type')
    if machine is not None:
        arch = _among(_ARCHITECTURES, machine.get('arch', ''))
        yield 'architecture', arch
        yield 'hw_machine_type', _machine(machine.get('machine', ''))
    yield 'hw_firmware_type', 'uefi' if _is_uefi(root) else None
    for disk in root.iterfind('devices/disk'):
        if _attribute(disk, 'target', 'dev') != device:
            continue
        bus = _among(_DISK_BUSES, _attribute(disk, 'target', 'bus'))
        yield 'hw_disk_bus', bus
        yield 'hw_scsi_model', _scsi_model(root, disk) if bus == 'scsi' else ''
    interface = root.find('devices/interface')
    if interface is not None:
        model = _attribute(interface, 'model', 'type')
        yield 'hw_vif_model', _among(_VIF_MODELS, _virtio('virtio', model))


def _machine(name: str) -> str | None:
    """Return the machine type of ``pc-q35-7.2`` or ``pc-q35-rhel9.2.0``."""
    found = [
        start
        for start in _MACHINES
        if name == start or name.startswith(f'{start}-')
    ]
    return _MACHINES[max(found, key=len)] if found else None


def _is_uefi(root: ElementTree.Element) -> bool:
    """Return True if the firmware is UEFI.

    libvirt loads it into flash memory; only BIOS is in ROM.
    """
    found = root.find('os')
    return found is not None and (
        found.get('firmware') == 'efi'
        or _attribute(found, 'loader', 'type') == 'pflash'
    )


def _scsi_model(
    root: ElementTree.Element, disk: ElementTree.Element
) -> str | None:
    number = _attribute(disk, 'address', 'controller') or '0'
    controller = root.find(
        f"devices/controller[@type='scsi'][@index='{number}']"
    )
    model = '' if controller is None else controller.get('model', '')
    return _among(_SCSI_MODELS, _virtio('virtio-scsi', model))


def _virtio(name: str, model: str) -> str:
    """Return a name for what libvirt calls ``virtio-transitional``."""
    is_variant = model in [f'virtio{suffix}' for suffix in _VIRTIO_SUFFIXES]
    return name if is_variant else model


def _among(accepted: tuple[str, ...], value: str) -> str | None:
    return value if value in accepted else None


def _attribute(element: ElementTree.Element, child: str, name: str) -> str:
    found = element.find(child)
    return '' if found is None else found.get(name, '')
