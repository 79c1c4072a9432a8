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


"""What is removed of disks that were replaced, and what is kept."""

import pathlib
import subprocess
import uuid

import libvirt

from nova_snap import this_host
from nova_snap import undo
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import host as host_lib
from nova_snap.virt.libvirt import new_guest_steps
from nova_snap.virt.libvirt import rebuild_steps
from nova_snap.virt.libvirt import rebuild_xml
from tests.unit import base
from tests.unit.virt.libvirt import samples

URI = 'test:///default'


class StepTestCase(base.TestCase):
    """A server, another one, and a file that the first has no more."""

    def setUp(self) -> None:
        super().setUp()
        self.connection = libvirt.open(URI)
        self.addCleanup(self.connection.close)
        self.host = host_lib.Host(URI)
        self.work = self.folder()
        self.old = self.work / "it's old.qcow2"
        self.make(self.old)
        self.domain = self.define(self.make(self.work / 'own.qcow2'))
        self.guest = guest_lib.Guest(
            self.host, self.domain.UUIDString(), self.domain.name()
        )

    def make(self, path: pathlib.Path, *options: str) -> pathlib.Path:
        """Make an empty disk."""
        argv = ['qemu-img', 'create', '-q', '-f', 'qcow2', *options]
        subprocess.run([*argv, str(path), '1M'], check=True)
        return path

    def define(self, disk: pathlib.Path) -> libvirt.virDomain:
        """Define a server with a disk."""
        own = str(uuid.uuid4())
        xml = samples.domain(
            samples.disk(f'<source file="{disk}"/>'), virt_type='test'
        )
        domain = self.connection.defineXML(
            xml.replace(samples.UUID, own).replace(samples.NAME, own)
        )
        self.addCleanup(domain.undefine)
        return domain

    def start(self, domain: libvirt.virDomain) -> None:
        """Start a server for the test."""
        domain.create()
        self.addCleanup(self.stop, domain)

    def stop(self, domain: libvirt.virDomain) -> None:
        if domain.isActive():
            domain.destroy()


class RemoveReplacedTest(StepTestCase):
    """Files are removed if nobody needs them."""

    def undo(self, step: rebuild_steps.RemoveReplaced, *more: object) -> None:
        """Undo a step, as the journal has it, twice."""
        read = undo.load(step.kind, step.data())
        for _twice in range(2):
            read.undo(undo.Resources(self.guest, *more))

    def step(self) -> rebuild_steps.RemoveReplaced:
        """Make the step for the old disk."""
        return rebuild_steps.RemoveReplaced.of([str(self.old)], self.guest)

    def test_removed(self) -> None:
        self.undo(self.step())
        self.assertFalse(self.old.exists())

    def test_still_the_disk_of_a_server(self) -> None:
        self.define(self.old)
        self.undo(self.step())
        self.assertTrue(self.old.exists())

    def test_noted_by_a_server(self) -> None:
        self.domain.setMetadata(
            libvirt.VIR_DOMAIN_METADATA_ELEMENT,
            f'<replaced><disk path="{self.old}"/></replaced>',
            rebuild_xml.KEY,
            rebuild_xml.NAMESPACE,
            libvirt.VIR_DOMAIN_AFFECT_CONFIG,
        )
        self.undo(self.step())
        self.assertTrue(self.old.exists())

    def test_layer_below_the_disk_of_a_server(self) -> None:
        upper, top = self.work / 'upper', self.work / 'top'
        self.make(upper, '-b', str(self.old), '-F', 'qcow2')
        self.make(top, '-b', str(upper), '-F', 'qcow2')
        self.define(top)
        self.undo(self.step())
        self.assertTrue(self.old.exists())
        self.assertIn('needs it', self.log.output)

    def test_disk_whose_layers_are_not_known(self) -> None:
        broken = self.work / 'broken.qcow2'
        broken.write_text('no qcow2')
        self.define(broken)
        self.undo(self.step())
        self.assertTrue(self.old.exists())

    def test_another_file_of_the_name(self) -> None:
        step = self.step()
        self.make(other := self.work / 'other')
        other.rename(self.old)
        self.undo(step)
        self.assertTrue(self.old.exists())

    def test_what_is_no_file(self) -> None:
        link = self.work / 'link'
        link.symlink_to(self.old)
        step = rebuild_steps.RemoveReplaced.of([str(link)], self.guest)
        self.assertEqual([], list(step.files))

    def test_recovery_of_a_server_that_did_not_come_back(self) -> None:
        self.start(self.domain)
        step = self.step()
        self.domain.destroy()
        self.undo(step, this_host.UNKNOWN)
        self.assertTrue(self.old.exists())
        self.assertIn('does not run', self.log.output)
        self.domain.create()
        self.undo(step, this_host.UNKNOWN)
        self.assertFalse(self.old.exists())


class RestoreDisksTest(StepTestCase):
    """The definition of before is put back if the rebuild fails."""

    def setUp(self) -> None:
        super().setUp()
        self.before = self.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)

    def undo(
        self, outcome: new_guest_steps.Outcome | None, new: pathlib.Path
    ) -> str:
        """Undo a step; return the definition after it."""
        own = str(self.work / 'own.qcow2')
        now = self.before.replace(own, str(new))
        self.connection.defineXML(now)
        step = rebuild_steps.RestoreDisks(self.before, [str(new)], outcome)
        for _twice in range(2):
            step.undo(undo.Resources(self.guest))
        return str(self.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))

    def test_failed(self) -> None:
        new = self.work / 'new'
        xml = self.undo(new_guest_steps.Outcome(), new)
        self.assertNotIn(str(new), xml)

    def test_successful_or_not_known(self) -> None:
        for outcome in (None, new_guest_steps.Outcome(is_complete=True)):
            new = self.work / f'new-{outcome}'
            self.assertIn(str(new), self.undo(outcome, new))

    def test_undefined_meanwhile(self) -> None:
        self.domain.undefine()
        outcome = new_guest_steps.Outcome()
        step = rebuild_steps.RestoreDisks(self.before, [], outcome)
        step.undo(undo.Resources(self.guest))
        self.assertFalse(self.guest.is_defined())
        self.connection.defineXML(self.before)  # for the cleanup

    def test_runs_with_the_new_disks(self) -> None:
        new = self.work / 'own.qcow2'
        self.start(self.domain)
        xml = self.undo(new_guest_steps.Outcome(), new)
        self.assertIn(str(new), xml)
        self.assertIn('keeps them', self.log.output)
