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

"""What is removed of a guest that was not made."""

from collections.abc import Iterator
import os
import pathlib

from nova_snap import exception
from nova_snap import undo
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import host as host_lib
from nova_snap.virt.libvirt import new_guest_steps
from tests.unit import base

UUID = '5c0e8d1f-7a2b-4936-8b1d-4f06a3c7e925'


class Host(host_lib.Host):
    """A host whose guests name some files."""

    def __init__(self, *used: str) -> None:
        super().__init__('test:///default')
        self._used = used

    def users_of(self, path: str) -> Iterator[str]:
        yield from (UUID for used in self._used if used == path)


class RemoveDisksTest(base.TestCase):
    """Files in a folder."""

    def setUp(self) -> None:
        super().setUp()
        self.work = self.folder()
        self.part = self.work / f'{new_guest_steps.PREFIX}{UUID}-vda'
        self.disk = self.work / 'web-vda.qcow2'

    def undo(self, part: pathlib.Path, *used: str) -> None:
        guest = guest_lib.Guest(Host(*used), UUID, 'web')
        step = new_guest_steps.RemoveDisks([str(part)], [str(self.disk)])
        for _twice in range(2):
            step.undo(undo.Resources(guest))

    def test_nothing_was_made(self) -> None:
        self.undo(self.part)

    def test_disk_of_no_guest(self) -> None:
        self.part.write_text('data')
        os.link(self.part, self.disk)
        self.undo(self.part)
        self.assertEqual([], list(self.work.iterdir()))

    def test_disk_of_a_guest_stays(self) -> None:
        self.part.write_text('data')
        os.link(self.part, self.disk)
        self.undo(self.part, str(self.disk))
        self.assertEqual([self.disk], list(self.work.iterdir()))

    def test_file_of_somebody_else_stays(self) -> None:
        self.part.write_text('data')
        self.disk.write_text('mine')
        self.undo(self.part)
        self.assertEqual('mine', self.disk.read_text())
        self.assertFalse(self.part.exists())

    def test_file_that_is_no_unfinished_disk(self) -> None:
        for name in ('x', f'{new_guest_steps.PREFIX}x', self.disk.name):
            path = self.work / name
            path.write_text('mine')
            self.assertRaises(exception.UnsafeDisk, self.undo, path)
            self.assertEqual('mine', path.read_text())
