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

"""The definition of a new guest."""

import pathlib
import xml.etree.ElementTree as ElementTree

from nova_snap import exception
from nova_snap.virt.libvirt import new_guest_xml
from tests.unit import base
from tests.unit.virt.libvirt import samples

UUID = '5c0e8d1f-7a2b-4936-8b1d-4f06a3c7e925'
FILE = new_guest_xml.File(pathlib.Path('/srv/a<b-vda.raw'), 'raw')


class AssembledTest(base.TestCase):
    """What of a written definition is replaced."""

    def assembled(
        self, *disks: str, keeps_others: bool = True, more: str = ''
    ) -> ElementTree.Element:
        domain = ElementTree.fromstring(samples.domain(*disks, devices=more))
        found = new_guest_xml.assembled(
            domain, 'web', UUID, {'vda': FILE}, keeps_others
        )
        return ElementTree.fromstring(found)

    def test_identity(self) -> None:
        domain = self.assembled(samples.disk())
        self.assertEqual('web', domain.findtext('name'))
        self.assertEqual(UUID, domain.findtext('uuid'))
        self.assertIsNone(domain.find('.//mac'))

    def test_disk(self) -> None:
        inside = (
            "<auth username='x'/><encryption format='luks'/>"
            "<backingStore type='file'><source file='/b'/></backingStore>"
        )
        disk = self.assembled(samples.disk(inside=inside)).find('.//disk')
        assert disk is not None
        self.assertEqual('file', disk.get('type'))
        sources = disk.findall('.//source')
        self.assertEqual([str(FILE.path)], [x.get('file') for x in sources])
        for tag in ('auth', 'encryption', 'backingStore'):
            self.assertIsNone(disk.find(tag))
        driver = disk.find('driver')
        assert driver is not None
        self.assertEqual('raw', driver.get('type'))
        self.assertEqual('none', driver.get('cache'))

    def test_other_disks(self) -> None:
        disks = (samples.disk(), samples.CDROM, samples.disk(device='vdb'))
        for keeps, expected in ((True, 3), (False, 1)):
            found = self.assembled(*disks, keeps_others=keeps)
            self.assertEqual(expected, len(found.findall('.//disk')))

    def test_first_to_boot(self) -> None:
        xml = samples.domain(
            samples.CDROM,
            samples.disk(),
            samples.disk(device='vdb', inside="<boot order='1'/>"),
        )
        domain = ElementTree.fromstring(xml)
        self.assertEqual(['vdb', 'vda'], new_guest_xml.disk_devices(domain))


class LimitTest(base.TestCase):
    """What an image may ask for."""

    def check(self, inner: str) -> None:
        new_guest_xml.require_size(
            ElementTree.fromstring(f'<domain>{inner}</domain>'), 1 << 30, 2
        )

    def test_as_much_as_the_host_has(self) -> None:
        self.check("<memory unit='GiB'>1</memory><vcpu>2</vcpu>")
        self.check('<memory>1048576</memory>')
        self.check('<memory>1</memory><iothreads>64</iothreads>')
        cell = "<cell memory='524288'/>"
        self.check(f'<cpu><numa>{cell * 2}</numa></cpu>')

    def test_more(self) -> None:
        cell = "<cell memory='524288'/>"
        for inner in (
            "<memory unit='KiB'>1048577</memory>",
            "<memory unit='TB'>1</memory>",
            "<memory unit='parsec'>1</memory>",
            '<vcpu>3</vcpu>',
            '<iothreads>65</iothreads>',
            "<cpu><numa><cell memory='2' unit='GiB'/></numa></cpu>",
            "<cpu><numa><cell memory='-1'/></numa></cpu>",
            f'<cpu><numa>{3 * cell}</numa></cpu>',
        ):
            self.assertRaises(exception.InvalidDefinition, self.check, inner)


class ConnectTest(base.TestCase):
    """Interfaces of which no network is known."""

    XML = (
        "<domain><devices><interface type='network'/><interface "
        "type='bridge'><source bridge='b'/></interface></devices></domain>"
    )

    def test_to_a_network(self) -> None:
        domain = ElementTree.fromstring(self.XML)
        self.assertTrue(new_guest_xml.has_unconnected(domain))
        new_guest_xml.connect(domain, 'lan')
        self.assertFalse(new_guest_xml.has_unconnected(domain))
        sources = [x.attrib for x in domain.iterfind('.//source')]
        self.assertEqual([{'network': 'lan'}, {'bridge': 'b'}], sources)

    def test_to_none(self) -> None:
        domain = ElementTree.fromstring(self.XML)
        new_guest_xml.connect(domain, None)
        kinds = [x.get('type') for x in domain.iterfind('.//interface')]
        self.assertEqual(['bridge'], kinds)
