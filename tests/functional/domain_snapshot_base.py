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
import json
import pathlib
import re
import signal
import subprocess
import time
from typing import Any

import libvirt

from tests.functional import base
from tests.lab import guest as guest_lib
from tests.lab import root_disk
from tests.lab import steps

DISK_ONLY = (
    libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
    | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC
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
