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

"""Run nova-snap as on a slow host, so that a test can act in the middle.

    python -m tests.functional.slowly MIB_PER_SECOND ARGUMENT...

The mirror and qemu-img's conversion are real, and are given the limit that
QEMU has for them.  "qemu-img rebase" has none: it starts REBASE_DELAY late.
"""

from collections.abc import Callable
from collections.abc import Sequence
import sys
from typing import Any

import libvirt

from nova_snap import process

MIB = 1 << 20

#: Seconds.
REBASE_DELAY = 3

#: In place of a program: waits, and is then the program.
_LATE = f"""\
import os, sys, time
time.sleep({REBASE_DELAY})
os.execvp(sys.argv[1], sys.argv[1:])
"""


def slow_mirror(speed: int) -> None:
    """Limit each blockRebase that is begun from now on; MiB per second."""
    original = libvirt.virDomain.blockRebase

    def rebase(
        domain: Any, disk: str, base: str, _bandwidth: int, flags: int
    ) -> Any:
        return original(domain, disk, base, speed, flags)

    libvirt.virDomain.blockRebase = rebase


def slow_programs(speed: int) -> None:
    """Limit what qemu-img writes; MiB per second."""
    original: Callable[..., bytes] = process.run

    def run(argv: Sequence[str], *args: Any, **kwargs: Any) -> bytes:
        if argv[:2] == ['qemu-img', 'convert']:
            argv = [*argv[:2], '-r', str(speed * MIB), *argv[2:]]
        if argv[:2] == ['qemu-img', 'rebase']:
            argv = [sys.executable, '-c', _LATE, *argv]
        return original(argv, *args, **kwargs)

    process.run = run


if __name__ == '__main__':
    from nova_snap.cmd import shell

    slow_mirror(int(sys.argv[1]))
    slow_programs(int(sys.argv[1]))
    sys.exit(shell.main(sys.argv[2:]))
