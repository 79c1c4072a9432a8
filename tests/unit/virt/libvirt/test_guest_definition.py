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

"""What of a guest's definition gets into an image, and out of it again."""

import xml.etree.ElementTree as ElementTree

from nova_snap import exception
from nova_snap.virt.libvirt import guest_definition
from tests.unit import base
from tests.unit.virt.libvirt import samples

#: A guest with everything that an image may not carry.  Each such value has
#: the word SECRET in it, or is a path.
EVERYTHING = """\
<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>SECRET-name</name>
  <uuid>8a3e9c1d-0000-4000-8000-00000000SECRET</uuid>
  <title>SECRET-title</title>
  <description>SECRET-description</description>
  <metadata><app:x xmlns:app='urn:SECRET'>SECRET</app:x></metadata>
  <memory unit='KiB'>262144</memory>
  <currentMemory unit='KiB'>131072</currentMemory>
  <memoryBacking><source type='memfd'/><hugepages/></memoryBacking>
  <vcpu placement='static' cpuset='0-SECRET' current='1'>2</vcpu>
  <iothreads>1</iothreads>
  <cputune><vcpupin vcpu='0' cpuset='1'/></cputune>
  <numatune><memory mode='strict' nodeset='0'/></numatune>
  <resource><partition>/machine/SECRET</partition></resource>
  <sysinfo type='smbios'><system>
    <entry name='serial'>SECRET-serial</entry></system></sysinfo>
  <sysinfo type='fwcfg'>
    <entry name='opt/x' file='/etc/SECRET'/></sysinfo>
  <os>
    <type arch='x86_64' machine='pc-q35-7.2'>hvm</type>
    <loader readonly='yes' type='pflash' secure='yes'>/SECRET.fd</loader>
    <nvram template='/SECRET.fd'>/var/SECRET_VARS.fd</nvram>
    <kernel>/boot/SECRET</kernel>
    <initrd>/boot/SECRET</initrd>
    <cmdline>password=SECRET</cmdline>
    <dtb>/SECRET</dtb>
    <acpi><table type='slic'>/SECRET</table></acpi>
    <smbios mode='sysinfo'/>
    <boot dev='hd'/>
  </os>
  <features><acpi/><apic/><smm state='on'/></features>
  <cpu mode='custom' match='exact' check='full'>
    <model fallback='forbid'>Westmere</model>
    <feature policy='require' name='aes'/>
  </cpu>
  <clock offset='utc'><timer name='rtc' tickpolicy='catchup'/></clock>
  <on_poweroff>destroy</on_poweroff>
  <on_crash>coredump-restart</on_crash>
  <devices>
    <emulator>/usr/local/bin/SECRET</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' cache='none'/>
      <auth username='SECRET'><secret type='ceph' uuid='SECRET'/></auth>
      <source file='/SECRET.qcow2'><seclabel model='dac'/>
        <encryption format='luks'><secret type='passphrase'
          uuid='SECRET'/></encryption></source>
      <backingStore type='file'><format type='raw'/>
        <source file='/SECRET'/></backingStore>
      <mirror type='file' file='/SECRET'/>
      <target dev='vda' bus='virtio'/>
      <iotune><total_bytes_sec>5</total_bytes_sec></iotune>
      <serial>disk-1</serial>
      <boot order='1'/>
      <alias name='SECRET'/>
      <address type='pci' domain='0x0000' bus='0x01' slot='0x00'
               function='0x0'/>
    </disk>
    <disk type='file' device='disk'>
      <source file='/SECRET.raw'/><target dev='vdb' bus='virtio'/>
    </disk>
    <disk type='file' device='cdrom'>
      <source file='/SECRET.iso'/><target dev='sda' bus='sata'/>
    </disk>
    <disk type='block' device='lun' rawio='yes'>
      <source dev='/dev/SECRET'/><target dev='sdb' bus='scsi'/>
    </disk>
    <controller type='pci' index='0' model='pcie-root'/>
    <controller type='scsi' index='0' model='virtio-scsi'/>
    <filesystem type='mount'><source dir='/SECRET'/>
      <target dir='SECRET'/></filesystem>
    <interface type='bridge'>
      <mac address='52:54:00:5E:C2:E7'/>
      <source bridge='SECRET-bridge'/>
      <script path='/SECRET.sh'/>
      <target dev='SECRET-tap'/>
      <model type='virtio'/>
      <filterref filter='SECRET'/>
      <bandwidth><inbound average='1'/></bandwidth>
      <ip address='10.1.2.3' prefix='24'/>
      <boot order='2'/>
    </interface>
    <interface type='hostdev' managed='yes'>
      <mac address='52:54:00:5E:C2:E8'/>
      <source><address type='pci' domain='0x0000' bus='0xAB' slot='0x1'
              function='0x0'/></source></interface>
    <interface type='vhostuser'><source type='unix' path='/SECRET.sock'
               mode='client'/></interface>
    <serial type='file'><source path='/SECRET.log'/>
      <target type='isa-serial' port='0'/></serial>
    <serial type='tcp'><source mode='bind' host='10.9.8.7' service='99'/>
      <target type='isa-serial' port='1'/></serial>
    <console type='file'><source path='/SECRET.log'/>
      <target type='serial' port='0'/></console>
    <channel type='unix'><source mode='bind' path='/SECRET.sock'/>
      <target type='virtio' name='org.qemu.guest_agent.0'
              state='connected'/></channel>
    <channel type='spiceport'><source channel='SECRET'/>
      <target type='virtio' name='SECRET'/></channel>
    <input type='tablet' bus='usb'/>
    <input type='passthrough' bus='virtio'>
      <source evdev='/dev/input/SECRET'/></input>
    <tpm model='tpm-crb'><backend type='emulator' version='2.0'>
      <encryption secret='SECRET'/></backend></tpm>
    <tpm model='tpm-tis'><backend type='passthrough'>
      <device path='/dev/SECRET'/></backend></tpm>
    <graphics type='vnc' port='5999' autoport='no' listen='0.0.0.0'
              passwd='SECRET' socket='/SECRET' keymap='de'>
      <listen type='address' address='0.0.0.0'/></graphics>
    <graphics type='egl-headless'><gl rendernode='/dev/SECRET'/></graphics>
    <video><model type='virtio' vram='16384' heads='1'>
      <acceleration rendernode='/dev/SECRET'/></model></video>
    <hostdev mode='subsystem' type='pci'><source><address domain='0x0000'
      bus='0xAB' slot='0x00' function='0x0'/></source></hostdev>
    <redirdev bus='usb' type='tcp'><source host='SECRET'/></redirdev>
    <watchdog model='itco' action='dump'/>
    <memballoon model='virtio'/>
    <rng model='virtio'><backend model='egd' type='tcp'>
      <source host='SECRET' service='1'/></backend></rng>
    <rng model='virtio'><backend model='random'>/dev/SECRET</backend></rng>
    <shmem name='SECRET'/>
    <memory model='nvdimm'><source><path>/SECRET</path></source></memory>
    <vsock model='virtio'><cid auto='no' address='77'/></vsock>
  </devices>
  <seclabel type='static' model='dac'><label>SECRET</label></seclabel>
  <launchSecurity type='sev'><session>SECRET</session></launchSecurity>
  <qemu:commandline><qemu:arg value='SECRET'/>
    <qemu:env name='SECRET' value='SECRET'/></qemu:commandline>
</domain>
"""

