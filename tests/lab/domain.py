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

"""What a guest of the lab is like, and the domain XML that says so."""

import dataclasses
import pathlib
import string
import uuid
from xml.sax import saxutils

from tests.lab import guest_image
from tests.lab import root_disk

NOVA_NAMESPACE = 'http://openstack.org/xmlns/libvirt/nova/1.1'

#: What each bus calls its first disk.
DISK_PREFIXES = {'virtio': 'vd', 'scsi': 'sd', 'ide': 'hd'}

#: What makes an emulated guest boot faster.
FAST_BOOT = 'quiet console=ttyS0 mitigations=off nokaslr panic=-1'

#: MiB; with less the firmware of Debian 13 (2025.02) does not load a kernel.
UEFI_MEMORY = 256

#: A TPM whose state stays when the guest is undefined for a moment.
TPM = """<tpm model='tpm-tis'>
      <backend type='emulator' version='2.0' persistent_state='yes'/>
    </tpm>"""


@dataclasses.dataclass(frozen=True)
class NovaMetadata:
    """What Nova writes into the XML about an instance; sizes MiB and GiB."""

    name: str
    image_id: str | None = None
    user_id: str = 'user-1'
    project_id: str = 'project-1'
    flavor: str = 'm1.tiny'
    memory_mib: int = 160
    disk_gib: int = 1


@dataclasses.dataclass(frozen=True)
class Spec:
    """All about a guest; only ``disk`` has to be said.

    :ivar name: the domain's name; by default one made from the uuid.
    :ivar memory: MiB.
    :ivar bus: ``virtio``, ``scsi`` or ``ide``.
    :ivar agent: with a QEMU guest agent in the guest.
    :ivar agent_without: a command that the agent does not offer.
    :ivar agent_channel: with the channel for one; by default as ``agent``.
    :ivar cdrom_first: an empty CD-ROM drive stands before the root disk.
    :ivar tick_ms: milliseconds between two ticks.  Each keeps the processor
        busy that the tests share; what measures gaps wants 10.
    :ivar write: MB/s of random writes besides the ticks.
    :ivar busy: processes that use the processor all the time.
    :ivar iothread: the root disk has a thread of QEMU for itself.
    :ivar extra_iothread: the last of the extra disks has.
    :ivar numbered: the extra disks have the numbers of the ticks, too; a tick
        begins when the one before it is on all disks.
    :ivar poweroff_after: the guest powers itself off so many seconds later.
    :ivar uefi: the guest boots through UEFI firmware (package ovmf), and has
        the module that shows its variables.
    :ivar tpm: with an emulated TPM (package swtpm).
    :ivar vnc_password: a VNC server that demands it; a secret in the XML.
    :ivar cache: of the disks, as QEMU names it; ``none`` needs O_DIRECT.
    :ivar disk_xml: elements within the root disk's ``<disk>``.
    :ivar extra_xml: elements within that of each extra disk.
    :ivar devices_xml: elements within ``<devices>``.
    """

    disk: root_disk.RootDisk
    name: str = ''
    uuid: str = dataclasses.field(default_factory=lambda: str(uuid.uuid4()))
    memory: int = 160
    bus: str = 'virtio'
    persistent: bool = True
    autostart: bool = False
    agent: bool = False
    agent_without: str = ''
    agent_channel: bool | None = None
    cdrom_first: bool = False
    extra_disks: tuple[root_disk.RootDisk, ...] = ()
    metadata: NovaMetadata | None = None
    tick_ms: int = 50
    write: int = 0
    busy: int = 0
    iothread: bool = False
    extra_iothread: bool = False
    numbered: bool = False
    poweroff_after: int = 0
    uefi: bool = False
    tpm: bool = False
    vnc_password: str | None = None
    cache: str = 'none'
    disk_xml: str = ''
    extra_xml: str = ''
    devices_xml: str = ''

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, 'name', f'instance-{self.uuid[:8]}')

    @property
    def target(self) -> str:
        """The root disk's name in the domain: vda, sda, hda, or the next."""
        first = 'b' if self.cdrom_first and self.bus != 'virtio' else 'a'
        return DISK_PREFIXES[self.bus] + first


def render(
    spec: Spec,
    image: guest_image.GuestImage,
    virt_type: str,
    serial_log: pathlib.Path,
) -> str:
    """Return the domain's XML.

    :param virt_type: ``kvm`` or ``qemu``.
    :param serial_log: the file that gets the guest's console.
    """
    return f"""\
<domain type='{virt_type}'>
  <name>{_text(spec.name)}</name>
  <uuid>{spec.uuid}</uuid>
  {_metadata(spec.metadata) if spec.metadata else ''}
  <memory unit='MiB'>{_memory(spec)}</memory>
  <vcpu>1</vcpu>
  {_iothreads(spec)}
  <os{" firmware='efi'" if spec.uefi else ''}>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{_text(image.kernel)}</kernel>
    <initrd>{_text(image.initrd)}</initrd>
    <cmdline>{_command_line(spec)}</cmdline>
  </os>
  <features><acpi/></features>
  <clock offset='utc'/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    {_disks(spec)}
    <controller type='usb' model='none'/>
    <serial type='file'>
      <source path='{_text(serial_log)}' append='on'/>
      <target port='0'/>
    </serial>
    <memballoon model='none'/>
    {TPM if spec.tpm else ''}
    {_agent_channel(spec)}
    {_graphics(spec)}
    {spec.devices_xml}
  </devices>
</domain>
"""


