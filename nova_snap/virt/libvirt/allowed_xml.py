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

"""The elements of domain XML that describe a guest's hardware.

Open this file to let images carry another element.  An element, an attribute,
or a value that is not in these tables is left out.  None of the values of an
image can hold a slash, so there is no path in it, whatever a later libvirt
makes of an element.  https://libvirt.org/formatdomain.html
"""

from collections.abc import Mapping
import dataclasses
import re
import xml.etree.ElementTree as ElementTree  # nosec B405  no parser is used

_WORD = re.compile(r'[A-Za-z0-9_.,:+ -]{1,255}')
_NUMBER = re.compile(r'[0-9]{1,15}')
_ANY = re.compile(r'[^\0]{1,4096}')


@dataclasses.dataclass(frozen=True)
class Allowed:
    """An element that is copied.

    :ivar attributes: those that are copied, if they have values as these.
    :ivar children: the elements in it that are copied.
    :ivar text: an element with another text is left out; None copies no text.
    :ivar only: values that attributes have to have, or else the element is
        left out; an attribute that is missing counts as the empty value.
    :ivar fixed: attributes that a copy has in any case.
    """

    attributes: Mapping[str, re.Pattern[str]]
    children: Mapping[str, 'Allowed'] = dataclasses.field(default_factory=dict)
    text: re.Pattern[str] | None = None
    only: Mapping[str, frozenset[str]] = dataclasses.field(
        default_factory=dict
    )
    fixed: Mapping[str, str] = dataclasses.field(default_factory=dict)


def reduced(
    element: ElementTree.Element, allowed: Allowed
) -> ElementTree.Element:
    """Return a copy of an element, with what is allowed of it."""
    copy = ElementTree.Element(element.tag)
    for name, pattern in allowed.attributes.items():
        value = element.get(name)
        if value is not None and pattern.fullmatch(value):
            copy.set(name, value)
    for name, value in allowed.fixed.items():
        copy.set(name, value)
    if allowed.text is not None:
        copy.text = _text(element)
    for child in element:
        inner = allowed.children.get(child.tag)
        if inner is not None and _is_wanted(child, inner):
            copy.append(reduced(child, inner))
    return copy


def _is_wanted(element: ElementTree.Element, allowed: Allowed) -> bool:
    if allowed.text is not None and not allowed.text.fullmatch(_text(element)):
        return False
    return all(
        element.get(name, '') in values
        for name, values in allowed.only.items()
    )


def _text(element: ElementTree.Element) -> str:
    return (element.text or '').strip()


def _element(
    names: str = '',
    children: Mapping[str, Allowed] | None = None,
    text: re.Pattern[str] | None = None,
    only: Mapping[str, str] | None = None,
    fixed: Mapping[str, str] | None = None,
) -> Allowed:
    """Return an element with attributes whose values are words."""
    return Allowed(
        attributes=dict.fromkeys(names.split(), _WORD),
        children=children or {},
        text=text,
        only={
            name: frozenset('' if word == '-' else word for word in words)
            for name, words in (
                (name, values.split()) for name, values in (only or {}).items()
            )
        },
        fixed=fixed or {},
    )


def _one_of(*values: str) -> re.Pattern[str]:
    return re.compile('|'.join(map(re.escape, values)))


#: Addresses on the buses of the guest.
_ADDRESS = _element(
    'type domain bus slot function multifunction controller target unit port '
    'cssid ssid devno reg iobase irq base',
    only={'type': 'pci drive usb virtio-serial ccid isa ccw spapr-vio'},
)
_BOOT = _element('order')
_VIRTIO = 'iommu ats packed page_per_vq'

_OS = {
    'type': _element('arch machine', text=_one_of('hvm')),
    'boot': _element('dev', only={'dev': 'hd network cdrom fd'}),
    'bootmenu': _element('enable timeout'),
    'bios': _element('useserial rebootTimeout'),
    'firmware': _element(
        children={'feature': _element('enabled name')},
    ),
}

#: What only a guest of the same host can have: the files are there.
_OS_OF_HOST = {
    'kernel': Allowed({}, text=_ANY),
    'initrd': Allowed({}, text=_ANY),
    'cmdline': Allowed({}, text=_ANY),
    'loader': Allowed(
        dict.fromkeys(('readonly', 'type', 'secure', 'format'), _WORD),
        text=_ANY,
    ),
    'nvram': Allowed({'template': _ANY, 'format': _WORD}),
}

_STATE = _element('state')
_FEATURES = {
    'acpi': _element(),
    'apic': _element('eoi'),
    'pae': _element(),
    'hap': _STATE,
    'smm': _STATE,
    'pmu': _STATE,
    'vmport': _STATE,
    'vmcoreinfo': _STATE,
    'gic': _element('version'),
    'ioapic': _element('driver'),
    'kvm': _element(
        children=dict.fromkeys(
            ('hidden', 'hint-dedicated', 'poll-control', 'pv-ipi'), _STATE
        )
    ),
    'hyperv': _element(
        'mode',
        children=dict.fromkeys(
            (
                *('relaxed', 'vapic', 'spinlocks', 'vpindex', 'runtime'),
                *('synic', 'stimer', 'reset', 'vendor_id', 'frequencies'),
                *('reenlightenment', 'tlbflush', 'ipi', 'evmcs', 'avic'),
            ),
            _element('state retries value'),
        ),
    ),
}

