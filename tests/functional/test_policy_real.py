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

"""What "nova-snap explain" says of real guests; it touches nothing.

How a decision follows from facts is tested in the unit tests of
``policy.py``; here the facts are those of libvirt.
"""

import json
import subprocess

from tests.functional import base
from tests.functional import content
from tests.functional import test_input
from tests.lab import event_watch
from tests.lab import exhaustive
from tests.lab import guest as guest_lib
from tests.lab import root_disk

BACKUP = """<domainbackup mode='pull'>
  <server transport='unix' socket='{0}/socket'/>
  <disks><disk name='vda' type='file'><scratch file='{0}/scratch'/></disk>
  </disks>
</domainbackup>"""


KINDS = exhaustive.choose(
    root_disk.Kind, (root_disk.Kind.OVERLAY, root_disk.Kind.BLOCK)
)


class TestExplain(test_input.InputTestCase):
    """The command that tells the decision; it touches nothing."""

    def explain(self, guest: guest_lib.Guest) -> dict[str, dict[str, str]]:
        """Return the rows of explain by fact."""
        done = self.run_command('explain', guest.uuid, '-f', 'json')
        rows = json.loads(done.stdout)
        self.assertEqual('decision', rows[-1]['Fact'])
        return {row['Fact']: row for row in rows}

    def test_table(self) -> None:
        guest = self.define()
        table = self.run_command('explain', guest.uuid).stdout
        told = [
            [cell.strip() for cell in line.strip('|').split('|')]
            for line in table.splitlines()
        ]
        for row in self.explain(guest).values():
            self.assertIn(list(row.values()), told)

    def check_touches_nothing(self, guest: guest_lib.Guest) -> None:
        found = base.Found.of(guest)
        files = sorted(self.state_path.iterdir())
        with event_watch.EventWatch(self.libvirtd, guest) as watch:
            self.explain(guest)
        self.assertEqual([], watch.events)
        self.assertEqual(files, sorted(self.state_path.iterdir()))
        self.assert_as_found(guest, found)

    def test_every_state(self) -> None:
        guest = self.make_guest(agent=True)
        self.check_touches_nothing(guest)
        self.assertEqual('live', self.explain(guest)['decision']['Value'])
        with content.paused(guest):
            self.check_touches_nothing(guest)
            self.assertEqual('live', self.explain(guest)['decision']['Value'])
        guest.destroy()
        self.check_touches_nothing(guest)
        rows = self.explain(guest)
        self.assertEqual('cold', rows['decision']['Value'])
        self.assertIn('does not run', rows['decision']['Meaning'])

    def configure_default(self, **libvirt: str) -> None:
        """Configure what the tests need, and no method."""
        self.configure(libvirt=libvirt)
        ours = self.config.read_text().replace('live_method = mirror', '')
        self.config.write_text(ours)

    def test_default(self) -> None:
        self.configure_default()
        guest = self.make_guest()
        found = base.Found.of(guest)
        self.assertEqual(
            'pull', self.explain(guest)['decision']['Live Methods']
        )
        image = self.image_file(self.image_create(guest))
        info = ['qemu-img', 'info', '--output', 'json', str(image)]
        found_in = json.loads(subprocess.check_output(info))
        self.assertEqual(
            'zstd', found_in['format-specific']['data']['compression-type']
        )
        self.assert_as_found(guest, found)
        self.assert_nothing_left()

    def test_default_where_pull_has_no_room_for_its_sockets(self) -> None:
        deep = self.directory() / ('d' * 61)
        self.configure_default(snapshots_directory=str(deep))
        guest = self.make_guest()
        found = base.Found.of(guest)
        rows = self.explain(guest)
        self.assertEqual('mirror', rows['decision']['Live Methods'])
        self.assertEqual(
            'mirror', rows['short path for sockets']['Live Methods']
        )
        self.image_create(guest)
        self.assert_as_found(guest, found)
        self.assert_nothing_left()

    def test_disk_with_an_iothread(self) -> None:
        """Pull would end the guest on Debian 12; see policy.py."""
        self.configure(snapshot={'live_method': 'auto'})
        guest = self.make_guest(iothread=True)
        found = base.Found.of(guest)
        rows = self.explain(guest)
        self.assertEqual('true', rows['root disk has an iothread']['Value'])
        self.assertEqual('live', rows['decision']['Value'])
        self.image_create(guest)
        self.assert_as_found(guest, found)
        self.assert_nothing_left()

    def test_every_kind(self) -> None:
        for kind in KINDS:
            with self.subTest(kind=kind):
                guest = self.make_guest(kind=kind, wait=False)
                self.check_explained(guest, kind)
                guest.remove()

    def check_explained(
        self, guest: guest_lib.Guest, kind: root_disk.Kind
    ) -> None:
        is_block = kind is root_disk.Kind.BLOCK
        self.configure()
        rows = self.explain(guest)
        self.assertEqual(
            'cold' if is_block else 'live', rows['decision']['Value']
        )
        if is_block:
            self.assertIn('lvm', rows['decision']['Meaning'])
        self.configure(snapshot={'live_method': 'auto'})
        rows = self.explain(guest)
        self.assertEqual('pull', rows['decision']['Live Methods'])

    def test_a_job_of_another_program(self) -> None:
        guest = self.make_guest()
        self.addCleanup(guest.destroy)
        with guest.domain() as dom:
            dom.backupBegin(BACKUP.format(self.directory()), None)
        before = guest.xml()
        rows = self.explain(guest)
        self.assertEqual('true', rows['other backup job']['Value'])
        self.assertEqual(before, guest.xml())
        self.assert_refused(
            test_input.CONFLICT,
            'Another program takes a backup of server .*wait',
            *('image-create', guest.uuid, 'i'),
        )