#: What one hostile image may try, within <devices> or beside it.
NOT_ALLOWED = ('SECRET', '10.1.2.3', '10.9.8.7', '0.0.0.0', '52:54', '0xAB')


class PortableTest(base.TestCase):
    """From a guest of this host to an image."""

    def setUp(self) -> None:
        super().setUp()
        self.text = guest_definition.portable(EVERYTHING, ['vda'])
        self.domain = ElementTree.fromstring(self.text)

    def test_nothing_secret_and_nothing_of_this_host(self) -> None:
        for word in NOT_ALLOWED:
            self.assertNotIn(word, self.text)
        values = [
            value
            for element in self.domain.iter()
            for value in (element.text or '', *element.attrib.values())
        ]
        paths = [value for value in values if '/' in value]
        self.assertEqual(['/dev/urandom'] * 2, paths)

    def test_hardware_is_kept(self) -> None:
        for path in (
            "./memory[@unit='KiB']",
            "./vcpu[@current='1']",
            "./os/type[@machine='pc-q35-7.2']",
            "./cpu/feature[@name='aes']",
            "./features/smm[@state='on']",
            "./devices/disk/target[@dev='vda']",
            "./devices/disk/driver[@cache='none']",
            "./devices/disk/address[@bus='0x01']",
            "./devices/interface[@type='network']/model[@type='virtio']",
            "./devices/controller[@model='virtio-scsi']",
            "./devices/serial[@type='pty']/target[@port='1']",
            "./devices/channel/target[@name='org.qemu.guest_agent.0']",
            "./devices/tpm[@model='tpm-crb']/backend[@type='emulator']",
            "./devices/video/model[@vram='16384']",
        ):
            self.assertIsNotNone(self.domain.find(path), path)

    def test_only_the_disks_of_the_image(self) -> None:
        found = guest_definition.portable(EVERYTHING, ['vda', 'vdb'])
        for text, expected in ((self.text, ['vda']), (found, ['vda', 'vdb'])):
            targets = ElementTree.fromstring(text).iterfind('.//disk/target')
            self.assertEqual(expected, [one.get('dev') for one in targets])

    def test_firmware_by_name(self) -> None:
        found = self.domain.find('os')
        assert found is not None
        self.assertEqual('efi', found.get('firmware'))
        path = "./firmware/feature[@name='secure-boot'][@enabled='yes']"
        self.assertIsNotNone(found.find(path))

    def test_nobody_else_sees_the_console(self) -> None:
        graphics = self.domain.findall('./devices/graphics')
        self.assertEqual([{'type': 'vnc'}], [one.attrib for one in graphics])
        self.assertEqual([{'type': 'none'}], [x.attrib for x in graphics[0]])

    def test_what_ends_in_a_file_of_the_host_is_left_out(self) -> None:
        self.assertIsNone(self.domain.find('on_crash'))
        self.assertIsNone(self.domain.find('./devices/watchdog'))

    def test_all_of_it_comes_back(self) -> None:
        back = guest_definition.of_image(self.text)
        self.assertEqual(self.text, ElementTree.tostring(back).decode())

    def test_characters_that_no_image_service_stores(self) -> None:
        xml = EVERYTHING.replace('disk-1', 'disk-\N{PILE OF POO}')
        self.assertTrue(guest_definition.portable(xml, ['vda']).isascii())

    def test_of_a_running_guest_of_nova(self) -> None:
        xml = samples.domain(
            samples.disk(), metadata=samples.NOVA.format(version='1.1')
        )
        found = guest_definition.portable(xml, ['vda'])
        for word in ('4fbe', 'fa:16', 'br-int', 'tap0', 'instances', 'alias'):
            self.assertNotIn(word, found)


