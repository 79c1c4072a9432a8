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

"""Deletions of domain snapshots while other programs work with the files."""

import json
import pathlib

from tests.functional import domain_snapshot_base
from tests.lab import command
from tests.lab import guest as guest_lib
from tests.lab import root_disk
from tests.lab import steps


class TestDelete(domain_snapshot_base.ContentTestCase):
    """What happens between the plan, the merging, and a recovery."""

    COMMAND = 'snapshot-delete'

    def test_guest_is_started_meanwhile(self) -> None:
        """The file that it runs from is not taken away under it."""
        guest = self.guest(start=False)
        self.take(guest, 'a')
        with self.held_at(
            steps.after('commit-file'), self.COMMAND, guest.uuid, 'a'
        ) as process:
            with guest.domain() as dom:
                dom.create()
            guest.wait_until_up()
        done = self.finish(process)
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertTrue(guest.is_ticking(), guest.console()[-500:])
        self.assertEqual(
            domain_snapshot_base.top_file(guest.xml()), str(self.disk(guest))
        )
        self.assert_ends_whole(guest)
        self.assertEqual(['root.qcow2'], self.files(guest))
        self.assert_nothing_left()

    def test_file_that_another_guest_uses_by_now(self) -> None:
        guest = self.stopped()
        self.chain(guest, 'a', 'b')
        base = self.frozen(guest, 'b')
        self.kill_at(steps.after('forget'), self.COMMAND, guest.uuid, 'b')
        neighbour = self.neighbour(base)
        self.assertEqual({1, 2}, self.numbers(self.disk(neighbour)))
        done = self.run_command('recover', status=1)
        self.assertIn(f'server {neighbour.name} needs it', done.stderr)
        self.assertEqual({1, 2}, self.numbers(self.disk(neighbour)))
        self.assertEqual({1, 2, 3}, self.numbers(self.disk(guest)))
        with neighbour.domain() as dom:
            dom.undefine()
        self.run_command('recover')
        self.assert_content(guest, 3, a=1)

    def neighbour(self, base: pathlib.Path) -> guest_lib.Guest:
        """Make a guest whose disk lies over a file."""
        top = base.with_name('top.qcow2')
        command.run(
            *('qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'qcow2'),
            *('-b', base, top),
        )
        disk = root_disk.RootDisk(root_disk.Kind.OVERLAY, top, 'qcow2')
        return self.make_guest(disk=disk, start=False)

    def test_internal_one_that_is_half_deleted(self) -> None:
        """As a libvirtd leaves it that is killed between two disks."""
        folder = self.directory()
        more = folder / 'more.qcow2'
        command.run('qemu-img', 'create', '-q', '-f', 'qcow2', more, '16M')
        extra = root_disk.RootDisk(root_disk.Kind.QCOW2, more, 'qcow2')
        guest = self.guest(start=False, extra_disks=(extra,))
        self.take(guest, 'i', '--internal')
        command.run('qemu-img', 'snapshot', '-d', 'i', self.disk(guest))
        self.run_command(self.COMMAND, guest.uuid, 'i')
        self.assertEqual({}, self.listed(guest))
        found = json.loads(
            command.run('qemu-img', 'info', '--output', 'json', more).stdout
        )
        self.assertEqual([], found.get('snapshots', []))
        self.assert_nothing_left()

    def test_overlay_on_a_device(self) -> None:
        guest = self.stopped()
        device = self.take_on_device(guest, 'a')
        folder = str(self.folder_of(guest))
        self.configure(snapshot={'backing_file_directories': folder})
        self.run_command(self.COMMAND, guest.uuid, 'a')
        self.assertTrue(device.is_block_device())
        self.assertEqual({1}, self.numbers(self.disk(guest)))
        self.assertEqual({}, self.listed(guest))
        self.assert_nothing_left()
