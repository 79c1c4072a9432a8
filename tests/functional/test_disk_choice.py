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


"""Which disks --disk and --all-disks take, and what people are told."""

import json
import pathlib

from tests.functional import base
from tests.functional import content
from tests.lab import guest as guest_lib
from tests.lab import root_disk

INVALID = 2


def small_disk(path: pathlib.Path) -> root_disk.RootDisk:
    """Make a raw disk of 1 MiB with nothing on it."""
    with open(path, 'wb') as file:
        file.truncate(root_disk.MIB)
    return root_disk.RootDisk(root_disk.Kind.RAW, path, 'raw')


class DiskChoiceTestCase(content.ContentTestCase):
    """A test of guests with several disks."""

    def small_disks(self, count: int) -> tuple[root_disk.RootDisk, ...]:
        folder = self.directory()
        return tuple(small_disk(folder / f'{n}.raw') for n in range(count))

    def explain(
        self, guest: guest_lib.Guest, *arguments: str
    ) -> dict[str, dict[str, str]]:
        """Return the rows of explain by fact."""
        done = self.run_command(
            'explain', guest.uuid, '-f', 'json', *arguments
        )
        return {row['Fact']: row for row in json.loads(done.stdout)}


class TestRunning(DiskChoiceTestCase):
    """A running guest."""

    def test_iothread_of_a_further_disk(self) -> None:
        """Pull would end the guest on Debian 12; see policy.py."""
        guest = self.make_guest(
            extra_disks=self.small_disks(2), extra_iothread=True
        )
        found = base.Found.of(guest)
        self.configure(**content.PULL)
        rows = self.explain(guest, '--all-disks')
        row = rows['disk vdd']
        way = 'pull' if 'same moment' in row['Meaning'] else 'cold'
        if way == 'cold':
            self.assertIn('iothread', row['Meaning'])
            self.assertNotIn('pull', row['Live Methods'])
        self.take_all(guest, way)
        self.assert_as_found(guest, found)
        # Without that disk, the guest goes on.
        rows = self.explain(guest, '--disk', 'vda', '--disk', 'vdc')
        self.assertEqual('live', rows['decision']['Value'])
        self.run_command(
            *('image-create', guest.uuid, 'image'),
            *('--disk', 'vda', '--disk', 'vdc'),
        )
        self.assert_as_found(guest, found)
        self.assert_nothing_left()
