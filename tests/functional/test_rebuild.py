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


"""Guests whose disks are replaced by images, and get them back."""

import json
import os
import pathlib
import signal
import struct
import subprocess

import libvirt

from tests.functional import test_boot
from tests.lab import command
from tests.lab import disk as disk_lib
from tests.lab import guest as guest_lib
from tests.lab import root_disk
from tests.lab import steps

#: Of the qcow2 header: the disk may not be opened for writing.
CORRUPT = 1 << 1
FEATURES_AT = 72


class RebuildTestCase(test_boot.BootTestCase):
    """Images, and guests whose disks are in a folder of their own."""

    OPTIONS = {'DEFAULT': {'shutdown_timeout': '0'}}

    def rebuild(
        self, guest: guest_lib.Guest, *words: str, status: int | None = 0
    ) -> subprocess.CompletedProcess[str]:
        """Run the command; remove the disks that it makes after the test."""
        return self.run_command('rebuild', guest.uuid, *words, status=status)

    def own_guest(
        self,
        start: bool = True,
        kind: root_disk.Kind = root_disk.Kind.QCOW2,
        wait: bool = False,
        **spec: object,
    ) -> guest_lib.Guest:
        """Make a guest whose disk is in the folder of the test."""
        disk = root_disk.make(self.disks, kind, 'old')
        return self.make_guest(start=start, wait=wait, disk=disk, **spec)

    def image(self, kind: root_disk.Kind = root_disk.Kind.QCOW2) -> str:
        """Store a disk with the marker."""
        disk = root_disk.make(
            self.directory(), kind, 'new', files=test_boot.MARKER
        )
        return self.stored(disk.path, disk.format)

    def disks_of(self, guest: guest_lib.Guest) -> dict[str, pathlib.Path]:
        """Return the files of a guest's definition, by their target names."""
        return {
            device: path
            for device, path in _files(guest.inactive_xml()).items()
            if path is not None
        }

    def assert_has(
        self, guest: guest_lib.Guest, path: pathlib.Path, state: str
    ) -> None:
        """Check which disk a guest has, in both definitions, and its state."""
        self.assertEqual(state, guest.state())
        for xml in (guest.inactive_xml(), guest.xml()):
            self.assertEqual(path, _files(xml)[guest.target])
        self.assertEqual([], list(self.disks.glob('.nova-snap*')))
        self.assert_nothing_left()


def _files(xml: str) -> dict[str, pathlib.Path | None]:
    import xml.etree.ElementTree as ElementTree

    found: dict[str, pathlib.Path | None] = {}
    for disk in ElementTree.fromstring(xml).iterfind('devices/disk'):
        source, target = disk.find('source'), disk.find('target')
        assert target is not None
        file = None if source is None else source.get('file')
        found[target.get('dev', '')] = pathlib.Path(file) if file else None
    return found


class TestRebuild(RebuildTestCase):
    """What is found in the guest."""

    OPTIONS = {'DEFAULT': {'shutdown_timeout': '60'}}

    def test_running_and_undone(self) -> None:
        guest = self.own_guest(agent=True, wait=True)
        old, image = guest.spec.disk.path, self.image()
        before = guest.inactive_xml()
        self.rebuild(guest, image)
        new = self.disks / f'{guest.name}-vda-1.qcow2'
        self.assert_has(guest, new, 'running')
        guest.wait_until_up()
        console = guest.console()
        self.assertIn('SHUTDOWN', console)
        self.assertIn('MARKER of-the-image', console)
        done = self.rebuild(guest, image, status=4)
        self.assertIn(str(old), done.stderr)

        guest.serial_log.unlink()
        self.rebuild(guest, '--undo')
        self.assert_has(guest, old, 'running')
        self.assertEqual([old], list(self.disks.iterdir()))
        self.assertEqual(_plain(before), _plain(guest.inactive_xml()))
        guest.wait_until_up()
        self.assertNotIn('MARKER', guest.console())
        self.assertIn('FOUND', guest.console())

    def test_all_disks_of_a_set(self) -> None:
        qcow2, raw = root_disk.Kind.QCOW2, root_disk.Kind.RAW
        source = self.make_guest(
            start=False,
            kind=qcow2,
            extra_disks=(
                root_disk.make(
                    self.directory(), raw, 'more', files=test_boot.MARKER
                ),
            ),
        )
        done = self.run_command(
            *('image-create', '--all-disks', source.uuid, 'set'),
            *('-f', 'value', '-c', 'id'),
        )
        other = root_disk.make(self.disks, qcow2, 'other')
        guest = self.own_guest(start=False, extra_disks=(other,))
        before = self.disks_of(guest)
        self.rebuild(guest, done.stdout.strip())
        found = self.disks_of(guest)
        self.assertEqual('shut off', guest.state())
        for device, image_format, of in (
            ('vda', 'qcow2', source.spec.disk.path),
            ('vdc', 'raw', source.spec.extra_disks[0].path),
        ):
            name = f'{guest.name}-{device}-1.{image_format}'
            self.assertEqual(self.disks / name, found[device])
            command.run(
                *('qemu-img', 'compare', '-f', image_format),
                *('-F', image_format, found[device], of),
            )
        self.assertTrue(all(path.exists() for path in before.values()))
        self.rebuild(guest, '--delete-old')
        self.assertEqual(set(found.values()), set(self.disks.iterdir()))
        self.assert_nothing_left()

    def test_block_device(self) -> None:
        guest = self.own_guest(start=False, kind=root_disk.Kind.BLOCK)
        image, before = self.image(root_disk.Kind.RAW), guest.inactive_xml()
        self.assertIn(
            '--directory', self.rebuild(guest, image, status=2).stderr
        )
        target = self.directory()
        self.rebuild(guest, image, '--directory', str(target))
        self.assertEqual(
            target / f'{guest.name}-vda-1.raw', self.disks_of(guest)['vda']
        )
        self.rebuild(guest, '--undo')
        self.assertEqual(_plain(before), _plain(guest.inactive_xml()))
        self.assertEqual([], list(target.iterdir()))


