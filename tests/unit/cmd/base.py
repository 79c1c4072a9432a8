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


"""The command, on libvirt's test driver.

It runs in the process of the test, as its start takes longer than most of what
is tested; what is about a process, such as a signal, gets one of its own.
That driver is part of libvirt itself: it keeps its domains in the memory of
the process that opens it, and starts, saves and restores them as is asked.
The disks and the images here are real files.
"""

import contextlib
import dataclasses
import io
import logging
import os
import pathlib
import signal
import subprocess
import sys
from typing import Any
from typing import TextIO
import uuid

from nova_snap import conf
from nova_snap.cmd import shell
from nova_snap.image import store_folder
from tests.unit import base

# Their locks are the host's, on which other processes run the same tests.
RUNNING = str(uuid.uuid4())
STOPPED = str(uuid.uuid4())
DISKLESS = str(uuid.uuid4())

#: libvirt's VIR_DOMAIN_RUNNING and VIR_DOMAIN_SHUTOFF.
STATES = {'running': 1, 'stopped': 5}

DOMAIN = """
<domain type='test'
        xmlns:test='http://libvirt.org/schemas/domain/test/1.0'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>8</memory>
  <os><type>hvm</type></os>
  <devices>{disk}</devices>
  <test:runstate>{state}</test:runstate>
</domain>"""

DISK = """
<disk type='file' device='disk'>
  <driver name='qemu' type='{kind}'/>
  <source file='{path}'/>
  <target dev='vda'/>
</disk>"""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a command printed and how it ended."""

    status: int
    output: str
    errors: str


class CommandTestCase(base.TestCase):
    """A host with guests, a configuration, and the command."""

    def setUp(self) -> None:
        super().setUp()
        self.state = self.folder()
        self.content = os.urandom(1 << 20)
        self.disk = self.state / 'disk'
        self.disk.write_bytes(self.content)
        self.options: dict[str, dict[str, Any]] = {
            'DEFAULT': {'state_path': self.state / 'state'},
            'libvirt': {
                'connection_uri': f'test://{self.state}/guests.xml',
                'snapshots_directory': self.state / 'snapshots',
            },
            'snapshot': {'reserved_space_mb': 0},
        }
        self.guests: list[str] = []
        self.add_guest('web', RUNNING, 'running')
        self.add_guest('db', STOPPED, 'stopped')

    def add_guest(
        self, name: str, uuid: str, state: str, kind: str | None = 'raw'
    ) -> None:
        """One more guest on the host; no kind means no disk."""
        disk = DISK.format(kind=kind, path=self.disk) if kind else ''
        self.guests.append(
            DOMAIN.format(name=name, uuid=uuid, disk=disk, state=STATES[state])
        )

    def argv(self, *arguments: object) -> list[str]:
        """Write the files that the command reads; return its arguments."""
        node = f'<node>{"".join(self.guests)}</node>'
        (self.state / 'guests.xml').write_text(node)
        config = self.state / 'nova_snap.conf'
        config.write_text(
            ''.join(
                f'[{group}]\n'
                + ''.join(f'{key} = {value}\n' for key, value in own.items())
                for group, own in self.options.items()
            )
        )
        return ['--config-file', str(config), *map(str, arguments)]

    def command(self, *arguments: object) -> list[str]:
        """Return the command line of a process of its own."""
        command = [sys.executable, '-W', 'ignore', '-m', 'nova_snap.cmd.shell']
        return [*command, *self.argv(*arguments)]

    def start(
        self, *arguments: object, **options: Any
    ) -> 'subprocess.Popen[str]':
        """Start the command in a process of its own."""
        child = subprocess.Popen(
            self.command(*arguments),
            **{
                'stdin': subprocess.DEVNULL,
                'stdout': subprocess.PIPE,
                'stderr': subprocess.PIPE,
                **options,
            },
            text=True,
            cwd=base.REPOSITORY,
            env={**os.environ, 'PYTHONPATH': str(base.REPOSITORY)},
        )
        self.addCleanup(base.end, child)
        return child

    def run_command(
        self,
        *arguments: object,
        terminal: TextIO | None = None,
        **options: Any,
    ) -> Outcome:
        """Run the command to its end.

        :param terminal: standard error, if it shall be one.
        :param options: of a process, which the command then gets.
        """
        if options:
            return self.outcome(self.start(*arguments, **options))
        root = logging.getLogger()
        before = root.level, root.handlers[:]
        output, errors = _stream(), _stream()
        with (
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(terminal or errors),
        ):
            try:
                status = shell.main(self.argv(*arguments))
            except SystemExit as end:  # argparse's
                status = int(end.code or 0)
            finally:
                root.level, root.handlers[:] = before
                conf.CONF.reset()
        return Outcome(status, _text(output), _text(errors))

    def outcome(
        self,
        child: 'subprocess.Popen[str]',
        number: signal.Signals | None = None,
    ) -> Outcome:
        """How a command ended that was started, and maybe gets a signal."""
        if number is not None:
            child.send_signal(number)
        output, errors = child.communicate(timeout=3 * base.PATIENCE)
        return Outcome(child.returncode, output, errors)

    def check_failure(
        self, status: int, text: str, *arguments: object, **options: Any
    ) -> Outcome:
        """Check that a command fails with this status and message."""
        found = self.run_command(*arguments, **options)
        self.assertEqual(status, found.status, found.errors)
        self.assertIn(text, found.errors)
        self.assertNotIn('Traceback', found.errors)
        self.assertEqual('', found.output)
        return found

    def files(self) -> list[str]:
        """Return the names of all images and temporary files."""
        return [
            path.name
            for name in ('state/images', 'state/journal', 'snapshots')
            for path in pathlib.Path(self.state / name).glob('*')
            if path.name != store_folder.MARK
        ]


def _stream() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding='utf-8', write_through=True)


def _text(stream: io.TextIOWrapper) -> str:
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()
