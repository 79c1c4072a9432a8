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

"""Networks of their own for the storage and for the program that is measured.

Ceph and Glance run as if on other hosts: in a network namespace that is
reached by virtual Ethernet (veth) only, one pair for each kind of traffic.
What passes through a pair is counted by the kernel, with the headers::

    host (libvirtd, QEMU) ------ to-qemu -----.
                          ------ to-bench ----+-- storage (Ceph, Glance)
    program (the worker)  ------ to-ceph -----+
                          ------ to-glance ---'

The program has a network of its own, so that its bytes are not those of the
guest.  It reaches libvirtd and QEMU by their sockets in the file system.
"""

from collections.abc import Callable
from concurrent import futures
import ctypes
import dataclasses
import os
import pathlib
from typing import Self
from typing import TypeVar

from tests.lab import command
from tests.lab import daemon

T = TypeVar('T')

#: Addresses for benchmarks (RFC 2544), which no network uses.
CEPH = '198.18.0.1'
GLANCE = '198.18.0.2'

#: See clone(2).
_CLONE_NEWNET = 0x40000000


@dataclasses.dataclass(frozen=True)
class Link:
    """A pair of interfaces.

    :ivar name: of the interface in the storage's network.
    :ivar server: the address there.
    :ivar client: the address at the other end.
    :ivar is_of_host: the other end is in the host's network.
    """

    name: str
    server: str
    client: str
    is_of_host: bool = False


TO_QEMU = Link('to-qemu', CEPH, '198.18.0.3', is_of_host=True)
TO_BENCH = Link('to-bench', GLANCE, '198.18.0.4', is_of_host=True)
TO_CEPH = Link('to-ceph', CEPH, '198.18.0.5')
TO_GLANCE = Link('to-glance', GLANCE, '198.18.0.6')

LINKS = (TO_QEMU, TO_BENCH, TO_CEPH, TO_GLANCE)


class Namespace:
    """A network that exists while a process of its own sleeps in it."""

    def __init__(self, output: pathlib.Path) -> None:
        self._holder = daemon.Daemon(output)

    def start(self) -> None:
        """Make it, with a loopback interface."""
        self._holder.start(['unshare', '--net', 'sleep', 'infinity'])
        own = os.readlink('/proc/self/ns/net')
        self._holder.wait_until(lambda: os.readlink(self.file) != own)
        self.ip('link', 'set', 'lo', 'up')

    def stop(self) -> None:
        """Remove it with its interfaces, when nothing runs in it any more."""
        self._holder.kill()

    @property
    def folder(self) -> pathlib.Path:
        """The folder in /proc of a process that is in it."""
        return pathlib.Path(f'/proc/{self._holder.pid}')

    @property
    def file(self) -> pathlib.Path:
        """The name by which others enter it."""
        return self.folder / 'ns/net'

    def ip(self, *arguments: str) -> None:
        """Run ``ip`` in it."""
        command.run('nsenter', f'--net={self.file}', 'ip', *arguments)

    def call(self, function: Callable[[], T]) -> T:
        """Call a function in it; what that starts stays in it."""
        with futures.ThreadPoolExecutor(1) as pool:
            # A network is one of a thread, and of the children of a thread.
            pool.submit(self._enter).result()
            return pool.submit(function).result()

    def _enter(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        with self.file.open() as opened:
            if libc.setns(opened.fileno(), _CLONE_NEWNET) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))


class Networks:
    """The networks of the storage and of the program; a context manager."""

    def __init__(self, directory: pathlib.Path) -> None:
        self._directory = directory
        self.storage = Namespace(directory / 'storage.out')
        self.program = Namespace(directory / 'program.out')

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        try:
            self.storage.start()
            self.program.start()
            for number, link in enumerate(LINKS):
                self._connect(link, f'ns{os.getpid()}-{number}')
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.program.stop()
        self.storage.stop()

    def counted(self) -> dict[str, int]:
        """Return the bytes of each link so far, both ways, by its name."""
        lines = (self.storage.folder / 'net/dev').read_text().splitlines()
        found = {}
        # Of the columns of proc_net_dev(5): received first, sent as ninth.
        for line in lines[2:]:
            name, _, numbers = line.partition(':')
            words = numbers.split()
            found[name.strip()] = int(words[0]) + int(words[8])
        return {link.name: found[link.name] for link in LINKS}

    def _connect(self, link: Link, name: str) -> None:
        self.storage.ip(
            *('link', 'add', link.name, 'type', 'veth', 'peer', 'name', name)
        )
        self.storage.ip(
            *('addr', 'add', link.server, 'peer', link.client),
            *('dev', link.name),
        )
        self.storage.ip('link', 'set', link.name, 'up')
        other = '1' if link.is_of_host else str(self.program.folder.name)
        self.storage.ip('link', 'set', name, 'netns', other)
        run = _ip_of_host if link.is_of_host else self.program.ip
        run('addr', 'add', link.client, 'peer', link.server, 'dev', name)
        run('link', 'set', name, 'up')


def _ip_of_host(*arguments: str) -> None:
    command.run('ip', *arguments)