def _plain(xml: str) -> str:
    """Return a definition without metadata, of which an empty one may stay."""
    return xml.replace('  <metadata/>\n', '')


class TestRefused(RebuildTestCase):
    """What is not rebuilt; the guest stays as it is."""

    def test_guests(self) -> None:
        guest, image = self.own_guest(start=False), self.image()
        with guest.domain() as dom:
            snapshot = dom.snapshotCreateXML('<domainsnapshot/>')
            self.assert_refused_of(guest, 'virsh snapshot-list', image)
            snapshot.delete()
            dom.create()
            dom.suspend()
            self.assert_refused_of(guest, 'paused', image)
            dom.resume()
            dom.managedSave()
            self.assert_refused_of(guest, 'managedsave-remove', image)
            dom.managedSaveRemove()
        self.assert_refused_of(guest, 'none of its disks', '--undo')

    def assert_refused_of(
        self, guest: guest_lib.Guest, says: str, *words: str
    ) -> None:
        """Check that a guest is not rebuilt, and that nothing is made."""
        before = guest.state(), guest.inactive_xml()
        files = set(self.disks.iterdir())
        done = self.rebuild(guest, *words, status=None)
        self.assertNotEqual(0, done.returncode)
        self.assertIn(says, done.stderr)
        self.assertEqual(before, (guest.state(), guest.inactive_xml()))
        self.assertEqual(files, set(self.disks.iterdir()))
        self.assert_nothing_left()

    def test_images_and_a_full_disk(self) -> None:
        guest = self.own_guest(start=False)
        overlay = self.directory() / 'overlay'
        command.run(
            *('qemu-img', 'create', '-q', '-f', 'qcow2'),
            *('-b', '/etc/passwd', '-F', 'raw', '-u', overlay, '64M'),
        )
        self.assert_refused_of(guest, 'backing', self.stored(overlay))
        image = self.stored(
            root_disk.make(
                self.directory(),
                root_disk.Kind.RAW,
                'new',
                files={'/random': os.urandom(2 << 20)},
            ).path,
            'raw',
        )
        full = self.tmpfs(1 << 20)
        words = image, '--directory', str(full)
        self.assert_refused_of(guest, 'Not enough', *words)
        self.assertEqual([], list(full.iterdir()))


