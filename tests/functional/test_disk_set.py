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

"""All disks of a guest at one moment: ``--all-disks``, and several --disk."""

import json
import os

from tests.functional import base
from tests.functional import content
from tests.lab import guest as guest_lib
from tests.lab import root_disk

#: The kinds of the guest's further disks: vdc and vdd.
KINDS = (root_disk.Kind.RAW, root_disk.Kind.QCOW2)


class TestDiskSet(content.ContentTestCase):
    """A running guest with two more disks, to which it does not write."""

    def guest_with_data(
        self,
    ) -> tuple[guest_lib.Guest, list[root_disk.RootDisk]]:
        data = [
            root_disk.make(
                guest_lib.disks_directory(self.libvirtd),
                kind,
                name=f'data{number}',
                size=16 << 20,
                files={'/data': os.urandom(1 << 20)},
            )
            for number, kind in enumerate(KINDS)
        ]
        return self.make_guest(extra_disks=tuple(data)), data

    def test_live_and_cold(self) -> None:
        guest, data = self.guest_with_data()
        found = base.Found.of(guest)
        for way, options in (
            ('pull', content.PULL),
            ('cold', content.COLD),
        ):
            with self.subTest(way):
                self.configure(**options)
                least = guest.ticks()
                done = self.run_command(
                    *('image-create', guest.uuid, 'image', '--all-disks'),
                    *('-f', 'json'),
                )
                self.assertIn(content.SAYS[way], done.stderr)
                shown = json.loads(done.stdout)
                root = self.image(shown['id'])
                self.assert_one_moment(root, least)
                further = shown['further_images']
                self.assertEqual(['vdc', 'vdd'], list(further))
                for (device, image_id), disk in zip(
                    further.items(), data, strict=True
                ):
                    image = self.image(image_id)
                    self.assertEqual(f'image-{device}', image.record.name)
                    self.assert_equal_to_disk(image, disk)
                self.assert_as_found(guest, found)
                self.assert_nothing_left()
