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

"""Images of another disk than the one that the guest boots from."""

import json
import os

from tests.functional import base
from tests.functional import content
from tests.lab import exhaustive
from tests.lab import guest as guest_lib
from tests.lab import root_disk

WAYS = exhaustive.choose(
    (('mirror', {}), ('pull', content.PULL), ('cold', content.COLD)),
    (('mirror', {}), ('cold', content.COLD)),
)


class TestDiskOption(content.ContentTestCase):
    """A running guest with a second disk, to which it does not write."""

    def guest_with_data(self) -> tuple[guest_lib.Guest, root_disk.RootDisk]:
        data = root_disk.make(
            guest_lib.disks_directory(self.libvirtd),
            root_disk.Kind.RAW,
            name='data',
            size=16 << 20,
            files={'/data': os.urandom(1 << 20)},
        )
        return self.make_guest(extra_disks=(data,)), data

    def test_each_command(self) -> None:
        guest, data = self.guest_with_data()
        found = base.Found.of(guest)
        done = self.run_command(
            *('explain', guest.uuid, '--disk', 'vdc', '-f', 'json')
        )
        first = json.loads(done.stdout)[0]
        self.assertEqual(('root disk', 'vdc'), (first['Fact'], first['Value']))
        for way, options in WAYS:
            with self.subTest(way):
                self.configure(**options)
                done = self.run_command(
                    *('image-create', guest.uuid, 'image', '--disk', 'vdc'),
                    *('-f', 'value', '-c', 'id'),
                )
                self.assertIn(content.SAYS[way], done.stderr)
                image = self.image(done.stdout.strip())
                self.assert_equal_to_disk(image, data)
                self.assertEqual(1, image.record.min_disk)
                self.assert_as_found(guest, found)
        self.configure(**content.PULL)
        file = self.directory() / 'exported'
        self.run_command(
            'export', guest.uuid, '--disk', 'vdc', '-o', str(file)
        )
        exported = content.Image(image.record, file)
        self.assert_equal_to_disk(exported, data)
        for words in (('explain',), ('image-create', 'image')):
            command, *rest = words
            done = self.run_command(
                *(command, guest.uuid, *rest, '--disk', 'vdz'), status=2
            )
            self.assertIn('no disk vdz; it has vda, vdc', done.stderr)
        self.assert_as_found(guest, found)
        self.assert_nothing_left()
