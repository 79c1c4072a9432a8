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

"""The base of every test that needs real guests.

    class TestSomething(base.LabTestCase):
        def test_it(self):
            guest = self.make_guest(kind=root_disk.Kind.RAW, agent=True)

One libvirtd serves a process.  It starts with the first test that asks for it
and ends, with all guests, when the process does.
"""

import atexit
from collections.abc import Mapping
import functools
import os
import pathlib
import string
import tempfile
from typing import Any
from typing import ClassVar

import testtools

from tests.lab import command
from tests.lab import domain
from tests.lab import guest as guest_lib
from tests.lab import libvirtd as libvirtd_lib
from tests.lab import paths
from tests.lab import root_disk


@functools.cache
def shared_libvirtd() -> libvirtd_lib.Libvirtd:
    """Return the libvirtd of this process; start it if need be."""
    remove_abandoned_labs()
    libvirtd = libvirtd_lib.Libvirtd(paths.process_lab())
    owner = os.getpid()

    def remove() -> None:
        # A forked child that ends must not end its parent's lab.
        if os.getpid() == owner:
            libvirtd.remove()

    atexit.register(remove)
    libvirtd.start()
    return libvirtd


def remove_abandoned_labs() -> None:
    """End the labs of test processes that were killed."""
    for state in paths.root().glob('t[0-9]*'):
        # A process may have labs besides, with a letter behind its number.
        pid = state.name.strip(string.ascii_letters)
        if not pathlib.Path(f'/proc/{pid}').exists():
            libvirtd_lib.Libvirtd(state).remove()


def new_guest(
    libvirtd: libvirtd_lib.Libvirtd,
    kind: root_disk.Kind = root_disk.Kind.OVERLAY,
    disk: root_disk.RootDisk | None = None,
    size: int = 256 * root_disk.MIB,
    files: Mapping[str, bytes] | None = None,
    **spec: Any,
) -> guest_lib.Guest:
    """Make a guest, without starting it.

    :param kind: the kind of root disk to make.
    :param disk: a root disk that is there, instead.
    :param size: of the root disk to make, bytes.
    :param files: what lies on it besides.
    :param spec: what :class:`tests.lab.domain.Spec` knows.
    """
    if disk is None:
        disk = root_disk.make(
            guest_lib.disks_directory(libvirtd),
            kind,
            name=f'root-{os.urandom(4).hex()}',
            size=size,
            files=files,
        )
    return guest_lib.Guest(libvirtd, domain.Spec(disk=disk, **spec))


#: Guests of groups of classes, by the group and their description.
_groups: dict[str, dict[str, guest_lib.Guest]] = {}


def _remove_all(guests: dict[str, guest_lib.Guest]) -> None:
    for guest in guests.values():
        guest.remove()
    guests.clear()


class LabTestCase(testtools.TestCase):
    """A test with real guests on the lab's libvirt."""

    #: Classes of the same group that follow one another share their guests,
    #: which a boot for each would cost seconds; None: each class has its own.
    GUEST_GROUP: ClassVar[str | None] = None

    #: Guests that the tests of this class share, by their description.
    _class_guests: ClassVar[dict[str, guest_lib.Guest]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._class_guests = (
            _groups.setdefault(cls.GUEST_GROUP, {}) if cls.GUEST_GROUP else {}
        )

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        for group, guests in _groups.items():
            if group != cls.GUEST_GROUP:
                _remove_all(guests)

    @classmethod
    def tearDownClass(cls) -> None:
        if cls.GUEST_GROUP is None:
            _remove_all(cls._class_guests)
        super().tearDownClass()

    def setUp(self) -> None:
        super().setUp()
        self.libvirtd = shared_libvirtd()
        # A test may have ended libvirtd, or its daemon may have crashed.
        self.libvirtd.start()

    def make_guest(
        self, start: bool = True, wait: bool = True, **options: Any
    ) -> guest_lib.Guest:
        """Make a guest for this test only; see :func:`new_guest`.

        :param start: start it; else it is only defined.
        :param wait: until it is up.
        """
        guest = new_guest(self.libvirtd, **options)
        self.addCleanup(guest.remove)
        self._begin(guest, start, wait)
        return guest

    def class_guest(self, **options: Any) -> guest_lib.Guest:
        """Return a running guest that the tests of the class or group share.

        Made by the first test that asks.  One that an earlier test left in
        any other state than running is replaced.
        """
        key = repr(sorted(options.items()))
        guest = self._class_guests.get(key)
        if guest is not None and not (
            guest.state() == 'running' and guest.is_ticking()
        ):
            guest.remove()
            guest = None
        if guest is None:
            guest = new_guest(self.libvirtd, **options)
            self._class_guests[key] = guest
            self._begin(guest, start=True, wait=True)
        return guest

    @staticmethod
    def _begin(guest: guest_lib.Guest, start: bool, wait: bool) -> None:
        if not start:
            guest.define()
            return
        guest.start()
        if wait:
            guest.wait_until_up()

    def directory(self) -> pathlib.Path:
        """Make a directory on the disk that libvirt sees, too."""
        parent = self.libvirtd.state / 'tmp'
        parent.mkdir(exist_ok=True)
        work = tempfile.TemporaryDirectory(dir=parent)
        self.addCleanup(work.cleanup)
        return pathlib.Path(work.name)

    def tmpfs(self, size: int) -> pathlib.Path:
        """Mount a file system in memory that running guests see.

        :param size: bytes.
        """
        point = pathlib.Path(tempfile.mkdtemp(dir=self.libvirtd.mounts))
        self.addCleanup(point.rmdir)
        command.run(
            *('mount', '-t', 'tmpfs', '-o', f'size={size},mode=0755'),
            *('tmpfs', point),
        )
        self.addCleanup(command.run, 'umount', '--lazy', point)
        return point
