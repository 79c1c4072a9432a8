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

"""What Nova makes of the root disk's image of a set with volumes."""

from typing import Any

from nova import context
from nova.compute import api
from nova.image import glance

from nova_snap.compute.volume_backed import record
from tests.nova import base
from tests.unit.compute import volumes

IMAGE_ID = '2f0c3bd5-1b7a-4f4e-9d0e-52f6a7f2f2a9'


class CreateTest(base.NovaTestCase):
    """The block devices of a server that is created from such an image."""

    def devices(self, *requested: dict[str, Any]) -> list[tuple[Any, ...]]:
        """Return source, name and place in the boot order of each device.

        :param requested: what a client has sent, if anything.
        """
        attached = record.AttachedVolume(
            volumes.device('vdc', volumes.DATA), volumes.volume(volumes.DATA)
        )
        properties = record.mapping([attached], ['s1'], root_device='vda')
        image = glance._convert_from_string(
            {'id': IMAGE_ID, 'properties': properties}
        )
        # Not initialised: only other methods need the message bus.
        compute = object.__new__(api.API)
        found = compute._check_and_transform_bdm(
            context.get_admin_context(),
            {'image_ref': IMAGE_ID, 'root_device_name': '/dev/vda'},
            {},
            image,
            *(1, 1, list(requested)),
            legacy_bdm=not requested,
        )
        return [
            (bdm.source_type, bdm.device_name, bdm.boot_index) for bdm in found
        ]

    def test_root_disk_is_the_image_and_the_volume_is_attached(self) -> None:
        self.assertEqual(
            [('image', None, 0), ('snapshot', '/dev/vdc', None)],
            self.devices(),
        )

    def test_as_openstack_server_create_asks_for_it(self) -> None:
        root = {
            'source_type': 'image',
            'destination_type': 'local',
            'image_id': IMAGE_ID,
            'boot_index': 0,
            'device_name': None,
        }
        self.assertEqual(
            [('image', None, 0), ('snapshot', '/dev/vdc', None)],
            self.devices(root),
        )
