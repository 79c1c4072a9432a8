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


"""Steps undone by recovery: later, twice, or for what never happened."""

import contextlib
import os
import pathlib
import sys
import uuid

from nova_snap import exception
from nova_snap import undo
from nova_snap.virt.libvirt import backup_job
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt import hooks
from nova_snap.virt.libvirt import mirror_step
from nova_snap.virt.libvirt import undo_steps
from nova_snap.virt.libvirt.extraction import orphan_watch
from tests.unit.virt.libvirt import base
from tests.unit.virt.libvirt import fake_libvirt
from tests.unit.virt.libvirt import samples


class StepTestCase(base.GuestTestCase):
    """Steps for a guest with two devices of the host."""

    def setUp(self) -> None:
        super().setUp()
        self.domain = fake_libvirt.Domain(
            samples.raw_disk(), samples.hostdev(1), samples.hostdev(2)
        )
        self.guest = self.use(self.domain)
        self.resources = undo.Resources(self.guest, hooks.NONE)


class AttachDevicesTest(StepTestCase):
    """Devices that a guest had."""

    def setUp(self) -> None:
        super().setUp()
        devices = domain_xml.passthrough_devices(self.guest.xml())
        self.step = undo_steps.AttachDevices.of(devices)

    def attach(self) -> None:
        """Do what recovery does."""
        self.step.undo(self.resources)

    def test_only_missing_ones_are_attached(self) -> None:
        del self.domain.devices[0]
        self.attach()
        self.assertEqual({'0x01', '0x02'}, set(self.domain.slots))

    def test_twice(self) -> None:
        self.domain.devices.clear()
        self.attach()
        self.attach()
        self.assertEqual(['0x01', '0x02'], self.domain.slots)

    def test_guest_that_does_not_run_gets_them_when_it_starts(self) -> None:
        self.domain.state_now = base.SHUTOFF
        self.domain.devices.clear()
        self.attach()
        self.assertEqual([], self.domain.slots)
        self.assertIn('gets them when it starts', self.log.output)

    def test_guest_that_is_gone(self) -> None:
        self.domain.exists = False
        self.attach()

    def test_failure_is_raised_after_all_were_tried(self) -> None:
        self.domain.devices.clear()
        self.domain.attach_errors = {'0x01'}
        error = self.assertRaises(exception.HypervisorError, self.attach)
        self.assertIn('in use elsewhere', str(error))
        self.assertEqual(['0x02'], self.domain.slots)


class ResumeTest(StepTestCase):
    """A guest whose memory was saved."""

    def resume(self, paused: bool = False) -> int:
        """Do what recovery does, and say what state that makes."""
        undo_steps.Resume(paused).undo(self.resources)
        state: int = self.domain.state_now
        return state

    def test_running(self) -> None:
        self.domain.state_now, self.domain.is_saved = base.SHUTOFF, True
        self.assertEqual(base.RUNNING, self.resume())
        self.assertFalse(self.domain.is_saved)

    def test_paused(self) -> None:
        self.domain.state_now, self.domain.is_saved = base.SHUTOFF, True
        self.assertEqual(base.PAUSED, self.resume(paused=True))

    def test_that_was_never_saved(self) -> None:
        self.assertEqual(base.RUNNING, self.resume(paused=True))

    def test_whose_save_ends_while_it_is_looked_at(self) -> None:
        def end_save() -> None:
            self.domain.state_now, self.domain.is_saved = base.SHUTOFF, True

        self.domain.ask_for_job = end_save
        self.assertEqual(base.RUNNING, self.resume())

    def test_that_was_shut_off_by_somebody_else(self) -> None:
        self.domain.state_now = base.SHUTOFF
        self.assertEqual(base.SHUTOFF, self.resume())


