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


"""Reading domain XML, apart from disks."""

import os
import pwd
from xml.sax import saxutils

import libvirt

from nova_snap.objects import instance as instance_lib
from nova_snap.virt.libvirt import domain_xml
from tests.unit import base
from tests.unit.virt.libvirt import samples


class VirtTypeTest(base.TestCase):
    """The kind of domain."""

    def test_as_libvirt_has_it(self) -> None:
        for name in ('kvm', 'qemu', 'lxc'):
            xml = samples.domain(virt_type=name)
            self.assertEqual(name, domain_xml.virt_type(xml))


class QemuUserTest(base.TestCase):
    """The user that QEMU runs as."""

    def uid(self, *labels: str) -> int | None:
        """Return the uid that is read from these labels."""
        xml = samples.domain().replace('</domain>', ''.join(labels))
        return domain_xml.qemu_uid(xml + '</domain>')

    def label(self, model: str, text: str) -> str:
        """Return a label as libvirt shows it for a running guest."""
        return (
            f"<seclabel type='dynamic' model='{model}' relabel='yes'>"
            f'<label>{text}</label></seclabel>'
        )

    def test_names(self) -> None:
        user = pwd.getpwuid(os.getuid())
        self.assertEqual(
            user.pw_uid, self.uid(self.label('dac', f'{user.pw_name}:kvm'))
        )
        self.assertEqual(7, self.uid(self.label('dac', '7:7')))
        self.assertIsNone(self.uid(self.label('dac', 'no such user:kvm')))

    def test_among_other_labels(self) -> None:
        apparmor = self.label('apparmor', 'libvirt-6a6bdf3d')
        self.assertEqual(
            64055, self.uid(apparmor, self.label('dac', '+64055:+64055'))
        )

    def test_root(self) -> None:
        self.assertEqual(0, self.uid(self.label('dac', '+0:+0')))

    def test_not_said(self) -> None:
        for labels in (
            (),
            (self.label('apparmor', 'libvirt-6a6bdf3d'),),
            ("<seclabel type='none' model='dac'/>",),
            (self.label('dac', 'libvirt-qemu:kvm'),),
        ):
            self.assertIsNone(self.uid(*labels))


class AgentTest(base.TestCase):
    """The channel to a guest agent."""

    def check(self, devices: str, has: bool, connected: bool) -> None:
        """Check the agent's state of a guest with these devices."""
        xml = samples.domain(samples.raw_disk(), devices=devices)
        self.assertEqual(has, domain_xml.has_agent(xml))
        self.assertEqual(connected, domain_xml.is_agent_connected(xml))

    def test_connected(self) -> None:
        self.check(samples.agent('connected'), True, True)

    def test_nobody_has_opened_it_in_the_guest(self) -> None:
        self.check(samples.agent('disconnected'), True, False)

    def test_of_a_guest_that_is_shut_off(self) -> None:
        self.check(samples.agent(None), True, False)

    def test_other_channels_are_not_it(self) -> None:
        self.check(samples.SPICE_CHANNEL, False, False)

    def test_is_found_after_other_channels(self) -> None:
        self.check(samples.SPICE_CHANNEL + samples.agent(), True, True)

    def test_no_channel(self) -> None:
        self.check('', False, False)


class PassthroughTest(base.TestCase):
    """PCI devices of the host."""

    def devices(self, xml: str) -> list[domain_xml.PassthroughDevice]:
        """Those of a guest that has these devices."""
        return domain_xml.passthrough_devices(
            samples.domain(samples.raw_disk(), devices=xml)
        )

    def test_none(self) -> None:
        self.assertEqual([], self.devices(''))

    def test_hostdev_by_its_address_on_the_host(self) -> None:
        (device,) = self.devices(samples.hostdev(0x10, 'hostdev4'))
        self.assertEqual('0000:3b:10.1', device.address)
        self.assertEqual('hostdev4', device.alias)

    def test_sriov_interface(self) -> None:
        (device,) = self.devices(samples.SRIOV_INTERFACE)
        self.assertEqual('0001:af:1f.7', device.address)
        self.assertEqual('hostdev3', device.alias)

    def test_usb_devices_and_bridges_can_stay(self) -> None:
        self.assertEqual([], self.devices(samples.USB_HOSTDEV))

    def test_several_in_their_order(self) -> None:
        found = self.devices(
            samples.hostdev(2)
            + samples.USB_HOSTDEV
            + samples.SRIOV_INTERFACE
            + samples.hostdev(1)
        )
        self.assertEqual(
            ['0000:3b:02.1', '0001:af:1f.7', '0000:3b:01.1'],
            [device.address for device in found],
        )

    def test_xml_attaches_the_same_device(self) -> None:
        both = samples.hostdev(2) + samples.SRIOV_INTERFACE
        found = self.devices(both)
        again = self.devices(''.join(device.xml for device in found))
        self.assertEqual(
            [(device.address, device.alias) for device in found],
            [(device.address, device.alias) for device in again],
        )
        self.assertIn("fa:16:3e:aa:bb:cc", again[1].xml)
        self.assertIn('1001', again[1].xml)

    def test_domain_without_devices(self) -> None:
        xml = "<domain type='kvm'><name>a</name></domain>"
        self.assertEqual([], domain_xml.passthrough_devices(xml))


