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
"""Reading guests for someone who looks at them, from libvirt itself.

libvirt's own test driver has the guests; it runs in this process.
"""

import datetime
import os
from typing import Any
import uuid

import libvirt

from nova_snap import exception
from nova_snap.objects import instance_details
from nova_snap.objects import power_state
from nova_snap.objects import vm_state
from nova_snap.virt.libvirt import details
from nova_snap.virt.libvirt import host as host_lib
from tests.unit import base
from tests.unit.virt.libvirt import samples

PowerState = power_state.PowerState
VmState = vm_state.VmState

NODE = """\
<node>
  <cpu><mhz>1000</mhz><model>i686</model><active>2</active></cpu>
  <memory>4194304</memory>
  <network>
    <name>leased</name>
    <bridge name='virbr9'/>
    <ip address='192.0.2.1' netmask='255.255.255.0'>
      <dhcp><range start='192.0.2.10' end='192.0.2.20'/></dhcp>
    </ip>
  </network>
  {domains}
</node>
"""

DOMAIN = """\
<domain type='test'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <description>mail &amp; web</description>
  <memory unit='MiB'>256</memory>
  <vcpu>2</vcpu>
  <os><type>hvm</type></os>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='/srv/{name}.img'/>
      <target dev='vdb' bus='virtio'/>
    </disk>
    {devices}
  </devices>
</domain>
"""

LEASED = """\
<interface type='network'>
  <mac address='52:54:00:11:22:33'/>
  <source network='{network}'/>
</interface>"""

#: The interface that Nova makes for the port of the sample.
PORT = 'e7a0ab12-1111-4222-8333-444455556666'
NOVAS = samples.NOVA.format(version='1.1').replace(
    'uuid="e7a0"', f'uuid="{PORT}"'
)