class EndMirrorTest(StepTestCase):
    """A copy whose guest was shut off after the process had died."""

    def setUp(self) -> None:
        super().setUp()
        self.domain.state_now = base.SHUTOFF
        self.delta = self.folder() / 'x.delta'
        self.delta.touch()
        self.kept = self.delta.parent.parent / f'kept-{self.delta.name}'
        self.addCleanup(self.kept.unlink, missing_ok=True)

    def end(self) -> None:
        """Do what recovery does."""
        data = {'device': 'vda', 'target': str(self.delta), 'run': 'boot/1'}
        undo.load(mirror_step.EndMirror.kind, data).undo(self.resources)

    def test_definition_names_the_disk(self) -> None:
        self.end()
        self.assertFalse(self.kept.exists())

    def test_definition_names_the_copy(self) -> None:
        domain = fake_libvirt.Domain(samples.raw_disk(str(self.delta)))
        domain.state_now = base.SHUTOFF
        self.resources = undo.Resources(self.use(domain), hooks.NONE)
        error = self.assertRaises(exception.UnsafeDisk, self.end)
        self.assertIn(str(self.delta), str(error))
        self.assertTrue(self.delta.exists())

    def test_guest_without_a_definition(self) -> None:
        self.domain.exists = False
        self.end()
        self.assertTrue(self.kept.exists())
        self.assertIn(str(self.kept), self.log.output)

    def test_entry_that_names_the_disk(self) -> None:
        step = undo.load(
            mirror_step.EndMirror.kind,
            {
                'device': 'vda',
                'target': '/x.delta',
                'run': 'boot/1',
                'source': '/disk',
                'source_format': 'raw',
            },
        )
        self.assertEqual({'device', 'target', 'run'}, set(step.data()))


class EndExportTest(StepTestCase):
    """An export whose end fails."""

    def setUp(self) -> None:
        super().setUp()
        directory = self.folder()
        self.path = directory / str(uuid.uuid4())
        self.path.mkdir()
        self.export = backup_job.Export(self.path)
        self.export.scratch(0).touch()
        self.resources = undo.Resources(
            self.guest, hooks.NONE, undo_steps.Folders((directory,))
        )
        self.domain.backup_job = (
            '<domainbackup mode="pull"><server transport="unix" '
            f'socket="{self.export.socket}"/></domainbackup>'
        )

    def undo_all(self) -> list[str]:
        """Undo what a pull has begun; return the steps that are left."""
        with (
            contextlib.suppress(exception.NotUndone),
            self.journal.begun(
                samples.UUID, samples.NAME, self.resources
            ) as entry,
            entry.undoing(undo_steps.RemoveFolder(str(self.path))),
            entry.undoing(undo_steps.EndExport(str(self.path), True)),
        ):
            pass
        return list(entry.kinds)

    def test_folder_stays_as_long_as_qemu_writes_to_it(self) -> None:
        self.domain.cannot_abort = True
        self.assertEqual(
            [undo_steps.RemoveFolder.kind, undo_steps.EndExport.kind],
            self.undo_all(),
        )
        self.assertTrue(self.path.exists())

    def test_all_is_undone(self) -> None:
        self.assertEqual([], self.undo_all())
        self.assertIsNone(self.domain.backup_job)
        self.assertFalse(self.path.exists())

    def test_nothing_watches_for_the_death_of_the_process(self) -> None:
        """As where the user may not run this Python; pull works."""
        self.patch(sys, 'executable', str(self.path / 'missing'))
        step = undo_steps.EndExport(str(self.path), True)
        with (
            self.journal.begun(
                samples.UUID, samples.NAME, self.resources
            ) as entry,
            orphan_watch.undoing(entry, self.guest, step),
        ):
            self.assertEqual((step.kind,), entry.kinds)
        self.assertIsNone(self.domain.backup_job)
        self.assertIn('could not be started', self.log.output)

    def test_job_of_another_program_is_left_alone(self) -> None:
        self.domain.backup_job = '<domainbackup mode="pull"/>'
        self.assertEqual([], self.undo_all())
        self.assertIsNotNone(self.domain.backup_job)


