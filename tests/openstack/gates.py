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

"""Stops a snapshot inside nova-compute at a step: to wait there, or to die.

The product has no hooks for that.  ``inject/sitecustomize.py``, which stands
on nova-compute's PYTHONPATH in these tests only, wraps the functions of
``tests/lab/steps.py`` when their modules are imported; each then looks into a
folder for what it is told::

    upload.before.hold   wait before the step as long as the file is there
    upload.after.die     end with SIGKILL right after it
    upload.before.seen   made by it: that point has been reached
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import json
import pathlib
import time

from tests.lab import steps

#: Leads nova-compute to the folder.
VARIABLE = 'NOVA_SNAP_TEST_GATES'

TIMEOUT = 120.0


class Gates:
    """The test's side: tells nova-compute where to stop.

    :param folder: that both sides know; exists.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        (folder / 'steps.json').write_text(json.dumps(steps.FUNCTIONS))

    def clear(self) -> None:
        """Open all, and forget what was seen."""
        for file in self.folder.glob('*.*.*'):
            file.unlink(missing_ok=True)

    def die(self, step: str, moment: str) -> None:
        """Let nova-compute die at a step, ``before`` or ``after``."""
        (self.folder / f'{step}.{moment}.die').touch()

    @contextlib.contextmanager
    def held(
        self, step: str, moment: str = 'before'
    ) -> Iterator[Callable[[], None]]:
        """Hold every snapshot that comes to a step while the block runs.

        What it yields waits until one has come there.
        """
        file = self.folder / f'{step}.{moment}.hold'
        seen = file.with_suffix('.seen')
        seen.unlink(missing_ok=True)
        file.touch()
        try:
            yield lambda: _wait_for(seen)
        finally:
            file.unlink(missing_ok=True)


def _wait_for(file: pathlib.Path) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not file.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f'{file.stem} was not reached')
        time.sleep(0.05)
