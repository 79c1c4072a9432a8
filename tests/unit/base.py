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


"""What unit tests share: folders, a full disk, child processes, the log.

Open this file when a test needs something real that has to go away again.
"""

from collections.abc import Callable
import logging
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any
import uuid

import fixtures
import hypothesis
import testtools

from nova_snap import concurrency
from tests.lab import exhaustive

REPOSITORY = pathlib.Path(__file__).parents[2]

#: Seconds after which a test that still waits has failed: only what hangs
#: takes so long, also where ten other processes run.
PATIENCE = 60

#: A server.  Its lock is the host's, where others run the same tests.
SERVER = str(uuid.uuid4())

#: Examples of a property.
EXAMPLES = len(exhaustive.choose(range(100), usual=range(25)))

# A busy machine is no failure, and a failure comes back in the next run.
hypothesis.settings.register_profile(
    'nova_snap',
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
)
hypothesis.settings.load_profile('nova_snap')


class TestCase(testtools.TestCase):
    """A test with a log of its own in ``self.log.output``."""

    def setUp(self) -> None:
        super().setUp()
        self.log = self.useFixture(fixtures.FakeLogger(level=logging.INFO))

    def folder(self) -> pathlib.Path:
        """Make a folder that is removed after the test."""
        return pathlib.Path(self.useFixture(fixtures.TempDir()).path)

    def small_disk(self, size: int) -> pathlib.Path:
        """Mount a file system of ``size`` bytes; skip the test without root.

        Root of a user namespace will do, in a mount namespace of its own.
        """
        if os.geteuid() != 0:
            self.skipTest('Only root can mount a file system here.')
        folder = tempfile.mkdtemp(prefix='nova-snap-small-')
        options = ['-t', 'tmpfs', '-o', f'size={size}', 'none', folder]
        subprocess.run(['mount', *options], check=True)
        self.addCleanup(os.rmdir, folder)
        self.addCleanup(subprocess.run, ['umount', '-l', folder], check=True)
        return pathlib.Path(folder)

    def python(
        self, code: str, *arguments: object, backend: str | None = None
    ) -> 'subprocess.Popen[str]':
        """Start a Python process that runs ``code`` in this repository."""
        environment = {**os.environ, 'PYTHONPATH': str(REPOSITORY)}
        if backend is not None:
            environment[concurrency.BACKEND_VARIABLE] = backend
        child = subprocess.Popen(
            [sys.executable, '-c', code, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            env=environment,
        )
        self.addCleanup(end, child)
        return child

    def wait_for_line(self, child: 'subprocess.Popen[str]') -> str:
        """Return the next line that a child prints."""
        line = child.stdout.readline().strip() if child.stdout else ''
        if not line and child.stderr and child.poll() is not None:
            self.fail(child.stderr.read())
        return line

    def wait_until(self, what: str, is_so: Callable[[], object]) -> None:
        """Wait until something is so; fail if it never comes true."""
        deadline = time.monotonic() + PATIENCE
        while not is_so():
            if time.monotonic() > deadline:
                self.fail(f'It did not come true that {what}.')
            time.sleep(0.02)


class Attempt:
    """A call in a thread of its own; ``error`` is what it raised."""

    def __init__(self, function: Callable[[], object]) -> None:
        self.result: Any = None
        self.error: Exception | None = None
        self._function = function
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._function()
        except Exception as error:
            self.error = error

    @property
    def has_ended(self) -> bool:
        """Whether the call has returned or raised."""
        return not self._thread.is_alive()

    def wait(self) -> 'Attempt':
        """Wait for the end of the call."""
        self._thread.join(PATIENCE)
        if not self.has_ended:
            raise AssertionError('The call did not end.')
        return self


def is_running(pid: int) -> bool:
    """Whether a process lives; one that only waits to be reaped does not."""
    try:
        stat = pathlib.Path(f'/proc/{pid}/stat').read_text()
    except OSError:
        return False
    return stat.rpartition(')')[2].split()[0] != 'Z'


def end(child: 'subprocess.Popen[str]') -> None:
    """End a process, whatever it does, and what it was connected to."""
    if child.poll() is None:
        child.kill()
    child.communicate()
