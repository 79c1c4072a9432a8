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

"""Finding the programs of this host that have a file open.

By what Linux shows of each process below ``/proc``; as root, that is all of
them.
"""

from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
import os
import pathlib
import stat

PROCESSES = pathlib.Path('/proc')

#: Identity of a file, whatever it is called: the numbers of its file system
#: and of the file, or that of a device.
Identity = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Opener:
    """A program that has a file open; ``arguments`` is its command line."""

    pid: int
    arguments: tuple[str, ...]
    writes: bool

    @property
    def guest_uuid(self) -> str | None:
        """The uuid of the guest whose QEMU the program is, if it is one."""
        if '-uuid' not in self.arguments[:-1]:
            return None
        return self.arguments[self.arguments.index('-uuid') + 1]

    @property
    def name(self) -> str:
        """The name of the program, with the number of its process."""
        program = os.path.basename(self.arguments[0]) if self.arguments else ''
        return f'{program or "process"} ({self.pid})'


def identity(path: str) -> Identity | None:
    """Return the identity of a file or block device; None if it is missing.

    :raises OSError: the file can't be looked at.
    """
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return _identity(found)


def _identity(found: os.stat_result) -> Identity:
    if stat.S_ISBLK(found.st_mode):
        return -1, found.st_rdev
    return found.st_dev, found.st_ino


def openers(
    wanted: Mapping[Identity, Collection[str]],
) -> Mapping[Identity, tuple[Opener, ...]]:
    """Return the other programs that have one of these files open.

    :param wanted: the names of each file.  A process sees a file by a name
        that ends as one of them: no other file is looked at, since the one
        who looks at a file of an NFS server that is gone waits for ever.
    """
    names = {os.path.basename(n) for found in wanted.values() for n in found}
    result: dict[Identity, list[Opener]] = {}
    for process in PROCESSES.glob('[0-9]*'):
        if int(process.name) == os.getpid():
            continue
        for found, writes in _opened(process, names):
            if found in wanted:
                opener = Opener(int(process.name), _arguments(process), writes)
                if opener not in result.setdefault(found, []):
                    result[found].append(opener)
    return {found: tuple(those) for found, those in result.items()}


def _opened(
    process: pathlib.Path, names: Collection[str]
) -> Iterator[tuple[Identity, bool]]:
    """Yield what a process has open, and whether it may write to that."""
    with contextlib.suppress(OSError):  # it has ended, or is another user's
        for descriptor in os.listdir(process / 'fd'):
            with contextlib.suppress(OSError, ValueError):
                link = process / 'fd' / descriptor
                if os.path.basename(os.readlink(link)) in names:
                    yield _identity(os.stat(link)), _writes(link)


def _writes(link: pathlib.Path) -> bool:
    text = (link.parent.parent / 'fdinfo' / link.name).read_text()
    for line in text.splitlines():
        name, _, value = line.partition(':')
        if name == 'flags':
            return int(value, 8) & os.O_ACCMODE != os.O_RDONLY
    return True  # it is not said


def _arguments(process: pathlib.Path) -> tuple[str, ...]:
    try:
        line = (process / 'cmdline').read_bytes()
    except OSError:
        return ()
    return tuple(line.decode(errors='replace').split('\0')[:-1])