class DetailsTest(base.TestCase):
    """What is known of guests, and what is not."""

    def host(self, *domains: str) -> host_lib.Host:
        """Return a host that has these guests, all shut off."""
        path = self.folder() / 'node.xml'
        path.write_text(NODE.format(domains='\n'.join(domains)))
        self.connection = libvirt.open(f'test://{path}')
        self.addCleanup(self.connection.close)
        host = host_lib.Host(f'test://{path}')
        # The test driver makes guests of its own for each connection.
        host._connection = self.connection
        return host

    def read(self, *domains: str) -> list[instance_details.InstanceDetails]:
        return details.read_all(self.host(*domains))

    def one(self, domain: str) -> instance_details.InstanceDetails:
        (found,) = self.read(domain)
        return found

    @staticmethod
    def domain(name: str = 'web', devices: str = '') -> str:
        return DOMAIN.format(name=name, uuid=uuid.uuid4(), devices=devices)

    def nova(self, target: str = 'tap0', ports: str = NOVAS) -> Any:
        xml = samples.domain(
            samples.raw_disk(), virt_type='test', metadata=ports
        )
        return self.one(xml.replace('tap0', target))

    def test_guest_that_nova_has_not_made(self) -> None:
        found = self.one(self.domain())
        self.assertEqual('web', found.instance.name)
        self.assertEqual('web', found.domain_name)
        self.assertEqual('mail & web', found.description)
        self.assertEqual('/dev/vdb', found.root_device)
        self.assertEqual(
            (256, 2, 0),
            (found.flavor.memory_mb, found.flavor.vcpus, found.flavor.root_gb),
        )
        self.assertEqual('2-vcpus-256-mib', found.flavor_id)
        self.assertEqual((), found.addresses)
        self.assertIsNone(found.created_at)
        self.assertIsNone(found.updated_at)
        self.assertIsNone(found.instance.project_id)
        self.assertFalse(found.has_config_drive)

    def test_guest_of_nova(self) -> None:
        found = self.nova()
        self.assertEqual(samples.NAME, found.domain_name)
        self.assertEqual('m1.tiny', found.flavor_id)
        self.assertEqual(
            (256, 2, 1),
            (found.flavor.memory_mb, found.flavor.root_gb, found.flavor.vcpus),
        )
        self.assertEqual(
            datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
            found.created_at,
        )
        self.assertEqual(found.created_at, found.updated_at)

    def test_addresses_that_nova_wrote_down(self) -> None:
        """By the name of the port's interface, or by its place."""
        address = instance_details.Address(
            'br-int', '10.0.0.5', 4, 'fa:16:3e:11:22:33', 'fixed'
        )
        for target in (f'tap{PORT[:11]}', 'macvtap3'):
            self.assertEqual((address,), self.nova(target).addresses)

    def test_port_without_an_interface_has_no_address(self) -> None:
        """Nothing is guessed: which interface it is, can't be known."""
        more = NOVAS.replace(
            '</nova:ports>', '<nova:port uuid="0"/></nova:ports>'
        )
        self.assertEqual((), self.nova('macvtap3', more).addresses)
        bad = NOVAS.replace('10.0.0.5', 'no address')
        self.assertEqual((), self.nova(ports=bad).addresses)

    def test_metadata_with_a_broken_date(self) -> None:
        for text in ('', 'soon', '2026-13-41 00:00:00'):
            metadata = NOVAS.replace('2026-01-02 03:04:05', text)
            self.assertIsNone(self.nova(ports=metadata).created_at)

    def test_leases(self) -> None:
        """Addresses that libvirt's own network has given to the guest.

        libvirt's test driver has no leases, so the network is a double.
        """
        mac = '52:54:00:11:22:33'

        class Network:
            """A network of libvirt with two leases for one interface."""

            def DHCPLeases(self) -> list[dict[str, Any]]:  # noqa: N802
                return [
                    {'mac': mac, 'ipaddr': '192.0.2.11', 'hostname': 'x'},
                    {'mac': mac.upper(), 'ipaddr': 'fd00::b', 'clientid': 'y'},
                    {'mac': '52:54:00:00:00:00', 'ipaddr': '192.0.2.12'},
                ]

        devices = LEASED.format(network='leased')
        other = devices.replace('52:54:00:11:22:33', '52:54:00:99:99:99')
        host = self.host(self.domain('a', devices), self.domain('b', other))
        asked: list[str] = []

        def look(name: str) -> Network:
            asked.append(name)
            return Network()

        self.connection.networkLookupByName = look
        first, second = sorted(
            details.read_all(host), key=lambda found: found.domain_name
        )
        self.assertEqual(
            (
                instance_details.Address('leased', '192.0.2.11', 4, mac),
                instance_details.Address('leased', 'fd00::b', 6, mac),
            ),
            first.addresses,
        )
        self.assertEqual((), second.addresses)
        self.assertEqual(['leased'], asked)

    def test_network_that_does_not_exist(self) -> None:
        found = self.one(self.domain(devices=LEASED.format(network='other')))
        self.assertEqual((), found.addresses)

    def test_each_power_state(self) -> None:
        host = self.host(self.domain())
        (domain,) = self.connection.listAllDomains()
        steps = (
            (lambda: None, PowerState.RUNNING, VmState.ACTIVE),
            (domain.suspend, PowerState.PAUSED, VmState.PAUSED),
            (domain.resume, PowerState.RUNNING, VmState.ACTIVE),
            (domain.managedSave, PowerState.SHUTDOWN, VmState.SUSPENDED),
            (domain.managedSaveRemove, PowerState.SHUTDOWN, VmState.STOPPED),
        )
        if not domain.isActive():
            domain.create()
        for step, power, state in steps:
            step()
            (found,) = details.read_all(host)
            self.assertEqual(power, found.power_state)
            self.assertEqual(state, found.vm_state)

    def test_one_guest_by_its_uuid(self) -> None:
        host = self.host(self.domain('web'), self.domain('mail'))
        for known in details.read_all(host):
            self.assertEqual(known, details.read(host, known.instance.uuid))
        self.assertRaises(
            exception.InstanceNotFound, details.read, host, str(uuid.uuid4())
        )

    def test_guest_that_goes_meanwhile(self) -> None:
        """It is left out, and the others are listed."""
        host = self.host(self.domain('web'), self.domain('mail'))
        listed = self.connection.listAllDomains()
        gone, stays = sorted(listed, key=lambda domain: domain.name())

        class Connection:
            """The connection, as of a moment ago."""

            def __getattr__(self, name: str) -> Any:
                return getattr(gone.connect(), name)

            def listAllDomains(self) -> list[Any]:  # noqa: N802
                return [gone, stays]

        if gone.isActive():
            gone.destroy()
        gone.undefine()
        host._connection = Connection()
        (found,) = details.read_all(host)
        self.assertEqual(stays.name(), found.instance.name)

    def test_dates_of_files(self) -> None:
        """The system's libvirt keeps a definition, and a file of each run."""
        folder = self.folder()
        self.patch(details, 'DEFINITIONS', folder)
        self.patch(details, 'RUNS', folder)
        for name, seconds in (('web.xml', 1000), ('web.pid', 2000)):
            path = folder / name
            path.touch()
            os.utime(path, (seconds, seconds))
        reading = self.host(self.domain()).readings()[0]
        system = details._details(reading, details.SYSTEM_URI, lambda _: {})
        self.assertEqual(1000, system.created_at.timestamp())
        self.assertEqual(2000, system.updated_at.timestamp())
        other = details._details(reading, 'qemu:///session', lambda _: {})
        self.assertIsNone(other.created_at)

    def test_host(self) -> None:
        found = self.host().details()
        self.assertEqual('TEST', found.hypervisor)
        self.assertEqual(2, found.cpus)
        self.assertEqual(4096, found.memory_mb)
