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


"""Which disks --disk and --all-disks take, and what people are told."""

import contextlib
import dataclasses
import json
import pathlib
import re

from tests.functional import base
from tests.functional import content
from tests.lab import event_watch
from tests.lab import guest as guest_lib
from tests.lab import root_disk

INVALID = 2

#: Threads, and connections, of one more disk: the root disk is open while two
#: others are read.
ONE_MORE = 4

#: Fields of /proc/PID/status.
STATUS = re.compile(r'^(Threads|VmHWM):\s+(\d+)', re.MULTILINE)

DRIVES = """<disk type='file' device='cdrom'>
  <target dev='hda' bus='ide'/><readonly/>
</disk>
<disk type='file' device='cdrom'>
  <driver name='qemu' type='raw'/><source file='{medium}'/>
  <target dev='hdb' bus='ide'/><readonly/>
</disk>
<disk type='file' device='floppy'><target dev='fda' bus='fdc'/></disk>
<disk type='file' device='disk'>
  <driver name='qemu' type='raw'/><source file='{file}'/>
  <target dev='vdx' bus='virtio'/><readonly/>
</disk>"""

ODD = """<disk type='file' device='disk'>
  <driver name='qemu' type='raw'/><source file='/srv/shared'/>
  <target dev='vdp' bus='virtio'/><shareable/>
</disk>
<disk type='network' device='disk'>
  <driver name='qemu' type='raw'/>
  <source protocol='nbd' name='export'><host name='localhost'/></source>
  <target dev='vdq' bus='virtio'/>
</disk>
<disk type='block' device='lun'>
  <driver name='qemu' type='raw'/><source dev='/dev/sdz'/>
  <target dev='vdr' bus='virtio'/>
</disk>"""


VOLUME_ID = '8d1f6a5e-5c0b-4f0b-9b4e-6c1d3f0a7e21'

#: A volume as Nova attaches it.
VOLUME = f"""<disk type='network' device='disk'>
  <driver name='qemu' type='raw'/>
  <source protocol='rbd' name='volumes/volume-{VOLUME_ID}'>
    <host name='127.0.0.1' port='6789'/></source>
  <target dev='vdv' bus='virtio'/><serial>{VOLUME_ID}</serial>
</disk>"""


def small_disk(path: pathlib.Path) -> root_disk.RootDisk:
    """Make a raw disk of 1 MiB with nothing on it."""
    with open(path, 'wb') as file:
        file.truncate(root_disk.MIB)
    return root_disk.RootDisk(root_disk.Kind.RAW, path, 'raw')


class DiskChoiceTestCase(content.ContentTestCase):
    """A test of guests with several disks."""

    def small_disks(self, count: int) -> tuple[root_disk.RootDisk, ...]:
        folder = self.directory()
        return tuple(small_disk(folder / f'{n}.raw') for n in range(count))

    def assert_refused(self, says: str, *arguments: str) -> None:
        """Check that nothing is begun, and that explain says the same."""
        server, *disks = arguments
        for words in (
            ('explain', server, *disks),
            ('image-create', server, 'image', *disks),
        ):
            done = self.run_command(*words, status=INVALID)
            self.assertRegex(done.stderr, says)
        self.assert_nothing_left()

    def explain(
        self, guest: guest_lib.Guest, *arguments: str
    ) -> dict[str, dict[str, str]]:
        """Return the rows of explain by fact."""
        done = self.run_command(
            'explain', guest.uuid, '-f', 'json', *arguments
        )
        return {row['Fact']: row for row in json.loads(done.stdout)}


class TestRunning(DiskChoiceTestCase):
    """A running guest with drives, and an iothread for its last disk."""

    def test_what_becomes_of_each_disk(self) -> None:
        medium, read_only = self.small_disks(2)
        guest = self.make_guest(
            extra_disks=self.small_disks(2),
            extra_iothread=True,
            devices_xml=DRIVES.format(medium=medium.path, file=read_only.path),
        )
        found = base.Found.of(guest)
        self.configure(**content.PULL)
        self.check_every_disk(guest)
        self.check_named_disks(guest)
        for device, says in (
            ('vdz', 'it has no disk vdz; it has vda, vdc, vdd, vdx'),
            ('hda', 'hda is a drive for removable media .cdrom.'),
            ('fda', 'fda is a drive for removable media .floppy.'),
        ):
            self.assert_refused(
                says, guest.uuid, '--disk', 'vda', '--disk', device
            )
        self.assert_as_found(guest, found)

    def check_every_disk(self, guest: guest_lib.Guest) -> None:
        """Pull would end the guest on Debian 12; see policy.py."""
        rows = self.explain(guest, '--all-disks')
        self.assertEqual('vda', rows['root disk']['Value'])
        for device, reason in (
            ('hda', 'cdrom'),
            ('hdb', 'cdrom'),  # with a medium
            ('fda', 'floppy'),
            ('vdx', 'read-only'),
        ):
            row = rows[f'disk {device}']
            self.assertEqual('left out', row['Value'])
            self.assertEqual('mirror pull', row['Live Methods'])
            self.assertIn(reason, row['Meaning'])
        self.assertIn('same moment', rows['disk vdc']['Meaning'])
        last = rows['disk vdd']
        way = 'pull' if 'same moment' in last['Meaning'] else 'cold'
        if way == 'cold':
            self.assertIn('iothread', last['Meaning'])
            self.assertNotIn('pull', last['Live Methods'])
        images = self.take_all(guest, way)
        self.assertEqual(['vda', 'vdc', 'vdd'], list(images))

    def check_named_disks(self, guest: guest_lib.Guest) -> None:
        """Without the disk that has an iothread, the guest goes on."""
        named = ('--disk', 'vda', '--disk', 'vdc', '--disk', 'vda')
        rows = self.explain(guest, *named)
        self.assertEqual('live', rows['decision']['Value'])
        self.assertIn('same moment', rows['disk vdc']['Meaning'])
        self.assertIn('does not name it', rows['disk vdd']['Meaning'])
        done = self.run_command(
            *('image-create', guest.uuid, 'image', '-f', 'json', *named)
        )
        self.assertIn(content.SAYS['pull'], done.stderr)
        self.assertEqual(
            ['vdc'], list(json.loads(done.stdout)['further_images'])
        )


