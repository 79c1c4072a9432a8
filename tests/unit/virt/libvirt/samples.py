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


"""Domain XML as libvirt 9 gives it out for guests of Nova and others.

Only the disks, devices and metadata differ from test to test; the rest stands
around them so that the readers have to find their way.
"""

import textwrap

from tests.unit import base

UUID = base.SERVER
NAME = 'instance-0000002a'

OVERLAY = '/var/lib/nova/instances/6a6bdf3d/disk'
BASE = '/var/lib/nova/instances/_base/0a1b2c'

_DOMAIN = """\
<domain type='{virt_type}' id='7'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  {metadata}
  <memory unit='KiB'>262144</memory>
  <vcpu placement='static'>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type>
    <boot dev='hd'/>
  </os>
  <clock offset='utc'/>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    {disks}
    <controller type='usb' index='0' model='piix3-uhci'>
      <alias name='usb'/>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x01' \
function='0x2'/>
    </controller>
    <interface type='bridge'>
      <mac address='fa:16:3e:11:22:33'/>
      <source bridge='br-int'/>
      <virtualport type='openvswitch'/>
      <target dev='tap0'/>
      <model type='virtio'/>
      <alias name='net0'/>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x03' \
function='0x0'/>
    </interface>
    <serial type='pty'>
      <target type='isa-serial' port='0'/>
      <alias name='serial0'/>
    </serial>
    {devices}
    <memballoon model='virtio'>
      <alias name='balloon0'/>
    </memballoon>
  </devices>
</domain>
"""

CDROM = """\
<disk type='file' device='cdrom'>
  <driver name='qemu' type='raw'/>
  <source file='/var/lib/nova/instances/6a6bdf3d/disk.config' index='9'/>
  <backingStore/>
  <target dev='sda' bus='sata'/>
  <readonly/>
  <alias name='sata0-0-0'/>
</disk>"""

EMPTY_CDROM = """\
<disk type='file' device='cdrom'>
  <driver name='qemu'/>
  <target dev='hdc' bus='ide'/>
  <readonly/>
</disk>"""

FLOPPY = """\
<disk type='file' device='floppy'>
  <driver name='qemu' type='raw'/>
  <source file='/srv/driver.img'/>
  <target dev='fda' bus='fdc'/>
</disk>"""

#: Nova's metadata of a server booted from an image; {version} is its own.
NOVA = """\
<metadata>
  <nova:instance \
xmlns:nova="http://openstack.org/xmlns/libvirt/nova/{version}">
    <nova:package version="33.0.0"/>
    <nova:name>Büro-サーバ 1</nova:name>
    <nova:creationTime>2026-01-02 03:04:05</nova:creationTime>
    <nova:flavor name="m1.tiny">
      <nova:memory>256</nova:memory>
      <nova:disk>2</nova:disk>
      <nova:swap>0</nova:swap>
      <nova:ephemeral>0</nova:ephemeral>
      <nova:vcpus>1</nova:vcpus>
    </nova:flavor>
    <nova:owner>
      <nova:user uuid="4fbe">admin</nova:user>
      <nova:project uuid="9a1d">demo</nova:project>
    </nova:owner>
    <nova:root type="image" uuid="2f0c3bd5-1b7a-4f4e-9d0e-52f6a7f2f2a9"/>
    <nova:ports>
      <nova:port uuid="e7a0">
        <nova:ip type="fixed" address="10.0.0.5" ipVersion="4"/>
      </nova:port>
    </nova:ports>
  </nova:instance>
</metadata>"""


def domain(
    *disks: str,
    virt_type: str = 'kvm',
    metadata: str = '',
    devices: str = '',
) -> str:
    """Return the XML of a domain with these disks and devices."""
    return _DOMAIN.format(
        virt_type=virt_type,
        name=NAME,
        uuid=UUID,
        metadata=metadata,
        disks=textwrap.indent('\n'.join(disks), '    ').strip(),
        devices=textwrap.indent(devices, '    ').strip(),
    )


def disk(
    source: str = f"<source file='{OVERLAY}' index='1'/>",
    kind: str = 'file',
    driver: str = "<driver name='qemu' type='qcow2' cache='none'/>",
    inside: str = '',
    device: str = 'vda',
) -> str:
    """Return a ``<disk>``; ``inside`` follows its source."""
    return f"""\
<disk type='{kind}' device='disk'>
  {driver}
  {source}
  {inside}
  <target dev='{device}' bus='virtio'/>
  <alias name='virtio-disk0'/>
  <address type='pci' domain='0x0000' bus='0x00' slot='0x04' function='0x0'/>
</disk>"""


def raw_disk(path: str = '/srv/web.img', device: str = 'vda') -> str:
    """Return a raw disk in a file."""
    return disk(
        f"<source file='{path}' index='1'/>",
        driver="<driver name='qemu' type='raw'/>",
        inside='<backingStore/>',
        device=device,
    )


def backing(path: str, name: str, below: str = '<backingStore/>') -> str:
    """Return a ``<backingStore>`` of this format with its chain."""
    return f"""\
<backingStore type='file' index='2'>
  <format type='{name}'/>
  <source file='{path}'/>
  {below}
</backingStore>"""


def hostdev(slot: int, alias: str = 'hostdev0') -> str:
    """Return a PCI device of the host."""
    return f"""\
<hostdev mode='subsystem' type='pci' managed='yes'>
  <driver name='vfio'/>
  <source>
    <address domain='0x0000' bus='0x3b' slot='0x{slot:02x}' function='0x1'/>
  </source>
  <alias name='{alias}'/>
  <address type='pci' domain='0x0000' bus='0x00' slot='0x05' function='0x0'/>
</hostdev>"""


SRIOV_INTERFACE = """\
<interface type='hostdev' managed='yes'>
  <mac address='fa:16:3e:aa:bb:cc'/>
  <driver name='vfio'/>
  <source>
    <address type='pci' domain='0x0001' bus='0xaf' slot='0x1f' \
function='0x7'/>
  </source>
  <vlan>
    <tag id='1001'/>
  </vlan>
  <alias name='hostdev3'/>
  <address type='pci' domain='0x0000' bus='0x00' slot='0x06' function='0x0'/>
</interface>"""

USB_HOSTDEV = """\
<hostdev mode='subsystem' type='usb' managed='no'>
  <source>
    <vendor id='0x1234'/>
    <product id='0xbeef'/>
    <address bus='1' device='4'/>
  </source>
  <alias name='hostdev9'/>
</hostdev>"""


def agent(state: str | None = 'connected') -> str:
    """Return a channel to the guest agent; no state: shut off."""
    said = f" state='{state}'" if state else ''
    return f"""\
<channel type='unix'>
  <source mode='bind' path='/var/lib/libvirt/qemu/agent.sock'/>
  <target type='virtio' name='org.qemu.guest_agent.0'{said}/>
  <alias name='channel0'/>
</channel>"""


SPICE_CHANNEL = """\
<channel type='spicevmc'>
  <target type='virtio' name='com.redhat.spice.0' state='connected'/>
</channel>"""