def _text(value: object) -> str:
    return saxutils.escape(str(value), {"'": '&apos;'})


def _memory(spec: Spec) -> int:
    return max(spec.memory, UEFI_MEMORY) if spec.uefi else spec.memory


def _iothreads(spec: Spec) -> str:
    wanted = spec.iothread or spec.extra_iothread
    return '<iothreads>1</iothreads>' if wanted else ''


def _command_line(spec: Spec) -> str:
    words = [FAST_BOOT, f'bus={spec.bus}', f'agent={int(spec.agent)}']
    words.append(f'tick={spec.tick_ms}')
    if spec.agent_without:
        words.append(f'agent_without={spec.agent_without}')
    if spec.write:
        words.append(f'write={spec.write}')
    if spec.busy:
        words.append(f'busy={spec.busy}')
    if spec.poweroff_after:
        words.append(f'poweroff_after={spec.poweroff_after}')
    if spec.numbered:
        # The guest names its disks by their order, whatever libvirt says.
        prefix = DISK_PREFIXES['virtio' if spec.bus == 'virtio' else 'scsi']
        letters = string.ascii_lowercase[1 : 1 + len(spec.extra_disks)]
        words += [f'also={prefix}{letter}' for letter in letters]
    return ' '.join(words)


def _metadata(metadata: NovaMetadata) -> str:
    root = ''
    if metadata.image_id is not None:
        root = f"<nova:root type='image' uuid='{_text(metadata.image_id)}'/>"
    return f"""<metadata>
    <nova:instance xmlns:nova='{NOVA_NAMESPACE}'>
      <nova:package version='34.0.0'/>
      <nova:name>{_text(metadata.name)}</nova:name>
      <nova:creationTime>2026-01-02 03:04:05</nova:creationTime>
      <nova:flavor name='{_text(metadata.flavor)}'>
        <nova:memory>{metadata.memory_mib}</nova:memory>
        <nova:disk>{metadata.disk_gib}</nova:disk>
        <nova:swap>0</nova:swap>
        <nova:ephemeral>0</nova:ephemeral>
        <nova:vcpus>1</nova:vcpus>
      </nova:flavor>
      <nova:owner>
        <nova:user uuid='{_text(metadata.user_id)}'>demo</nova:user>
        <nova:project uuid='{_text(metadata.project_id)}'>demo</nova:project>
      </nova:owner>
      {root}
    </nova:instance>
  </metadata>"""


def _disks(spec: Spec) -> str:
    elements = [_disk(spec, spec.disk, spec.target, spec.disk_xml)]
    if spec.cdrom_first:
        elements.insert(0, _cdrom(spec.bus))
    letters = string.ascii_lowercase[2 : 2 + len(spec.extra_disks)]
    for disk, letter in zip(spec.extra_disks, letters, strict=True):
        target = DISK_PREFIXES[spec.bus] + letter
        elements.append(_disk(spec, disk, target, spec.extra_xml))
    if spec.bus == 'scsi':
        elements.append("<controller type='scsi' model='virtio-scsi'/>")
    return '\n    '.join(elements)


def _cdrom(bus: str) -> str:
    """On the root disk's own bus it takes the root disk's usual name."""
    target, drive_bus = ('sda', 'scsi') if bus == 'scsi' else ('hda', 'ide')
    return f"""<disk type='file' device='cdrom'>
      <target dev='{target}' bus='{drive_bus}'/>
      <readonly/>
    </disk>"""


def _disk(
    spec: Spec, disk: root_disk.RootDisk, target: str, inner: str = ''
) -> str:
    has_iothread = (spec.iothread and disk is spec.disk) or (
        spec.extra_iothread and disk is spec.extra_disks[-1]
    )
    more = f"cache='{spec.cache}'" + (" iothread='1'" if has_iothread else '')
    return f"""<disk type='{disk.source_type}' device='disk'>
      <driver name='qemu' type='{disk.format}' {more}/>
      {disk.source_xml}
      <target dev='{target}' bus='{spec.bus}'/>
      {inner}
    </disk>"""


def _agent_channel(spec: Spec) -> str:
    wanted = spec.agent if spec.agent_channel is None else spec.agent_channel
    if not wanted:
        return ''
    return """<channel type='unix'>
      <target type='virtio' name='org.qemu.guest_agent.0'/>
    </channel>"""


def _graphics(spec: Spec) -> str:
    if spec.vnc_password is None:
        return ''
    password = _text(spec.vnc_password)
    return f"""<graphics type='vnc' autoport='yes' passwd='{password}'>
      <listen type='address' address='127.0.0.1'/>
    </graphics>"""