class OfImageTest(base.TestCase):
    """From an image, which anybody may have written, to a guest."""

    def test_nothing_but_hardware_is_taken(self) -> None:
        found = ElementTree.tostring(
            guest_definition.of_image(EVERYTHING_ONCE)
        )
        for word in NOT_ALLOWED:
            self.assertNotIn(word, found.decode())

    def test_what_is_no_definition(self) -> None:
        for text in (
            '',
            'no XML',
            '<domain>',
            '<network/>',
            '<!DOCTYPE domain [<!ENTITY a "b">]><domain>&a;</domain>',
            '<!DOCTYPE domain SYSTEM "file:///etc/passwd"><domain/>',
            '<domain><os/><os/></domain>',
            '<domain>\ud800</domain>',
            f'<domain>{" " * guest_definition.MAX_SIZE}</domain>',
        ):
            self.assertRaises(
                exception.InvalidDefinition, guest_definition.of_image, text
            )

    def test_a_second_value_in_an_allowed_place(self) -> None:
        for inner in (
            "<disk device='disk' type='block'><source dev='/dev/sda'/></disk>",
            "<serial type='dev'><source path='/dev/sda'/></serial>",
            "<channel type='unix'><source path='/run/x'/><target "
            "type='virtio' name='org.qemu.guest_agent.0'/></channel>",
            "<disk><driver name='../../x'/></disk>",
            "<disk><serial>/etc/passwd</serial></disk>",
            "<video><model type='vga'>/etc/passwd</model></video>",
        ):
            text = f'<domain><devices>{inner}</devices></domain>'
            found = guest_definition.of_image(text)
            values = [
                value
                for element in found.iter()
                for value in (element.text or '', *element.attrib.values())
            ]
            self.assertFalse([value for value in values if '/' in value])


class OfGuestTest(base.TestCase):
    """From a guest of this host to another guest of this host."""

    def test_files_of_the_host_that_both_only_read(self) -> None:
        found = guest_definition.of_guest(EVERYTHING)
        self.assertEqual('/boot/SECRET', found.findtext('os/kernel'))
        self.assertEqual('/SECRET.fd', found.findtext('os/loader'))
        network = found.find("./devices/interface/source[@bridge]")
        self.assertIsNotNone(network)

    def test_nothing_that_only_one_guest_can_have(self) -> None:
        found = ElementTree.tostring(guest_definition.of_guest(EVERYTHING))
        for word in ('VARS', 'SECRET.log', 'SECRET.qcow2', '52:54', 'passwd'):
            self.assertNotIn(word, found.decode())


#: The same, as an image could have it.
EVERYTHING_ONCE = EVERYTHING.replace(
    "<sysinfo type='fwcfg'>", '<x>', 1
).replace("file='/etc/SECRET'/></sysinfo>", "file='/etc/SECRET'/></x>")
