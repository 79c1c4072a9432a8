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

"""The base of the functional tests: the command, and what it must keep.

Each test runs ``nova-snap`` in a process of its own, as a user does, against
a real libvirt and real guests; see ``tests/lab``.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any

from testtools import content

from nova_snap.image import filesystem
from tests.lab import base as lab_base
from tests.lab import guest as guest_lib
from tests.lab import steps

#: Seconds that any command of these tests may take.
TIMEOUT = 300


@dataclasses.dataclass(frozen=True)
class Found:
    """What of a guest has to be after a snapshot as it was before."""

    state: str
    is_persistent: bool
    definition: str
    autostart: bool
    devices: tuple[str, ...]
    block_jobs: tuple[str, ...]
    has_managed_save: bool

    @classmethod
    def of(cls, guest: guest_lib.Guest) -> 'Found':
        """Return the current state of a guest."""
        with guest.domain() as domain:
            autostart = bool(domain.autostart())
        return cls(
            state=guest.state(),
            is_persistent=guest.is_persistent(),
            definition=guest.inactive_xml(),
            autostart=autostart,
            devices=tuple(sorted(_devices(guest.xml()))),
            block_jobs=tuple(guest.block_jobs()),
            has_managed_save=guest.has_managed_save(),
        )


def _devices(xml: str) -> list[str]:
    # Neither the aliases, of which a restarted libvirtd forgets some, nor
    # whether the agent has opened its channel again yet.
    marks = ('<address type=', '<target ', '<source file=')
    return [
        line.partition(' state=')[0].partition(' index=')[0]
        for line in xml.splitlines()
        if any(mark in line for mark in marks)
    ]


class SnapshotTestCase(lab_base.LabTestCase):
    """A test that takes snapshots with the command."""

    #: Lines of the configuration, by section, besides those of the lab.
    OPTIONS: dict[str, dict[str, str]] = {}

    def setUp(self) -> None:
        super().setUp()
        self.state_path = self.directory()
        self.snapshots = self.state_path / 'snapshots'
        self.config = self.state_path / 'nova_snap.conf'
        self.configure()

    def configure(self, **sections: dict[str, str]) -> None:
        """Write the configuration; what is given overrides OPTIONS."""
        merged: dict[str, dict[str, str]] = {
            'DEFAULT': {'state_path': str(self.state_path)},
            'libvirt': {
                'connection_uri': self.libvirtd.uri,
                'snapshots_directory': str(self.snapshots),
            },
            # Most tests are about the pipeline with the most steps; what is
            # about another one, or about the default, says so.
            'snapshot': {'reserved_space_mb': '0', 'live_method': 'mirror'},
        }
        for part in (self.OPTIONS, sections):
            for section, options in part.items():
                merged.setdefault(section, {}).update(options)
        lines = []
        for section, options in merged.items():
            lines.append(f'[{section}]')
            lines += [f'{key} = {value}' for key, value in options.items()]
        self.config.write_text('\n'.join(lines) + '\n')

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of nova-snap with this configuration."""
        module = [sys.executable, '-m', 'nova_snap.cmd.shell']
        return [*module, '--config-file', str(self.config), '-v', *arguments]

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start nova-snap and return; it is killed when the test ends."""
        return self.start_process(self.command(*arguments), **options)

    def start_process(
        self, argv: list[str], **options: Any
    ) -> subprocess.Popen[str]:
        """Start a command line of nova-snap, as :meth:`start` does."""
        process = subprocess.Popen(
            argv,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def held_command(
        self, point: steps.Point, *arguments: str
    ) -> tuple[subprocess.Popen[str], pathlib.Path]:
        """Start nova-snap, and return when it waits at a point.

        It goes on when there is a file "go" in the folder that is returned.
        """
        folder = self.directory()
        argv = self.command(*arguments)
        shell = argv.index('nova_snap.cmd.shell')
        argv[shell : shell + 1] = [
            *('tests.functional.hold_at', str(folder)),
            *(point.moment, point.function),
        ]
        process = self.start_process(argv)
        deadline = time.monotonic() + TIMEOUT
        while not (folder / 'held').exists():
            if process.poll() is not None or time.monotonic() > deadline:
                self.fail(f'It did not come there: {self.finish(process)}')
            time.sleep(0.01)
        return process, folder

    def killed_at(self, point: steps.Point, *arguments: str) -> None:
        """Run nova-snap until it kills itself at a point."""
        argv = self.command(*arguments)
        shell = argv.index('nova_snap.cmd.shell')
        argv[shell : shell + 1] = [
            *('tests.functional.die_at', point.moment, point.function)
        ]
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=TIMEOUT
        )
        self.assertEqual(-signal.SIGKILL, done.returncode, done.stderr)

    def finish(
        self, process: subprocess.Popen[str]
    ) -> subprocess.CompletedProcess[str]:
        """Wait for a started nova-snap; its output is a detail of the test."""
        try:
            out, err = process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            said = ''.join(process.communicate())
            self.addDetailUniqueName('what it said until then', text(said))
            raise
        done = subprocess.CompletedProcess(
            process.args, process.returncode, out, err
        )
        # The name of a detail is one line in the stream of results.
        name = ascii(process.args[-4:])  # type: ignore[index]
        self.addDetailUniqueName(name, text(out + err))
        return done

    def run_command(
        self, *arguments: str, status: int | None = 0
    ) -> subprocess.CompletedProcess[str]:
        """Run nova-snap and check its exit status (None: any)."""
        done = self.finish(self.start(*arguments))
        if status is not None:
            self.assertEqual(status, done.returncode, done.stderr)
        return done

    def image_create(self, guest: guest_lib.Guest, name: str = 'image') -> str:
        """Take a snapshot that has to succeed; returns the image's id."""
        done = self.run_command('image-create', guest.uuid, name, '-f', 'json')
        image_id: str = json.loads(done.stdout)['id']
        return image_id

    # The embedded image service

    @property
    def images(self) -> filesystem.FilesystemImageService:
        """The images of the default image service."""
        return filesystem.FilesystemImageService(self.state_path / 'images')

    def image_file(self, image_id: str) -> pathlib.Path:
        """Return the data file of an image of the default image service."""
        return self.state_path / 'images' / image_id

    # What has to hold

    def assert_as_found(self, guest: guest_lib.Guest, found: Found) -> None:
        """Check that the guest is as it was found, and still runs."""
        now = Found.of(guest)
        for field in dataclasses.fields(Found):
            self.assertEqual(
                getattr(found, field.name),
                getattr(now, field.name),
                field.name,
            )
        if found.state == 'running':
            self.assertTrue(guest.is_ticking(), guest.console()[-500:])

    def assert_nothing_left(self) -> None:
        """No temporary file, no journal entry, no unfinished image."""
        for folder in (self.snapshots, self.state_path / 'journal'):
            left = list(folder.iterdir()) if folder.exists() else []
            for path in left:
                if path.suffix == '.json':  # the steps of a journal entry
                    self.addDetailUniqueName(path.name, text(path.read_text()))
            self.assertEqual([], left)
        with contextlib.suppress(FileNotFoundError):
            for image in self.images.list():
                self.assertEqual('active', image.status, image)
        self.assertEqual([], programs(self.state_path))


def programs(folder: pathlib.Path) -> list[str]:
    """Return command lines of qemu-img processes that work in a folder.

    :param folder: one that is ours alone; others run qemu-img on disks.
    """
    return list(_programs(folder).values())


def program_pids(folder: pathlib.Path) -> list[int]:
    """Return the process ids of the same."""
    return list(_programs(folder))


def _programs(folder: pathlib.Path) -> dict[int, str]:
    found = {}
    for directory in pathlib.Path('/proc').glob('[0-9]*'):
        with contextlib.suppress(OSError):
            line = (directory / 'cmdline').read_bytes().decode()
            if line.startswith('qemu-img') and str(folder) in line:
                found[int(directory.name)] = line.replace('\0', ' ')
    return found


def text(words: str) -> content.Content:
    """Return a detail of a test."""
    return content.text_content(words)


def environment(**changes: str) -> dict[str, str]:
    """Our environment with changes."""
    return {**os.environ, **changes}
