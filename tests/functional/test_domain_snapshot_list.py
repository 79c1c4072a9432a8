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

"""Domain snapshots that virsh has made, as nova-snap shows them."""

import os

from tests.functional import domain_snapshot_base
from tests.lab import command
from tests.lab import guest as guest_lib
from tests.lab import root_disk

DISK_ONLY = domain_snapshot_base.DISK_ONLY


class TestList(domain_snapshot_base.DomainSnapshotTestCase):
    """snapshot-list and snapshot-show."""

    def external(self, guest: guest_lib.Guest, name: str) -> None:
        with guest.domain() as dom:
            dom.snapshotCreateXML(
                f'<domainsnapshot><name>{name}</name></domainsnapshot>',
                DISK_ONLY,
            )

    def test_none(self) -> None:
        guest = self.guest(start=False)
        self.assertEqual({}, self.listed(guest))
        done = self.run_command('snapshot-show', guest.uuid, 'x', status=3)
        self.assertIn("no domain snapshot 'x'", done.stderr)

    def test_every_kind(self) -> None:
        guest = self.guest()
        folder = self.folder_of(guest)
        for name, arguments in (
            ('inside', ()),
            ('frozen', ('--disk-only', '--atomic')),
            (
                'whole',
                (
                    *('--live', '--memspec', f'file={folder}/whole.memory'),
                    *('--description', 'before the upgrade'),
                ),
            ),
            (
                'memory',
                (
                    *('--memspec', f'file={folder}/only.memory'),
                    *('--diskspec', 'vda,snapshot=no'),
                ),
            ),
        ):
            self.virsh('snapshot-create-as', guest.uuid, name, *arguments)
        self.assert_same_tree(guest)
        rows = self.listed(guest)
        self.assertEqual(
            ['system internal', 'disk', 'system external', 'memory'],
            [rows[n]['Kind'] for n in ('inside', 'frozen', 'whole', 'memory')],
        )
        self.assertEqual(
            [[], [], [], []], [row['Problems'] for row in rows.values()]
        )
        whole = self.shown(guest, 'whole')
        self.assertEqual('before the upgrade', whole['description'])
        memory = (folder / 'whole.memory').stat().st_blocks * 512
        self.assertIn(
            {
                'role': 'memory',
                'disk': '',
                'path': f'{folder}/whole.memory',
                'size': memory,
            },
            whole['files'],
        )
        self.assertEqual(
            [f'{folder}/root.frozen', f'{folder}/root.whole'],
            [f['path'] for f in whole['files'] if f['disk'] == 'vda'],
        )
        self.assertGreaterEqual(whole['size'], memory)
        self.assertGreater(self.shown(guest, 'inside')['size'], 2**20)
        # The table is for people, and has the same tree.
        self.assertEqual(
            [name for _depth, name in self.virsh_tree(guest)],
            [name for _depth, name in self.our_tree(guest)],
        )

    def test_branches_and_who_needs_them(self) -> None:
        guest = self.guest(start=False)
        for name in ('a', 'b'):
            self.external(guest, name)
        # A branch: back to "a" by hand, as libvirt before 9.9 can't.
        folder = self.folder_of(guest)
        self.virsh('snapshot-current', guest.uuid, 'a')
        other = folder / 'branch'
        command.run(
            *('qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'qcow2'),
            *('-b', folder / 'root.qcow2', other),
        )
        xml = guest.inactive_xml()
        with self.libvirtd.connection() as connection:
            connection.defineXML(xml.replace(f'{folder}/root.b', str(other)))
        self.external(guest, 'c')
        self.assert_same_tree(guest)
        rows = self.listed(guest)
        self.assertEqual(
            ('a', 'a'), (rows['b']['Parent'], rows['c']['Parent'])
        )
        self.assertEqual(
            {'disk vda', 'domain snapshot b', 'domain snapshot c'},
            set(rows['a']['Needed By']),
        )
        self.assertEqual([], rows['b']['Needed By'])
        self.assertEqual(['disk vda'], rows['c']['Needed By'])

    def test_another_guest_over_the_same_file(self) -> None:
        guest = self.guest(start=False)
        self.external(guest, 'a')
        top = self.directory() / 'top'
        # By another name, through which it is the same file.
        link = top.with_name('link')
        os.link(self.folder_of(guest) / 'root.qcow2', link)
        command.run(
            *('qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'qcow2'),
            *('-b', link, top),
        )
        disk = root_disk.RootDisk(root_disk.Kind.OVERLAY, top, 'qcow2')
        neighbour = self.make_guest(disk=disk, start=False)
        self.assertEqual(
            {'disk vda', f'server {neighbour.name}'},
            set(self.listed(guest)['a']['Needed By']),
        )
        neighbour.start()
        self.assertIn(
            f'server {neighbour.name}',
            self.listed(guest)['a']['Needed By'],
        )

    def test_what_a_header_may_not_name_is_said(self) -> None:
        guest = self.guest(start=False)
        self.external(guest, 'a')
        far = self.directory() / 'far'
        command.run(
            *('qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'qcow2'),
            *('-b', self.folder_of(guest) / 'root.qcow2', far),
        )
        disk = root_disk.RootDisk(root_disk.Kind.OVERLAY, far, 'qcow2')
        neighbour = self.make_guest(disk=disk, start=False)
        done = self.run_command('snapshot-list', guest.uuid)
        self.assertIn(f'Server {neighbour.name}: it is not known', done.stderr)
        self.assertIn(str(far), done.stderr)

    def test_a_program_that_writes_to_a_frozen_file(self) -> None:
        guest = self.guest(start=False)
        self.external(guest, 'a')
        path = self.folder_of(guest) / 'root.qcow2'
        with open(path, 'rb'):
            row = self.listed(guest)['a']
            self.assertEqual([], row['Problems'])
            self.assertIn(f'({os.getpid()})', row['Needed By'][-1])
        with open(path, 'r+b'):
            (problem,) = self.listed(guest)['a']['Problems']
            self.assertIn(f'has {path} open to write to it', problem)

    def test_missing_files(self) -> None:
        guest = self.guest()
        folder = self.folder_of(guest)
        self.virsh(
            *('snapshot-create-as', guest.uuid, 'whole'),
            *('--memspec', f'file={folder}/whole.memory'),
        )
        guest.destroy()
        (folder / 'whole.memory').unlink()
        (folder / 'root.qcow2').unlink()
        row = self.listed(guest)['whole']
        self.assertEqual(
            [
                f'{folder}/root.qcow2 does not exist.',
                f'{folder}/whole.memory, with its memory, does not exist.',
            ],
            row['Problems'],
        )

    def test_missing_file_of_an_internal_one(self) -> None:
        guest = self.guest(start=False)
        self.virsh('snapshot-create-as', guest.uuid, 'inside')
        path = self.folder_of(guest) / 'root.qcow2'
        path.unlink()
        self.assertEqual(
            [f'{path} does not exist.'],
            self.listed(guest)['inside']['Problems'],
        )

    def test_a_name_does_nothing_to_a_terminal(self) -> None:
        guest = self.guest(start=False)
        with guest.domain() as dom:
            dom.snapshotCreateXML(
                '<domainsnapshot><name>a\u202eb</name></domainsnapshot>', 0
            )
        table = self.run_command('snapshot-list', '--tree', guest.uuid).stdout
        self.assertIn('+- a\\u202eb', table)
        self.assertEqual(['a\u202eb'], list(self.listed(guest)))
