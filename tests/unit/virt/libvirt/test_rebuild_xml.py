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


"""Definitions with other disks, as libvirt's own test driver keeps them."""

import pathlib
import uuid
import xml.etree.ElementTree as ElementTree

import libvirt

from nova_snap import exception
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt import new_guest_xml
from nova_snap.virt.libvirt import rebuild_xml
from nova_snap.virt.libvirt import xml_text
from tests.unit import base
from tests.unit.virt.libvirt import samples

URI = 'test:///default'
NEW = pathlib.Path("/srv/it's \"<new>\" & more.raw")
OLD = "/srv/it's \"<old>\" & more.qcow2"

METADATA = """<metadata>
    <lib:libosinfo xmlns:lib="http://libosinfo.org/xmlns/libvirt/domain/1.0">
      <lib:os id="http://debian.org/debian/12"/></lib:libosinfo>
  </metadata>"""


class RebuildXmlTest(base.TestCase):
    """A definition with two disks, kept by libvirt."""

    def setUp(self) -> None:
        super().setUp()
        self.connection = libvirt.open(URI)
        self.addCleanup(self.connection.close)
        self.name = f'web-{uuid.uuid4()}'
        self.xml = self.define(
            samples.domain(
                samples.disk(inside='<serial>a</serial>'),
                samples.disk(device='vdb'),
                virt_type='test',
                metadata=METADATA,
            )
            .replace(samples.NAME, self.name)
            .replace(samples.UUID, str(uuid.uuid4()))
        )

    def define(self, xml: str) -> str:
        """Return what libvirt makes of a definition."""
        domain = self.connection.defineXML(xml)
        self.addCleanup(self.undefine)
        return str(domain.XMLDesc())

    def undefine(self) -> None:
        for domain in self.connection.listAllDomains():
            if domain.name() == self.name:
                domain.undefine()

    def rebuilt(self, xml: str, image: str = 'I') -> str:
        """Replace vda."""
        file = new_guest_xml.File(NEW, 'raw')
        disks = {'vda': rebuild_xml.Replacement(file, OLD)}
        return self.define(rebuild_xml.with_new_disks(xml, image, disks))

    def test_only_the_disk_changes(self) -> None:
        xml = self.rebuilt(self.xml)
        root = domain_xml.parse(xml)
        disk, other = root.findall('devices/disk')
        source, driver = disk.find('source'), disk.find('driver')
        assert source is not None and driver is not None
        self.assertEqual(str(NEW), source.get('file'))
        self.assertEqual('raw', driver.get('type'))
        self.assertEqual('none', driver.get('cache'))
        self.assertEqual('a', disk.findtext('serial'))
        self.assertIn(samples.OVERLAY, ElementTree.tostring(other).decode())
        # As libvirt's other users look for it, with the prefix.
        self.assertIn('<lib:os id="http://debian.org/debian/12"/>', xml)

    def test_note_and_undo(self) -> None:
        xml = self.rebuilt(self.xml)
        (kept,) = rebuild_xml.replaced_disks(xml)
        self.assertEqual(('vda', OLD), (kept.device, kept.path))
        self.assertEqual(str(NEW), kept.by)
        self.assertEqual('I', rebuild_xml.image(xml))
        back = rebuild_xml.with_old_disks(xml, [kept])
        self.assertEqual(self.xml.split(), back.split())
        back = self.define(back)
        self.assertEqual(self.xml, back)

    def test_files_are_known_to_be_used(self) -> None:
        xml = self.rebuilt(self.xml)
        for path in (OLD, str(NEW)):
            self.assertTrue(domain_xml.names(xml, path))
        self.assertFalse(domain_xml.names(self.xml, OLD))

    def test_guest_without_metadata(self) -> None:
        (span,) = xml_text.spans(self.xml, ('domain', 'metadata'))
        for text in ('', '<metadata/>'):
            edits = [span.replaced(text)]
            before = self.define(xml_text.edited(self.xml, edits))
            xml = self.rebuilt(before)
            kept = rebuild_xml.replaced_disks(xml)
            back = self.define(rebuild_xml.with_old_disks(xml, kept))
            plain = before.replace('  <metadata/>\n', '')
            self.assertEqual(plain.split(), back.split())

    def test_image_of_before(self) -> None:
        xml = self.rebuilt(self.rebuilt(self.xml), 'J')
        self.assertEqual('J', rebuild_xml.image(xml))
        kept = rebuild_xml.replaced_disks(xml)
        self.assertEqual(1, len(kept))
        back = self.define(rebuild_xml.with_old_disks(xml, kept))
        self.assertEqual('I', rebuild_xml.image(back))
        self.assertEqual((), rebuild_xml.replaced_disks(back))

    def test_disks_are_removed(self) -> None:
        xml = self.rebuilt(self.xml)
        domain = self.connection.lookupByName(self.name)
        domain.setMetadata(
            libvirt.VIR_DOMAIN_METADATA_ELEMENT,
            rebuild_xml.note_without_disks(xml),
            rebuild_xml.KEY,
            rebuild_xml.NAMESPACE,
            libvirt.VIR_DOMAIN_AFFECT_CONFIG,
        )
        found = domain.XMLDesc()
        self.assertEqual('I', rebuild_xml.image(found))
        self.assertEqual((), rebuild_xml.replaced_disks(found))
        self.assertFalse(domain_xml.names(found, OLD))

    def test_disk_that_was_detached(self) -> None:
        xml = self.rebuilt(self.xml)
        kept = rebuild_xml.replaced_disks(xml)
        self.assertRaises(
            exception.InvalidDefinition,
            rebuild_xml.with_old_disks,
            rebuild_xml.without_disks(xml, ['vda']),
            kept,
        )
