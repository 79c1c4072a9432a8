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

from nova_snap.virt.libvirt.snapshots import rewriting
from nova_snap.virt.storage import disk_source as storage
from tests.unit import base

DISK = """<disk type="file" device="disk"><driver name="qemu" type="qcow2" />
<source file="{path}" index="1" /><backingStore type="file"><format
type="qcow2" /><source file="{below}" /></backingStore><target dev="{device}"
/></disk>"""


def domain(path: str = '/d/top', below: str = '/d/base') -> str:
    disks = DISK.format(path=path, below=below, device='vda')
    disks += DISK.format(path='/d/top', below='/d/base', device='vdb')
    return (
        '<domain type="kvm"><metadata><my:own xmlns:my="urn:my" a="1" />'
        f'</metadata><devices>{disks}</devices></domain>'
    )


NEW = storage.DiskSource('block', 'raw', '/dev/vg/base')


class TestMoved(base.TestCase):
    def test_not_named(self) -> None:
        self.assertIsNone(rewriting.moved(domain(), 'vda', '/d/x', NEW))
        self.assertIsNone(rewriting.moved(domain(), 'vdc', '/d/top', NEW))

    def test_the_disk(self) -> None:
        found = rewriting.moved(domain(), 'vda', '/d/top', NEW)
        assert found is not None
        first, second = found.split('</disk>')[:2]
        self.assertIn('<source dev="/dev/vg/base" />', first)
        self.assertIn('type="block"', first)
        self.assertIn('type="raw"', first)
        self.assertNotIn('backingStore', first)
        # The other disk, and what another program has written, are as before.
        self.assertIn('<source file="/d/top" index="1" />', second)
        self.assertIn('<my:own', found)
        self.assertIn('xmlns:my="urn:my"', found)

    def test_a_layer_below(self) -> None:
        found = rewriting.moved(domain(), 'vda', '/d/base', NEW)
        assert found is not None
        first, second = found.split('</disk>')[:2]
        self.assertIn('/d/top', first)
        self.assertNotIn('/d/base', first)
        self.assertIn('/d/base', second)

    def test_a_domain_snapshot(self) -> None:
        xml = (
            '<domainsnapshot><disks><disk name="vda" snapshot="external" '
            'type="file"><driver type="qcow2" /><source file="/d/other" />'
            f'</disk></disks>{domain()}</domainsnapshot>'
        )
        found = rewriting.moved(xml, 'vda', '/d/other', NEW)
        assert found is not None
        self.assertIn('<source dev="/dev/vg/base" />', found)
        found = rewriting.moved(xml, 'vda', '/d/top', NEW)
        assert found is not None
        self.assertIn('/d/other', found)
        self.assertIn('/dev/vg/base', found)


class TestParent(base.TestCase):
    def test_another_one_or_none(self) -> None:
        xml = '<domainsnapshot><name>c</name>{}</domainsnapshot>'
        root = xml.format('')
        child = xml.format('<parent><name>a</name></parent>')
        self.assertEqual(child, rewriting.with_parent(root, 'a'))
        self.assertEqual(root, rewriting.with_parent(child, None))
        self.assertIsNone(rewriting.with_parent(child, 'a'))
        self.assertIsNone(rewriting.with_parent(root, None))


class TestReverted(base.TestCase):
    XML = (
        '<domainsnapshot><disks><disk name="vda" snapshot="external" '
        'type="block"><driver type="qcow2" /><source dev="/dev/old" /></disk>'
        '<disk name="vdb" snapshot="no" /></disks>{}<domain />'
        '</domainsnapshot>'
    )
    NEW = (
        '<disk name="vda" snapshot="external" type="file">'
        '<driver type="qcow2" /><source file="/d/new" /></disk>'
    )
    OVERLAYS = {'vda': storage.DiskSource('file', 'qcow2', '/d/new')}

    def test_overlays_are_others(self) -> None:
        found = rewriting.reverted(
            self.XML.format(''), self.OVERLAYS, has_children=False
        )
        self.assertIn(f'<disks>{self.NEW}<disk name="vdb"', found)
        self.assertNotIn('/dev/old', found)
        self.assertNotIn('revertDisks', found)

    def test_overlays_that_children_have_stay(self) -> None:
        for before in ('', '<revertDisks><disk name="vda" /></revertDisks>'):
            found = rewriting.reverted(
                self.XML.format(before), self.OVERLAYS, has_children=True
            )
            self.assertIn('/dev/old', found)
            (_first, there) = found.split('<revertDisks>')
            self.assertIn("/d/new", there)
            self.assertEqual(1, found.count('</revertDisks><domain />'))

    def test_memory_alone(self) -> None:
        found = rewriting.reverted(self.XML.format(''), {}, has_children=True)
        self.assertEqual(self.XML.format(''), found)


class TestDomainOf(base.TestCase):
    def test_what_starts_the_next_time(self) -> None:
        then = domain('/d/inactive').replace('domain', 'inactiveDomain')
        xml = f'<domainsnapshot>{domain()}{then}</domainsnapshot>'
        found = rewriting.domain_of(xml)
        assert found is not None
        self.assertTrue(found.startswith('<domain '))
        self.assertIn('/d/inactive', found)

    def test_the_name_that_it_has_now(self) -> None:
        self.assertIn(
            '<name>new</name>',
            rewriting.with_name('<domain><name>old</name></domain>', 'new'),
        )
