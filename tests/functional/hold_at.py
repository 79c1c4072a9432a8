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

"""Run nova-snap in a process that waits at a given step.

    python -m tests.functional.hold_at FOLDER before MODULE:NAME ARGUMENT...

The moments and steps are those of ``die_at``.  The process makes the file
"held" in FOLDER when it comes there for the first time, and goes on when there
is a file "go".
"""

import pathlib
import sys
import time

from tests.functional import die_at


class Hold:
    """Wait, once, until somebody says go."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self._is_over = False

    def __call__(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        (self._folder / 'held').touch()
        while not (self._folder / 'go').exists():
            time.sleep(0.05)


if __name__ == '__main__':
    die_at.wrap(sys.argv[2], sys.argv[3], Hold(pathlib.Path(sys.argv[1])))
    from nova_snap.cmd import shell

    sys.exit(shell.main(sys.argv[4:]))