class TestFaults(RebuildTestCase):
    """What goes wrong in the middle: never neither of the disks."""

    def test_disks_that_cannot_be_started(self) -> None:
        guest = self.own_guest()
        old = guest.spec.disk.path
        work = self.directory() / 'corrupt'
        command.run('qemu-img', 'create', '-q', '-f', 'qcow2', work, '64M')
        with work.open('r+b') as file:
            file.seek(FEATURES_AT)
            file.write(struct.pack('>Q', CORRUPT))
        done = self.rebuild(guest, self.stored(work), status=1)
        self.assertIn('start it', done.stderr)
        self.assert_has(guest, old, 'running')
        self.assertEqual([old], list(self.disks.iterdir()))
        self.assertTrue(guest.is_ticking())

    def test_full_disk_while_it_is_written(self) -> None:
        guest = self.own_guest(start=False)
        full, files = self.tmpfs(8 << 20), {'/random': os.urandom(5 << 20)}
        image = self.stored(
            root_disk.make(
                self.directory(), root_disk.Kind.QCOW2, 'new', files=files
            ).path
        )
        process, folder = self.held_command(
            steps.before('download'),
            *('rebuild', guest.uuid, image, '--directory', str(full)),
        )
        (full / 'filler').write_bytes(bytes(6 << 20))
        (folder / 'go').touch()
        done = self.finish(process)
        self.assertEqual(1, done.returncode, done.stderr)
        self.assertIn('make room', done.stderr)
        self.assert_has(guest, guest.spec.disk.path, 'shut off')
        self.assertEqual([full / 'filler'], list(full.iterdir()))

    def test_in_the_middle(self) -> None:
        guest, image = self.own_guest(), self.image()
        process, folder = self.held_command(
            *(steps.before('define'), 'rebuild', guest.uuid, image)
        )
        self.libvirtd.restart(signal.SIGKILL)
        new = self.finished(process, folder, guest)
        self.assert_has(guest, new, 'running')
        self.rebuild(guest, '--delete-old')
        self.assertEqual([new], list(self.disks.iterdir()))

        words = 'rebuild', guest.uuid, image, '--delete-old'
        process, folder = self.held_command(steps.after('inspect'), *words)
        guest.destroy()
        other = self.finished(process, folder, guest)
        self.assertNotEqual(new, other)
        self.assert_has(guest, other, 'shut off')
        self.assertEqual([other], list(self.disks.iterdir()))

        process, folder = self.held_command(steps.after('inspect'), *words)
        with guest.domain() as dom:
            dom.setMetadata(
                libvirt.VIR_DOMAIN_METADATA_TITLE, 'changed', None, None
            )
        (folder / 'go').touch()
        done = self.finish(process)
        self.assertEqual(4, done.returncode, done.stderr)
        self.assert_has(guest, other, 'shut off')
        self.assertEqual([other], list(self.disks.iterdir()))

    def finished(
        self,
        process: subprocess.Popen[str],
        folder: pathlib.Path,
        guest: guest_lib.Guest,
    ) -> pathlib.Path:
        """Let a held rebuild go on to a good end; return the new disk."""
        (folder / 'go').touch()
        done = self.finish(process)
        self.assertEqual(0, done.returncode, done.stderr)
        return self.disks_of(guest)['vda']


class TestKilled(RebuildTestCase):
    """Killed at each step: the old disks or the new ones, and it runs."""

    def test_rebuild(self) -> None:
        guest, image = self.own_guest(), self.image()
        for point in steps.REBUILD:
            with self.subTest(str(point)):
                self.check_killed(point, guest, 'rebuild', guest.uuid, image)
                if self.disks_of(guest)['vda'] != guest.spec.disk.path:
                    self.rebuild(guest, '--undo')
                    self.assert_has(guest, guest.spec.disk.path, 'running')
        self.assertTrue(guest.is_ticking())

    def test_late_recovery(self) -> None:
        """A guest that nobody has started, or stopped, since."""
        guest, image = self.own_guest(), self.image()
        for has_run in (False, True):
            with self.subTest(has_run=has_run):
                self.killed_at(
                    steps.before('define'), 'rebuild', guest.uuid, image
                )
                self.let_time_pass()
                if has_run:
                    with guest.domain() as dom:
                        dom.create()
                    guest.wait_until_up()
                    guest.destroy()
                self.run_command('recover')
                self.assert_has(
                    guest,
                    guest.spec.disk.path,
                    'shut off' if has_run else 'running',
                )

    def let_time_pass(self) -> None:
        """Let a step of the journal be as old as if a day had passed."""
        (path,) = (self.state_path / 'journal').glob('*.json')
        entry = json.loads(path.read_text())
        for step in entry['steps']:
            if 'begun_at' in step['data']:
                step['data']['begun_at'] -= 86400
        path.write_text(json.dumps(entry))

    def test_undo(self) -> None:
        guest, image = self.own_guest(), self.image()
        for point in steps.UNDO_REBUILD:
            with self.subTest(str(point)):
                self.rebuild(guest, image)
                self.check_killed(
                    point, guest, 'rebuild', guest.uuid, '--undo'
                )
                if self.disks_of(guest)['vda'] != guest.spec.disk.path:
                    self.rebuild(guest, '--undo')
                self.assertEqual(
                    [guest.spec.disk.path], list(self.disks.iterdir())
                )

    def test_delete_old(self) -> None:
        guest, image = self.own_guest(start=False), self.image()
        for point in steps.FORGET:
            with self.subTest(str(point)):
                old = self.disks_of(guest)['vda']
                self.rebuild(guest, image)
                words = 'rebuild', guest.uuid, '--delete-old'
                self.killed_at(point, *words)
                self.run_command('recover')
                self.run_command(*words)
                new = self.disks_of(guest)['vda']
                self.assertNotEqual(old, new)
                self.assertEqual([new], list(self.disks.iterdir()))
                disk_lib.check(new)
                self.assert_nothing_left()

    def check_killed(
        self, point: steps.Point, guest: guest_lib.Guest, *words: str
    ) -> None:
        """Kill, recover, and see that the guest is whole and runs."""
        self.killed_at(point, *words)
        self.run_command('recover')
        path = self.disks_of(guest)['vda']
        self.assert_has(guest, path, 'running')
        expected = {guest.spec.disk.path, path}
        self.assertEqual(expected, set(self.disks.iterdir()))
