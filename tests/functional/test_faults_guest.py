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

"""What others do to a guest while its snapshot is taken."""

import contextlib
import os
import pathlib
import shutil
import subprocess
from typing import Any
from typing import ClassVar
import uuid

import libvirt

from tests.functional import base
from tests.functional import faults
from tests.lab import disk as disk_lib
from tests.lab import guest as guest_lib
from tests.lab import root_disk
from tests.lab import steps


def is_ready(guest: guest_lib.Guest) -> bool:
    """Whether a mirror has copied everything."""
    return "ready='yes'" in guest.xml()


class TestLive(faults.FaultTestCase):
    """In the middle of a mirror."""

    def begin_copying(self, guest: guest_lib.Guest) -> subprocess.Popen[str]:
        # Those that come to their end are told to hurry.
        process = self.begin(guest, speed=2)
        self.wait_for_copying(process, guest)
        return process

    def assert_shut_off_as_defined(
        self, guest: guest_lib.Guest, definition: str
    ) -> None:
        self.assertEqual('shut off', guest.state())
        self.assertTrue(guest.is_persistent())
        self.assertEqual(definition, guest.inactive_xml())
        self.assert_nothing_left()
        self.assertEqual([], list(self.images.list()))

    def test_powers_itself_off(self) -> None:
        guest = self.own_guest(agent=True)
        definition = guest.inactive_xml()
        process = self.begin(guest, speed=1)
        self.wait_for_copying(process, guest)
        guest.power_off_itself()
        self.assert_ended(process, 1, guest.uuid, 'shut off|stopped')
        self.assert_shut_off_as_defined(guest, definition)

    def test_destroyed(self) -> None:
        guest = self.own_guest(autostart=True)
        definition = guest.inactive_xml()
        process = self.begin_copying(guest)
        guest.destroy()
        self.assert_ended(process, 1, guest.uuid, 'shut off|stopped')
        self.assert_shut_off_as_defined(guest, definition)
        with guest.domain() as domain:
            self.assertTrue(domain.autostart())

    def test_reset(self) -> None:
        guest = self.shared_guest()
        found = base.Found.of(guest)
        process = self.begin_copying(guest)
        ticks = guest.ticks()
        with guest.domain() as domain:
            domain.reset()
        self.hurry(guest)
        self.assert_ended(process, 0)
        guest.wait_until_up()
        self.assert_image_right(self.the_image(), ticks)
        self.assert_as_found(guest, found)
        self.assert_nothing_left()

    def test_paused(self) -> None:
        guest = self.shared_guest()
        found = base.Found.of(guest)
        process = self.begin_copying(guest)
        guest.suspend()
        self.hurry(guest)
        ticks = guest.ticks()
        self.assert_ended(process, 0)
        self.assertEqual('paused', guest.state())
        self.assert_image_right(self.the_image(), ticks)
        guest.resume()
        self.assert_as_found(guest, found)
        self.assert_nothing_left()

    def test_job_aborted_before_it_was_ready(self) -> None:
        guest = self.shared_guest()
        found = base.Found.of(guest)
        process = self.begin_copying(guest)
        with guest.domain() as domain:
            domain.blockJobAbort(guest.target)
        self.assert_ended(process, 1, 'vda', guest.uuid, 'another program')
        self.assert_as_found(guest, found)
        self.assert_nothing_left()
        self.assertEqual([], list(self.images.list()))

    def test_job_aborted_when_it_was_ready(self) -> None:
        guest = self.shared_guest()
        found = base.Found.of(guest)
        process = self.begin_copying(guest)
        self.hurry(guest)
        self.wait_until(process, lambda: is_ready(guest))
        ticks = guest.ticks()
        with contextlib.suppress(libvirt.libvirtError), guest.domain() as dom:
            dom.blockJobAbort(guest.target)
        ended = self.ended(process)
        self.assertIn(ended.status, (0, 1))
        if ended.status == 0:  # it was quicker
            self.assert_image_right(self.the_image(), ticks)
        else:
            self.assertIn('another program', ended.message)
            self.assertEqual([], list(self.images.list()))
        self.assert_as_found(guest, found)
        self.assert_nothing_left()

    def test_disks_are_detached_and_attached(self) -> None:
        directory = guest_lib.disks_directory(self.libvirtd)
        size = 1 * faults.MIB
        old, new = (
            root_disk.make(
                directory,
                root_disk.Kind.RAW,
                name=f'data-{os.urandom(4).hex()}',
                size=size,
            )
            for _number in range(2)
        )
        guest = self.own_guest(extra_disks=(old,))
        process = self.begin_copying(guest)
        self.wait_until(process, guest.is_persistent)
        flags = (
            libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG
        )
        xml = """<disk type='{0.source_type}' device='disk'>
            <driver name='qemu' type='{0.format}'/>{0.source_xml}
            <target dev='{1}' bus='virtio'/></disk>"""
        with guest.domain() as domain:
            domain.attachDeviceFlags(xml.format(new, 'vdd'), flags)
            domain.detachDeviceFlags(xml.format(old, 'vdc'), flags)
        guest.wait_for(
            lambda: str(old.path) not in guest.xml(), 'detached disk', 60
        )
        definition = guest.inactive_xml()
        self.hurry(guest)
        self.assert_ended(process, 0)
        self.assertEqual(definition, guest.inactive_xml())
        for current in (guest.xml(), guest.inactive_xml()):
            self.assertIn(str(new.path), current)
            self.assertNotIn(str(old.path), current)
        self.assert_nothing_left()

    def pivot(self, guest: guest_lib.Guest) -> pathlib.Path:
        """Make a guest write to the delta of a snapshot, and to nothing else.

        :returns: the delta; the guest has written to it.
        """
        process = self.begin_copying(guest)
        self.hurry(guest)
        self.wait_until(process, lambda: is_ready(guest))
        with guest.domain() as domain:
            domain.blockJobAbort(
                guest.target, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT
            )
        ended = self.assert_ended(process, 1, 'vda', guest.uuid)
        (delta,) = self.snapshots.glob('*/*.delta')
        self.assertIn(str(delta), ''.join(ended.errors))
        self.assertTrue(guest.is_ticking())
        self.assertEqual([], list(self.images.list()))
        self.speed = None
        self.run_command('recover', status=1)  # the guest has it open
        guest.agent('guest-exec', path='/bin/touch', arg=['/only-there'])
        guest.wait_for_ticks(5)
        return delta

    def test_pivoted_by_another_tool(self) -> None:
        guest = self.own_guest(agent=True)
        definition = guest.inactive_xml()
        delta = self.pivot(guest)
        guest.destroy()
        # libvirt has made the delta the disk in the definition, too.
        self.assertIn(str(delta), guest.inactive_xml())
        done = self.run_command('recover', status=1)
        self.assertIn(str(delta), done.stderr)
        self.assertEqual('', disk_lib.check(delta))
        with guest.domain() as domain:
            domain.connect().defineXML(definition)
        self.run_command('recover')
        self.assert_nothing_left()

    def test_transient_guest_pivoted_by_another_tool(self) -> None:
        guest = self.own_guest(agent=True, persistent=False)
        self.pivot(guest)
        guest.destroy()
        done = self.run_command('recover')
        (kept,) = self.snapshots.glob('kept-*.delta')
        self.assertIn(str(kept), done.stderr)
        self.assertEqual('', disk_lib.check(kept))
        kept.unlink()
        self.assert_nothing_left()

    def copy_disk(self, guest: guest_lib.Guest, target: pathlib.Path) -> None:
        """Begin a copy of the root disk, as another program would."""
        xml = (
            f"<disk type='file'><source file='{target}'/>"
            "<driver type='qcow2'/></disk>"
        )
        with guest.domain() as domain:
            domain.blockCopy(
                guest.target,
                xml,
                {'bandwidth': faults.MIB},
                libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB,
            )
        self.assertNotEqual({}, guest.block_jobs())

    def test_leftover_job_is_ended(self) -> None:
        """One of ours, known by where its target is."""
        guest = self.shared_guest()
        found = base.Found.of(guest)
        folder = self.snapshots / str(uuid.uuid4())
        folder.mkdir(parents=True)
        self.addCleanup(shutil.rmtree, folder)
        self.copy_disk(guest, folder / 'left.delta')
        ticks = guest.ticks()
        process = self.begin(guest, speed=None)
        self.assert_ended(process, 0)
        self.assert_image_right(self.the_image(), ticks)
        self.assert_as_found(guest, found)

    def test_job_of_another_program_is_left_alone(self) -> None:
        guest = self.shared_guest()
        found = base.Found.of(guest)
        self.copy_disk(guest, self.directory() / 'copy.qcow2')
        for options in ({}, faults.COLD):
            self.configure(**options)
            self.snapshot_fails(guest, 4, guest.uuid, 'vda', 'blockjob')
            self.assertNotEqual({}, guest.block_jobs())
        self.assertTrue(guest.is_persistent())
        with guest.domain() as domain:
            domain.blockJobAbort(guest.target)
        self.assert_as_found(guest, found)
        self.assert_nothing_left()
        self.assertEqual([], list(self.images.list()))

    def test_running_backup_is_left_alone(self) -> None:
        guest = self.shared_guest()
        found = base.Found.of(guest)
        socket = self.directory() / 'nbd.sock'
        with guest.domain() as domain:
            domain.backupBegin(
                "<domainbackup mode='pull'>"
                f"<server transport='unix' socket='{socket}'/>"
                '</domainbackup>',
                None,
            )
        self.snapshot_fails(guest, 4, guest.uuid, 'backup')
        with guest.domain() as domain:
            self.assertIn(str(socket), domain.backupGetXMLDesc())
            domain.abortJob()
        self.assert_as_found(guest, found)
        self.assert_nothing_left()


