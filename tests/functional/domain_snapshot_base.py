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

"""The base of tests of domain snapshots: what virsh says, and the files."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import html
import json
import pathlib
import re
import signal
import subprocess
import time
from typing import Any

import libvirt

from tests.functional import base
from tests.lab import command as command_lib
from tests.lab import disk as disk_lib
from tests.lab import guest as guest_lib
from tests.lab import root_disk
from tests.lab import steps

DISK_ONLY = (
    libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
    | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC
)

#: Exit status of what is refused.
CONFLICT = 4

MIB = root_disk.MIB

#: Bytes of the section of the disk that each number has.
SECTION = MIB


def top_file(xml: str) -> str:
    """Return the file of the root disk of a definition."""
    path, *_layers = re.findall(r"<source file='(.*?)'", xml)
    return html.unescape(path)


def cdrom(iso: pathlib.Path) -> str:
    """Return the XML of a drive with a disc."""
    return (
        f"<disk type='file' device='cdrom'><source file='{iso}'/>"
        "<target dev='sdc' bus='sata'/><readonly/></disk>"
    )


class DomainSnapshotTestCase(base.SnapshotTestCase):
    """Guests whose new files are in a folder of their own."""

    def guest(self, **options: Any) -> guest_lib.Guest:
        """Make a guest with its disks in a folder of the test."""
        options.setdefault('kind', root_disk.Kind.QCOW2)
        disk = root_disk.make(
            self.directory(), options.pop('kind'), name='root'
        )
        return self.make_guest(disk=disk, **options)

    def folder_of(self, guest: guest_lib.Guest) -> pathlib.Path:
        """Return the folder of the root disk."""
        return guest.spec.disk.path.parent

    def take(self, guest: guest_lib.Guest, name: str, *options: str) -> None:
        """Take a domain snapshot as virsh does, of the disks by default.

        :param options: "--system" is of the memory, too; others are virsh's.
        """
        if '--system' in options:
            memory = self.folder_of(guest) / f'root.{name}.memory'
            options = (
                *(option for option in options if option != '--system'),
                *('--memspec', f'file={memory}'),
            )
        elif '--internal' in options:
            options = ()
        else:
            options = '--disk-only', *options
        self.virsh('snapshot-create-as', guest.uuid, name, *options)

    def disk(self, guest: guest_lib.Guest) -> pathlib.Path:
        """Return the file that the guest starts with."""
        return pathlib.Path(top_file(guest.inactive_xml()))

    def guest_that_cannot_go_back(self, name: str) -> guest_lib.Guest:
        """Return a guest that runs, with a domain snapshot that can't start.

        It had a disc in its drive then, whose file is gone.
        """
        iso = self.directory() / 'cd.iso'
        iso.write_bytes(bytes(MIB))
        guest = self.guest(start=False, devices_xml=cdrom(iso))
        self.take(guest, name)
        xml = guest.inactive_xml().replace(f"<source file='{iso}'/>", '')
        with self.libvirtd.connection() as connection:
            connection.defineXML(xml).create()
        guest.wait_until_up()
        iso.unlink()
        return guest

    def assert_ends_whole(self, guest: guest_lib.Guest) -> None:
        """Check the disk of a guest that ends, against what it said."""
        guest.suspend()
        ticks = guest.ticks()
        guest.destroy()
        path = self.disk(guest)
        self.assertEqual('', disk_lib.check(path))
        self.assertIn(ticks, disk_lib.ring_numbers(path, 'qcow2'))
        with guest.domain() as dom:
            dom.create()
        guest.wait_until_up()

    def frozen(self, guest: guest_lib.Guest, name: str) -> pathlib.Path:
        """Return the file that has the disk of a domain snapshot."""
        xml = self.virsh('snapshot-dumpxml', guest.uuid, name)
        return pathlib.Path(top_file(xml[xml.index('<domain ') :]))

    def files(self, guest: guest_lib.Guest) -> list[str]:
        """Return the names of what is in that folder."""
        return sorted(path.name for path in self.folder_of(guest).iterdir())

    # Commands that die or wait at a step

    def at(
        self, module: str, point: steps.Point, *arguments: str
    ) -> list[str]:
        """Return the command line of one that does something at a point."""
        command = self.command(*arguments)
        shell = command.index('nova_snap.cmd.shell')
        command[shell : shell + 1] = [
            *(f'tests.functional.{module}', point.moment, point.function)
        ]
        return command

    def kill_at(self, point: steps.Point, *arguments: str) -> None:
        """Let a command die at a point; it has to have come that far."""
        done = self.finish(
            self.start_process(self.at('die_at', point, *arguments))
        )
        self.assertEqual(-signal.SIGKILL, done.returncode, done.stderr)

    @contextlib.contextmanager
    def held_at(
        self, point: steps.Point, *arguments: str
    ) -> Iterator[subprocess.Popen[str]]:
        """Begin a command that waits at a point for the end of the block."""
        folder = self.directory()
        command = self.at('hold_at', point, *arguments)
        command.insert(command.index(point.moment), str(folder))
        process = self.start_process(command)
        self.wait_until(process, (folder / 'held').exists)
        yield process
        (folder / 'go').touch()

    def wait_until(
        self, process: subprocess.Popen[str], condition: Callable[[], object]
    ) -> None:
        """Wait for something that comes while a command runs."""
        deadline = time.monotonic() + base.TIMEOUT
        while not condition():
            if process.poll() is not None:
                self.fail(f'It has ended: {self.finish(process).stderr}')
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)

    # What libvirt says, and what we say

    def virsh(self, *arguments: str) -> str:
        """Return what virsh says."""
        return subprocess.run(
            ['virsh', '-q', '-c', self.libvirtd.uri, *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=base.TIMEOUT,
        ).stdout

    def virsh_tree(self, guest: guest_lib.Guest) -> list[tuple[int, str]]:
        """Return depth and name of each domain snapshot, as virsh draws it."""
        found = []
        drawn = self.virsh('snapshot-list', '--tree', guest.uuid)
        for line in drawn.splitlines():
            name = re.search(r'[\w.-]*\w', line.replace('+-', '  '))
            if name is not None:
                found.append((name.start(), name.group()))
        return found

    def listed(self, guest: guest_lib.Guest) -> dict[str, dict[str, Any]]:
        """Return the rows of snapshot-list by their names."""
        done = self.run_command('snapshot-list', guest.uuid, '-f', 'json')
        return {row['Name']: row for row in json.loads(done.stdout)}

    def our_tree(self, guest: guest_lib.Guest) -> list[tuple[int, str]]:
        """Return depth and name of each, as snapshot-list draws it."""
        found = []
        done = self.run_command('snapshot-list', '--tree', guest.uuid)
        for line in done.stdout.splitlines():
            cell = line[2:].split(' | ')[0] if line.startswith('| ') else ''
            name = re.search(r'\+- (\S+)', cell)
            if name is not None:
                found.append((name.start(1) - 3, name.group(1)))
        return found

    def assert_same_tree(self, guest: guest_lib.Guest) -> None:
        """Check parents, order and the current one against virsh."""
        theirs = self.virsh_tree(guest)
        names = [name for _depth, name in theirs]
        rows = self.listed(guest)
        self.assertEqual(sorted(names), sorted(rows))
        for name in names:
            parent = self.virsh(
                'snapshot-info', guest.uuid, '--snapshotname', name
            )
            fields = dict(
                line.split(':', 1) for line in parent.splitlines() if line
            )
            told = fields['Parent'].strip()
            self.assertEqual('' if told == '-' else told, rows[name]['Parent'])
            self.assertEqual(
                fields['Current'].strip() == 'yes', rows[name]['Current']
            )
            self.assertEqual(fields['State'].strip(), rows[name]['State'])

    def shown(self, guest: guest_lib.Guest, name: str) -> dict[str, Any]:
        """Return what snapshot-show says of a domain snapshot."""
        done = self.run_command(
            'snapshot-show', guest.uuid, name, '-f', 'json'
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found


class ContentTestCase(DomainSnapshotTestCase):
    """Each file holds what one step has written, so it is known what is lost.

    The disk of a guest that does not run begins with an empty file; before the
    first domain snapshot, and after each, a byte of its own is written to a
    section of its own.
    """

    #: The command that is refused.
    COMMAND = ''

    def setUp(self) -> None:
        super().setUp()
        self.content = self.directory() / 'content'

    def stopped(
        self, kind: str = 'qcow2', folder: pathlib.Path | None = None
    ) -> guest_lib.Guest:
        """Return a guest that does not run, with a small disk."""
        folder = folder or self.directory()
        path = folder / f'root.{kind}'
        command_lib.run('qemu-img', 'create', '-q', '-f', kind, path, '16M')
        disk = root_disk.RootDisk(root_disk.Kind.QCOW2, path, kind)
        guest = self.make_guest(disk=disk, start=False)
        self.write(guest, 1)
        return guest

    def take_on_device(
        self, guest: guest_lib.Guest, name: str
    ) -> pathlib.Path:
        """Take one with an overlay on a block device, by a link as of LVM."""
        file = self.directory() / 'device'
        command_lib.run('truncate', '-s', '32M', file)
        done = command_lib.run('losetup', '--find', '--show', file)
        device = file.with_name('volume')
        device.symlink_to(done.stdout.strip())
        self.addCleanup(
            command_lib.run, 'losetup', '--detach', done.stdout.strip()
        )
        command_lib.run(
            *('qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'qcow2'),
            *('-b', self.disk(guest), device, '16M'),
        )
        self.take(
            *(guest, name, '--reuse-external', '--diskspec'),
            f'vda,snapshot=external,stype=block,file={device}',
        )
        return device

    def write(
        self, guest: guest_lib.Guest, number: int, section: int | None = None
    ) -> None:
        """Write a number to a section, by default its own."""
        path = self.disk(guest)
        place = (number if section is None else section) * SECTION
        command_lib.run(
            *('qemu-io', '-f', self.format_of(path), '-c'),
            f'write -P {number} {place} {SECTION}',
            path,
        )

    def format_of(self, path: pathlib.Path) -> str:
        return 'raw' if path.suffix == '.raw' else 'qcow2'

    def numbers(self, path: pathlib.Path) -> set[int]:
        """Return the numbers that are read through a file."""
        found = self.sections(path)
        self.assertEqual({n: n for n in found}, found, path)
        return set(found)

    def sections(
        self, path: pathlib.Path, internal: str | None = None
    ) -> dict[int, int]:
        """Return the byte that each section has, but for those of zeros.

        The file is checked, too.

        :param internal: of this internal snapshot.
        """
        options = [f'-lsnapshot.name={internal}'] if internal else []
        form = self.format_of(path)
        if form == 'qcow2':
            self.assertEqual('', disk_lib.check(path), path)
        raw = self.content
        command_lib.run(
            *('qemu-img', 'convert', '-U', '-f', form, '-O', 'raw'),
            *(*options, path, raw),
        )
        content = raw.read_bytes()
        raw.unlink()
        found = {}
        for number in range(len(content) // SECTION):
            section = content[number * SECTION : (number + 1) * SECTION]
            if section.count(section[0]) != SECTION:
                self.fail(f'Section {number} of {path} is mixed.')
            if section[0]:
                found[number] = section[0]
        return found

    def chain(self, guest: guest_lib.Guest, *names: str) -> None:
        """Take several, and write 2, 3, and so on after each."""
        for number, name in enumerate(names, start=2):
            self.take(guest, name)
            self.write(guest, number)

    def assert_content(
        self, guest: guest_lib.Guest, now: int, **snapshots: int
    ) -> None:
        """Check the numbers up to which everything was written.

        :param now: of the disk that the guest starts with.
        :param snapshots: of the domain snapshots.
        """
        self.assertEqual(
            set(snapshots), {name for _depth, name in self.virsh_tree(guest)}
        )
        for name, last in snapshots.items():
            self.assertEqual(
                set(range(1, last + 1)),
                self.numbers(self.frozen(guest, name)),
                name,
            )
        self.assertEqual(
            set(range(1, now + 1)), self.numbers(self.disk(guest))
        )
        self.assert_nothing_left()

    def assert_refused(
        self, guest: guest_lib.Guest, reason: str, *arguments: str
    ) -> None:
        """Check that it is refused, and nothing was touched."""
        found, files = base.Found.of(guest), self.files(guest)
        tree = self.virsh_tree(guest)
        done = self.run_command(
            self.COMMAND, guest.uuid, *arguments, status=CONFLICT
        )
        self.assertIn(reason, done.stderr)
        self.assertEqual(found, base.Found.of(guest))
        self.assertEqual(files, self.files(guest))
        self.assertEqual(tree, self.virsh_tree(guest))
        self.assert_nothing_left()
