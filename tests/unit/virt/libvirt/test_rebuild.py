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


"""Guests that are not rebuilt, on libvirt's own test driver."""

import contextlib
import pathlib
from typing import Any
import uuid

import libvirt

from nova_snap import exception
from nova_snap.virt import creation
from nova_snap.virt import rebuilding
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import host as host_lib
from nova_snap.virt.libvirt import rebuild
from tests.unit import base
from tests.unit.virt.libvirt import samples

URI = 'test:///default'


class RebuildTest(base.TestCase):
    """A server with two disks in a folder."""

    def setUp(self) -> None:
        super().setUp()
        self.connection = libvirt.open(URI)
        self.addCleanup(self.connection.close)
        self.work = self.folder()

    def define(
        self,
        inside: str = '',
        metadata: str = '',
        source: str = '',
        kind: str = 'file',
        devices: str = '',
    ) -> guest_lib.Guest:
        """Define a server."""
        file = f"<source file='{self.work}/vda.qcow2'/>"
        other = f"<source file='{self.work}/vdb.qcow2'/>"
        own = str(uuid.uuid4())
        xml = samples.domain(
            samples.disk(source or file, kind, inside=inside),
            samples.disk(other, device='vdb'),
            virt_type='test',
            metadata=metadata,
            devices=devices,
        )
        # Bridges of this host are asked for, and there is none.
        xml = xml.replace("interface type='bridge'", "interface type='user'")
        for line in ("<source bridge='br-int'/>", "<target dev='tap0'/>"):
            xml = xml.replace(line, '')
        xml = xml.replace("<virtualport type='openvswitch'/>", '')
        domain = self.connection.defineXML(
            xml.replace(samples.UUID, own).replace(samples.NAME, own)
        )
        self.addCleanup(self.remove, domain)
        for name in ('vda.qcow2', 'vdb.qcow2'):
            (self.work / name).touch()
        host = host_lib.Host(URI)
        return guest_lib.Guest(host, own, own)

    def remove(self, domain: libvirt.virDomain) -> None:
        with contextlib.suppress(libvirt.libvirtError):
            if domain.isActive():
                domain.destroy()
            domain.undefine()

    def domain(self, guest: guest_lib.Guest) -> libvirt.virDomain:
        """Return libvirt's object of a server."""
        return self.connection.lookupByUUIDString(guest.uuid)

    def plan(
        self,
        guest: guest_lib.Guest,
        device: str | None = None,
        includes_nova: bool = False,
        **more: Any,
    ) -> Any:
        """Plan to replace one disk."""
        options = rebuild.Options(self.work, 0, 0, includes_nova)
        disk = creation.Disk(device, 'I', 'raw', 100)
        wanted = rebuilding.Wanted('I', [disk], **more)
        return rebuild.LibvirtRebuild(guest, options).replacement(wanted)

    def assert_refused(
        self, says: str, guest: guest_lib.Guest, **more: Any
    ) -> None:
        """Check that a server is not rebuilt."""
        error = self.assertRaises(
            exception.NovaSnapError, self.plan, guest, **more
        )
        self.assertIn(says, str(error))

    def test_place(self) -> None:
        guest = self.define()
        for number, device in ((1, None), (2, 'vda'), (1, 'vdb')):
            planned = self.plan(guest, device)
            (placed,) = planned.disks.placed
            name = f'{guest.name}-{device or "vda"}-{number}.raw'
            self.assertEqual(self.work / name, placed.path)
            placed.path.touch()
        self.assertIn(str(placed.path), planned.xml)

    def test_servers_of_nova(self) -> None:
        guest = self.define(metadata=samples.NOVA.format(version='1.1'))
        self.assert_refused('--force', guest)
        self.plan(guest, includes_nova=True)

    def test_states(self) -> None:
        guest = self.define()
        domain = self.domain(guest)
        domain.create()
        self.plan(guest)
        domain.suspend()
        self.assert_refused('paused', guest)
        domain.resume()
        domain.undefine()
        self.assert_refused('transient', guest)

    def test_snapshots(self) -> None:
        guest = self.define()
        snapshot = self.domain(guest).snapshotCreateXML('<domainsnapshot/>')
        self.assert_refused('virsh snapshot-list', guest)
        snapshot.delete()
        self.plan(guest)

    def test_another_definition_than_it_runs_with(self) -> None:
        guest = self.define()
        self.domain(guest).create()
        xml = guest.definition().xml
        self.connection.defineXML(xml.replace('vda.qcow2', 'x.qcow2'))
        self.assert_refused('another disk vda', guest)

    def test_server_that_could_not_be_started_again(self) -> None:
        guest = self.define()
        (self.work / 'vda.qcow2').unlink()
        self.plan(guest)  # a new disk makes it whole
        (self.work / 'vdb.qcow2').unlink()
        self.assert_refused('vdb.qcow2 does not exist', guest)

    def test_disks(self) -> None:
        for says, arguments in (
            ('Cinder', {'inside': f'<serial>{uuid.uuid4()}</serial>'}),
            ('shared', {'inside': '<shareable/>'}),
            ('shared', {'inside': '<readonly/>'}),
            (
                'encrypted',
                {
                    'inside': "<encryption format='luks'><secret "
                    f"type='passphrase' uuid='{uuid.uuid4()}'/></encryption>"
                },
            ),
            (
                'neither a file',
                {
                    'kind': 'network',
                    'source': "<source protocol='rbd' name='p/i'>"
                    "<host name='h' port='1'/></source>",
                },
            ),
        ):
            nova = samples.NOVA.format(version='1.1')
            guest = self.define(metadata=nova, **arguments)
            self.assert_refused(says, guest, includes_nova=True)
        self.assert_refused('has no such disk', self.define(), device='vdz')

    def test_directory(self) -> None:
        guest = self.define(kind='block', source="<source dev='/dev/zero'/>")
        self.assert_refused('--directory', guest)
        self.plan(guest, directory=self.work)
        nowhere = pathlib.Path('/nowhere/at/all')
        self.assert_refused('no directory', guest, directory=nowhere)

    def test_disks_that_are_kept(self) -> None:
        guest = self.define()
        self.connection.defineXML(self.plan(guest).xml)
        (self.work / f'{guest.name}-vda-1.raw').touch()
        self.assert_refused('vda.qcow2', guest)
        again = self.plan(guest, forgets=True)
        (placed,) = again.disks.placed
        self.assertTrue(placed.path.name.endswith('-2.raw'))