class InstanceTest(base.TestCase):
    """What Nova wrote into its guests, else the domain itself."""

    def instance(self, metadata: str) -> instance_lib.Instance:
        """Return the instance that this metadata describes."""
        return domain_xml.nova_instance(samples.domain(metadata=metadata))

    def nova(self, old: str = '', new: str = '') -> instance_lib.Instance:
        """Return the sample's instance with a piece of XML replaced."""
        xml = samples.NOVA.format(version='1.1')
        self.assertIn(old, xml)
        return self.instance(xml.replace(old, new))

    def test_every_version_of_the_metadata(self) -> None:
        for version in ('1.0', '1.1', '2.7'):
            self.assertEqual(
                instance_lib.Instance(
                    uuid=samples.UUID,
                    name='Büro-サーバ 1',
                    project_id='9a1d',
                    user_id='4fbe',
                    image_ref='2f0c3bd5-1b7a-4f4e-9d0e-52f6a7f2f2a9',
                    flavor=instance_lib.Flavor('m1.tiny', 256, 2, vcpus=1),
                ),
                self.instance(samples.NOVA.format(version=version)),
            )

    def test_without_metadata(self) -> None:
        expected = instance_lib.Instance(samples.UUID, samples.NAME)
        self.assertEqual(expected, self.instance(''))
        self.assertEqual(expected, self.instance('<metadata/>'))

    def test_metadata_of_others(self) -> None:
        other = """
        <metadata>
          <a:instance xmlns:a="http://example.org/a"><a:name>x</a:name>
          </a:instance>
          <b:tool xmlns:b="http://openstack.org/xmlns/libvirt/nova/1.1"/>
        </metadata>"""
        self.assertEqual(samples.NAME, self.instance(other).name)

    def test_volume_booted_server_has_no_image(self) -> None:
        self.assertIsNone(
            self.nova('root type="image"', 'root type="volume"').image_ref
        )

    def test_no_root(self) -> None:
        instance = self.nova('nova:root', 'nova:other')
        self.assertIsNone(instance.image_ref)

    def test_no_owner(self) -> None:
        instance = self.nova('nova:owner', 'nova:other')
        self.assertIsNone(instance.project_id)
        self.assertIsNone(instance.user_id)

    def test_no_user(self) -> None:
        instance = self.nova('<nova:user uuid="4fbe">admin</nova:user>', '')
        self.assertIsNone(instance.user_id)
        self.assertEqual('9a1d', instance.project_id)

    def test_no_flavor(self) -> None:
        self.assertIsNone(self.nova('nova:flavor', 'nova:other').flavor)

    def test_no_name_or_an_empty_one(self) -> None:
        self.assertEqual(
            samples.NAME, self.nova('nova:name', 'nova:other').name
        )
        self.assertEqual(samples.NAME, self.nova('Büro-サーバ 1', '').name)

    def test_sizes_that_are_no_numbers(self) -> None:
        for text in ('', 'many', '-3', '1.5', '²', '1e3'):
            instance = self.nova(
                '<nova:disk>2</nova:disk>', f'<nova:disk>{text}</nova:disk>'
            )
            self.assertEqual(
                instance_lib.Flavor('m1.tiny', 256, 0, vcpus=1),
                instance.flavor,
            )

    def test_sizes_that_are_missing(self) -> None:
        instance = self.nova('nova:memory', 'nova:other')
        self.assertEqual(
            instance_lib.Flavor('m1.tiny', 0, 2, vcpus=1), instance.flavor
        )


class NamesTest(base.TestCase):
    """Paths that libvirt has to escape in its XML."""

    def test_path_with_every_special_character(self) -> None:
        path = """/srv/a<b>&'c"d.delta"""
        connection = libvirt.open('test:///default')
        self.addCleanup(connection.close)
        domain = connection.defineXML(
            samples.domain(
                samples.raw_disk(saxutils.escape(path, {"'": '&apos;'})),
                virt_type='test',
            )
        )
        self.addCleanup(domain.undefine)
        xml = domain.XMLDesc()
        self.assertTrue(domain_xml.names(xml, path))
        self.assertFalse(domain_xml.names(xml, f'{path}.other'))
