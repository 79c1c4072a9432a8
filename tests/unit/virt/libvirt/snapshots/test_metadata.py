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

"""The XML of domain snapshots, as libvirt 9.0 writes it."""

import datetime

from nova_snap.objects import domain_snapshot
from nova_snap.virt.libvirt.snapshots import metadata
from tests.unit import base

DOMAIN = """<domain type='kvm'><name>web</name><uuid>1</uuid><devices>
  <disk type='file' device='disk'><driver name='qemu' type='raw'/>
    <source file='/d/root.raw'/><target dev='vda'/></disk>
  <disk type='block' device='disk'><driver name='qemu' type='raw'/>
    <source dev='/dev/vg/data'/><target dev='vdb'/></disk>
</devices></domain>"""

XML = """<domainsnapshot><name>two</name><description>why</description>
<state>{state}</state><parent><name>one</name></parent>
<creationTime>1795848286</creationTime>{memory}<disks>{disks}</disks>{domain}
</domainsnapshot>"""

EXTERNAL = """<disk name='vda' snapshot='external' type='file'>
<driver type='qcow2'/><source file='/d/root.two'/></disk>
<disk name='vdb' snapshot='no'/>"""
INTERNAL = "<disk name='vda' snapshot='internal'/>"
NONE = "<disk name='vda' snapshot='no'/>"
FILE = "<memory snapshot='external' file='/d/two.memory'/>"
INSIDE = "<memory snapshot='internal'/>"
NO_MEMORY = "<memory snapshot='no'/>"


def parsed(
    memory: str, disks: str, state: str = 'running', domain: str = DOMAIN
) -> metadata.Metadata:
    xml = XML.format(state=state, memory=memory, disks=disks, domain=domain)
    return metadata.parse(xml, is_current=True)


class TestMetadata(base.TestCase):
    def test_kinds(self) -> None:
        kinds = domain_snapshot.Kind
        for memory, disks, kind, is_internal in (
            (NO_MEMORY, EXTERNAL, kinds.DISK, False),
            (NO_MEMORY, INTERNAL, kinds.DISK, True),
            (FILE, EXTERNAL, kinds.SYSTEM, False),
            (INSIDE, INTERNAL, kinds.SYSTEM, True),
            (FILE, NONE, kinds.MEMORY, False),
        ):
            with self.subTest(memory=memory, disks=disks):
                found = parsed(memory, disks)
                self.assertEqual(
                    (kind, is_internal), (found.kind, found.is_internal)
                )

    def test_fields(self) -> None:
        found = parsed(FILE, EXTERNAL)
        self.assertEqual(
            ('two', 'why', 'one', 'running', '/d/two.memory', True),
            (
                found.name,
                found.description,
                found.parent,
                found.state,
                found.memory_file,
                found.is_current,
            ),
        )
        self.assertEqual(
            datetime.datetime(2026, 11, 28, 6, 44, 46, tzinfo=datetime.UTC),
            found.created_at,
        )
        first, second = found.disks
        assert first.frozen is not None
        assert first.overlay is not None
        self.assertEqual('/d/root.raw', first.frozen.location)
        self.assertEqual('raw', first.frozen.format)
        self.assertEqual('/d/root.two', first.overlay.location)
        self.assertFalse(second.is_in)
        self.assertIsNone(second.overlay)

    def test_the_definition_is_missing(self) -> None:
        """Metadata of libvirt before 1.0, or redefined without it."""
        (first, _second) = parsed(NO_MEMORY, EXTERNAL, domain='').disks
        self.assertIsNone(first.frozen)