_CPU = _element(
    'mode match check migratable',
    children={
        'model': _element('fallback', text=_WORD),
        'vendor': _element(text=_WORD),
        'topology': _element('sockets dies clusters cores threads'),
        'cache': _element('mode level'),
        'feature': _element('policy name'),
        'maxphysaddr': _element('mode bits'),
        'numa': _element(
            children={'cell': _element('id cpus memory unit')},
        ),
    },
)

_CLOCK = _element(
    'offset adjustment',
    children={
        'timer': _element(
            'name track tickpolicy present frequency mode',
            children={'catchup': _element('threshold slew limit')},
        )
    },
    only={'offset': 'utc localtime variable'},
)

_DISK = _element(
    'device',
    children={
        'driver': _element(
            'name cache io discard detect_zeroes iothread queues queue_size '
            f'error_policy rerror_policy {_VIRTIO}'
        ),
        'target': _element('dev bus rotation_rate removable'),
        'serial': _element(text=_WORD),
        'wwn': _element(text=_WORD),
        'vendor': _element(text=_WORD),
        'product': _element(text=_WORD),
        'blockio': _element('logical_block_size physical_block_size'),
        'boot': _BOOT,
        'address': _ADDRESS,
    },
    only={'device': 'disk -'},
    fixed={'type': 'file', 'device': 'disk'},
)

_CONTROLLER = _element(
    'type index model ports vectors',
    children={
        'driver': _element(f'queues iothread cmd_per_lun {_VIRTIO}'),
        'model': _element('name'),
        'target': _element('chassis chassisNr port busNr hotplug index'),
        'master': _element('startport'),
        'address': _ADDRESS,
    },
    only={'type': 'ide fdc scsi sata usb virtio-serial pci ccid'},
)

_OF_INTERFACE = {
    'model': _element('type'),
    'driver': _element(f'name queues rx_queue_size tx_queue_size {_VIRTIO}'),
    'boot': _BOOT,
    'mtu': _element('size'),
    'address': _ADDRESS,
}
#: Those without a device of the host behind them.
_INTERFACE = _element(
    children=_OF_INTERFACE,
    only={'type': 'network bridge direct ethernet user'},
    fixed={'type': 'network'},
)
_INTERFACE_OF_HOST = _element(
    'type',
    children={
        **_OF_INTERFACE,
        'source': _element('network bridge portgroup'),
        'virtualport': _element('type'),
    },
    only={'type': 'network bridge'},
)

#: Where the bytes of a serial port go is the host's: to a terminal.
_CHARACTERS = _element(
    children={
        'target': _element(
            'type port name', children={'model': _element('name')}
        ),
        'address': _ADDRESS,
    },
    fixed={'type': 'pty'},
)

_AGENT = _element(
    children={
        'target': _element(
            'type name',
            only={'type': 'virtio', 'name': 'org.qemu.guest_agent.0'},
        ),
        'address': _ADDRESS,
    },
    only={'type': 'unix'},
    fixed={'type': 'unix'},
)

_DEVICES = {
    'disk': _DISK,
    'controller': _CONTROLLER,
    'interface': _INTERFACE,
    'serial': _CHARACTERS,
    'console': _CHARACTERS,
    'channel': _AGENT,
    'input': _element(
        'type bus model',
        children={'address': _ADDRESS},
        only={'type': 'mouse tablet keyboard'},
    ),
    'graphics': _element('type', only={'type': 'vnc spice'}),
    'video': _element(
        children={
            'model': _element('type vram ram vgamem heads primary vram64'),
            'address': _ADDRESS,
        }
    ),
    'sound': _element('model', children={'address': _ADDRESS}),
    'watchdog': _element(
        'model action',
        children={'address': _ADDRESS},
        only={'action': 'reset shutdown poweroff pause none -'},
    ),
    'memballoon': _element(
        'model autodeflate freePageReporting',
        children={'stats': _element('period'), 'address': _ADDRESS},
    ),
    'rng': _element('model', children={'address': _ADDRESS}),
    'tpm': _element(
        'model',
        children={
            'backend': _element('type version', only={'type': 'emulator'}),
            'address': _ADDRESS,
        },
    ),
    'panic': _element('model', children={'address': _ADDRESS}),
    'iommu': _element(
        'model',
        children={'driver': _element('intremap caching_mode eim iotlb')},
    ),
}


def _domain(is_of_host: bool) -> Allowed:
    """Return what is allowed of a guest, from an image or of this host."""
    memory = _element('unit', text=_NUMBER)
    lifecycle = _element(text=_one_of('destroy', 'restart', 'preserve'))
    interface = _INTERFACE_OF_HOST if is_of_host else _INTERFACE
    return _element(
        'type',
        children={
            'memory': memory,
            'currentMemory': memory,
            'vcpu': _element('current', text=_NUMBER),
            'iothreads': _element(text=_NUMBER),
            'os': _element(
                'firmware',
                children={**_OS, **(_OS_OF_HOST if is_of_host else {})},
            ),
            'features': _element(children=_FEATURES),
            'cpu': _CPU,
            'clock': _CLOCK,
            'on_poweroff': lifecycle,
            'on_reboot': lifecycle,
            'on_crash': lifecycle,
            'pm': _element(
                children={
                    'suspend-to-mem': _element('enabled'),
                    'suspend-to-disk': _element('enabled'),
                }
            ),
            'devices': _element(children={**_DEVICES, 'interface': interface}),
        },
    )


#: Of a definition that an image carries.
OF_IMAGE = _domain(is_of_host=False)

#: Of a guest of this host, for another guest of this host.
OF_HOST = _domain(is_of_host=True)