class ThawTest(StepTestCase):
    """A guest whose file systems were frozen."""

    def thaw(self) -> None:
        """Do what recovery does."""
        undo_steps.Thaw().undo(self.resources)

    def test_running(self) -> None:
        self.domain.is_frozen = True
        self.thaw()
        self.assertFalse(self.domain.is_frozen)

    def test_that_does_not_run(self) -> None:
        self.domain.state_now = base.SHUTOFF
        self.thaw()

    def test_that_is_gone(self) -> None:
        self.domain.exists = False
        self.thaw()

    def test_whose_memory_was_saved_is_thawed_when_it_runs(self) -> None:
        self.domain.is_frozen = True
        self.domain.state_now, self.domain.is_saved = base.SHUTOFF, True
        error = self.assertRaises(exception.HypervisorError, self.thaw)
        self.assertIn('started first', str(error))
        undo_steps.Resume(False).undo(self.resources)
        self.thaw()
        self.assertFalse(self.domain.is_frozen)


class RemoveFolderTest(base.GuestTestCase):
    """Temporary files."""

    def setUp(self) -> None:
        super().setUp()
        self.directory = self.folder()
        self.resources = undo.Resources(
            self.use(fake_libvirt.Domain(samples.raw_disk())),
            undo_steps.Folders((self.directory,)),
        )

    def test_of_a_snapshot(self) -> None:
        folder = self.directory / str(uuid.uuid4())
        folder.mkdir()
        (folder / 'image').touch()
        for _number in range(2):
            undo_steps.RemoveFolder(str(folder)).undo(self.resources)
            self.assertFalse(folder.exists())

    def test_that_no_snapshot_has_made(self) -> None:
        name = str(uuid.uuid4())
        elsewhere = self.folder() / name
        relative = os.path.relpath(self.directory / name)
        other = self.directory / 'other'
        deep = self.directory / name / name
        for path in (elsewhere, other, deep):
            path.mkdir(parents=True)
        for text in (
            *('', '.', '/', name, relative, str(self.directory)),
            *map(str, (elsewhere, other, deep)),
            f'{self.directory}/{name}/..',
            f'{self.directory}/../{elsewhere.parent.name}/{name}',
        ):
            for step in (
                undo_steps.RemoveFolder(text),
                undo_steps.EndExport(text, running=True),
            ):
                error = self.assertRaises(
                    exception.UnsafeDisk, step.undo, self.resources
                )
                self.assertIn(repr(text), str(error))
        for path in (elsewhere, other, deep):
            self.assertTrue(pathlib.Path(path).is_dir())

    def test_link_is_left(self) -> None:
        target = self.folder()
        link = self.directory / str(uuid.uuid4())
        link.symlink_to(target)
        step = undo_steps.RemoveFolder(str(link))
        self.assertRaises(exception.UnsafeDisk, step.undo, self.resources)
        self.assertTrue(target.is_dir())
        target.rmdir()
        self.assertRaises(exception.UnsafeDisk, step.undo, self.resources)
        target.mkdir()

    def test_of_an_entry_stays_and_is_named(self) -> None:
        with self.journal.begun('a', 'b', self.resources) as entry:
            with entry.undoing(undo_steps.RemoveFolder(str(self.folder()))):
                pass
            self.assertEqual(['remove the folder'], self.steps_left())
        self.assertIn('those are in', self.log.output)

    def test_with_all_that_is_in_it(self) -> None:
        folder = self.folder() / 'a'
        (folder / 'b').mkdir(parents=True)
        (folder / 'b' / 'delta').write_bytes(b'x')
        undo_steps.remove_folder(folder)
        self.assertFalse(folder.exists())

    def test_twice(self) -> None:
        folder = self.folder() / 'a'
        folder.mkdir()
        for _number in range(2):
            undo_steps.remove_folder(folder)
        self.assertFalse(folder.exists())