class TestCrash(faults.FaultTestCase):
    """QEMU ends by itself, whatever the reason."""

    PULL: ClassVar = {'snapshot': {'live_method': 'pull'}}

    def assert_crash_told(
        self, point: steps.Point, images: list[str], **options: Any
    ) -> None:
        """Check the end of a snapshot whose guest crashes at a point.

        :param images: the statuses of the images that there are then.
        """
        self.configure(**options)
        guest = self.own_guest(autostart=True)
        definition = guest.inactive_xml()
        with self.held_at(point, guest) as process:
            guest.crash()
        self.assert_ended(process, 1, guest.uuid, 'ended by itself')
        self.assertEqual('shut off', guest.state())
        self.assertEqual(definition, guest.inactive_xml())
        self.assertEqual(images, [one.status for one in self.images.list()])
        self.assert_nothing_left()

    def test_mirror(self) -> None:
        self.assert_crash_told(steps.after('rebase'), [])

    def test_mirror_whose_image_is_being_made(self) -> None:
        self.assert_crash_told(steps.after('end-mirror'), ['active'])

    def test_pull(self) -> None:
        self.assert_crash_told(steps.after('open-export'), [], **self.PULL)

    def test_pull_whose_image_is_complete(self) -> None:
        """The moment at which some versions of QEMU crash by the export."""
        self.assert_crash_told(
            steps.before('end-export'), ['active'], **self.PULL
        )