class TestStopped(DiskChoiceTestCase):
    """Guests that need not run: disks of which no image can be made."""

    def test_disks_that_can_not_be_read(self) -> None:
        guest = self.make_guest(
            extra_disks=self.small_disks(1), devices_xml=ODD, start=False
        )
        for says in (
            r'vdp \(<shareable/>\), so it cannot be read as of one moment',
            'vdq cannot be read: .*nbd',
            'vdr is a LUN',
            r'name them: --disk vda --disk vdc\.',
        ):
            self.assert_refused(says, guest.uuid, '--all-disks')
        self.run_command(
            *('image-create', guest.uuid, 'image'),
            *('--disk', 'vda', '--disk', 'vdc'),
        )
        self.assertEqual(2, len(list(self.images.list())))
        self.assert_nothing_left()

    def test_volume_without_cinder(self) -> None:
        """Nobody is asked for the volume, neither Ceph nor Cinder."""
        guest = self.make_guest(devices_xml=VOLUME, start=False)
        for disks in ('--all-disks',), ('--disk', 'vda', '--disk', 'vdv'):
            self.assert_refused(
                rf'vdv .volume {VOLUME_ID}., and there is no \[cinder\]',
                guest.uuid,
                *disks,
            )

    def test_two_disks_of_one_file(self) -> None:
        (disk,) = self.small_disks(1)
        guest = self.make_guest(extra_disks=(disk, disk), start=False)
        self.assert_refused(
            f'disks vdc and vdd are the same: {disk.path}. .*--disk vda',
            guest.uuid,
            '--all-disks',
        )

    def test_file_of_a_further_disk_that_is_gone(self) -> None:
        """Looked for before a guest is suspended, which could not start."""
        guest = self.make_guest(extra_disks=self.small_disks(2), wait=False)
        found = base.Found.of(guest)
        guest.spec.extra_disks[1].path.unlink()
        self.configure(**content.COLD)
        with event_watch.EventWatch(self.libvirtd, guest) as watch:
            for disks in ('--all-disks',), ('--disk', 'vda', '--disk', 'vdc'):
                self.assert_refused(
                    'not be started again: .* disk vdd .* does not exist',
                    guest.uuid,
                    *disks,
                )
        self.assertEqual([], watch.events)
        self.assertEqual(found, base.Found.of(guest))


class TestTwentyDisks(DiskChoiceTestCase):
    """As many disks as a guest may have take no more than two at a time."""

    def test_bounds(self) -> None:
        # Whether it writes does not matter, nor whether it has booted.
        guest = self.make_guest(extra_disks=self.small_disks(20), wait=False)
        guest.suspend()
        self.configure(**content.PULL)
        few = self.watch(guest, '--disk', 'vda', '--disk', 'vdc')
        many = self.watch(guest, '--all-disks')
        self.assertEqual(2 + 21, len(list(self.images.list())))
        self.assertLessEqual(many.sockets, few.sockets + ONE_MORE)
        self.assertLessEqual(many.threads, few.threads + ONE_MORE)
        self.assertLess(many.memory_kib, 1.5 * few.memory_kib)
        self.assert_nothing_left()

    def watch(self, guest: guest_lib.Guest, *disks: str) -> 'Peak':
        """Take images, and return the most that it took at a time."""
        found = base.Found.of(guest)
        process = self.start('image-create', guest.uuid, 'image', *disks)
        peak = Peak()
        while process.poll() is None:
            peak.add(process.pid)
        done = self.finish(process)
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertIn(content.SAYS['pull'], done.stderr)
        self.assert_as_found(guest, found)
        self.addDetailUniqueName('peak', base.text(repr(peak)))
        return peak


@dataclasses.dataclass
class Peak:
    """The most that a process took at any time."""

    threads: int = 0
    memory_kib: int = 0
    sockets: int = 0

    def add(self, pid: int) -> None:
        """Look at a process."""
        proc = pathlib.Path(f'/proc/{pid}')
        with contextlib.suppress(OSError):
            status = (proc / 'status').read_text()
            for name, number in STATUS.findall(status):
                field = {'Threads': 'threads', 'VmHWM': 'memory_kib'}[name]
                value = max(getattr(self, field), int(number))
                setattr(self, field, value)
        self.sockets = max(self.sockets, _open_sockets(proc))


def _open_sockets(proc: pathlib.Path) -> int:
    """Count the sockets of a process by its folder in /proc."""
    found = 0
    # A file may be closed, and the process may end, meanwhile.
    with contextlib.suppress(OSError):
        for link in (proc / 'fd').iterdir():
            with contextlib.suppress(FileNotFoundError):
                found += link.readlink().name.startswith('socket:')
    return found