class TestCold(faults.FaultTestCase):
    """While the guest is suspended and its disk is read."""

    OPTIONS = faults.COLD

    def begin_converting(
        self, guest: guest_lib.Guest
    ) -> subprocess.Popen[str]:
        process = self.begin(guest)
        self.wait_for_qemu_img(process)
        self.assertTrue(guest.has_managed_save())
        return process

    def test_started_by_somebody(self) -> None:
        # QEMU's lock keeps it from writing to the disk that is read.
        guest = self.shared_guest()
        found = base.Found.of(guest)
        ticks = guest.ticks()
        process = self.begin_converting(guest)
        with guest.domain() as domain:
            self.assertRaises(libvirt.libvirtError, domain.create)
        self.assert_ended(process, 0)
        self.assert_image_right(self.the_image(), ticks)
        self.assert_as_found(guest, found)
        self.assert_nothing_left()

    def test_saved_memory_removed_by_somebody(self) -> None:
        guest = self.own_guest()
        ticks = guest.ticks()
        process = self.begin_converting(guest)
        with guest.domain() as domain:
            domain.managedSaveRemove()
        self.assert_ended(process, 0)
        self.assert_image_right(self.the_image(), ticks)
        self.assertEqual('shut off', guest.state())
        self.assert_nothing_left()

    def test_undefined_by_somebody(self) -> None:
        guest = self.own_guest()
        ticks = guest.ticks()
        process = self.begin_converting(guest)
        with guest.domain() as domain:
            domain.undefineFlags(
                libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
                | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
            )
        ended = self.assert_ended(process, 0)
        self.assertEqual([], ended.errors)
        self.assert_image_right(self.the_image(), ticks)
        self.assertEqual('missing', guest.state())
        self.assert_nothing_left()

    def test_destroyed_while_it_is_saved(self) -> None:
        guest = self.own_guest()
        process = self.begin(guest)
        self.wait_until(process, lambda: guest.state() != 'running')
        guest.destroy()
        ended = self.ended(process)
        self.assertIn(ended.status, (0, 1), ended.err)
        self.assertNotIn('Traceback', ended.err)
        self.assertIn(guest.state(), ('shut off', 'running'))
        self.assert_nothing_left()


class TestShutOff(faults.FaultTestCase):
    """While the disk of a guest that does not run is read."""

    def setUp(self) -> None:
        super().setUp()
        self.guest = self.own_guest(start=False)
        self.found = base.Found.of(self.guest)
        self.process = self.begin(self.guest)
        self.wait_for_qemu_img(self.process)

    def test_started_by_somebody(self) -> None:
        with self.guest.domain() as domain:
            error = self.assertRaises(libvirt.libvirtError, domain.create)
        self.assertIn('lock', str(error))
        self.assert_ended(self.process, 0)
        self.assert_image_right(self.the_image(), 0)
        self.assert_as_found(self.guest, self.found)
        self.assert_nothing_left()
        self.guest.start()
        self.guest.wait_until_up()

    def test_undefined_by_somebody(self) -> None:
        with self.guest.domain() as domain:
            domain.undefine()
        self.assert_ended(self.process, 0)
        self.assert_image_right(self.the_image(), 0)
        self.assertEqual('missing', self.guest.state())
        self.assert_nothing_left()
