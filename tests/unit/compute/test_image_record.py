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


"""The record of a snapshot, by Nova's rules."""

import dataclasses
from typing import Any

from nova_snap import exception
from nova_snap.compute import image_record
from nova_snap.image import api as image_api
from nova_snap.image import filesystem
from nova_snap.objects import instance as instance_lib
from tests.unit import base

GIB = 1 << 30

INSTANCE = instance_lib.Instance(
    uuid='6a6bdf3d-8a1c-4a6b-9b9c-0c7e1d1f0c55',
    name='web',
    project_id='9a1d',
    user_id='4fbe',
    image_ref='2f0c3bd5-1b7a-4f4e-9d0e-52f6a7f2f2a9',
    flavor=instance_lib.Flavor('m1.tiny', 256, 2),
)

BASE = image_api.Image(
    id='2f0c3bd5-1b7a-4f4e-9d0e-52f6a7f2f2a9',
    name='debian',
    status='active',
    disk_format='raw',
    container_format='ovf',
    visibility='public',
    owner='somebody',
    min_disk=1,
    min_ram=128,
    properties={
        'hw_qemu_guest_agent': 'yes',
        'os_distro': 'debian',
        'image_type': 'base',
        'cache_in_nova': 'True',
        'img_signature': 'c2ln',
        'img_signature_hash_method': 'SHA-256',
        'img_signature_key_type': 'RSA-PSS',
        'img_signature_certificate_uuid': 'f9',
        'cinder_encryption_key_id': 'e8',
        'cinder_encryption_key_deletion_policy': 'on_image_deletion',
        'os_glance_importing_to_stores': 'x',
        'os_encrypt_key_id': 'd7',
        'os_decrypt_container_format': 'bare',
        'block_device_mapping': '[]',
        'img_block_device_mapping': '[]',
        'bdm_v2': 'True',
        'mappings': '[]',
        'root_device_name': '/dev/vda',
        'img_cache_in_nova': 'True',
        'img_owner_id': 'somebody',
        'img_config_drive': 'mandatory',
    },
)


def build(
    instance: instance_lib.Instance = INSTANCE,
    base_image: image_api.Image | None = BASE,
    virtual_size: int = GIB,
    **metadata: str,
) -> image_api.Image:
    """Build the record of a snapshot."""
    return image_record.build(
        instance,
        base_image,
        'backup',
        metadata,
        'qcow2',
        virtual_size,
        ['cache_in_nova'],
    )


class BuildTest(base.TestCase):
    """What a record says."""

    def test_fields(self) -> None:
        record = build()
        self.assertEqual('backup', record.name)
        self.assertEqual('queued', record.status)
        self.assertEqual('qcow2', record.disk_format)
        self.assertEqual('bare', record.container_format)
        self.assertEqual('private', record.visibility)
        self.assertIsNone(record.size)
        self.assertIsNone(record.owner)

    def test_properties_of_a_snapshot(self) -> None:
        self.assertEqual(
            {
                'image_type': 'snapshot',
                'image_location': 'snapshot',
                'image_state': 'available',
                'instance_uuid': INSTANCE.uuid,
                'user_id': '4fbe',
                'owner_id': '9a1d',
                'base_image_ref': INSTANCE.image_ref,
            },
            build(base_image=None).properties,
        )

    def test_what_is_not_known_is_left_out(self) -> None:
        unknown = instance_lib.Instance(uuid=INSTANCE.uuid, name='web')
        self.assertEqual(
            {
                'image_type',
                'image_location',
                'image_state',
                'instance_uuid',
            },
            set(build(unknown, None).properties),
        )

    def test_flavor_is_not_of_another_disk(self) -> None:
        other = dataclasses.replace(
            INSTANCE, disks=instance_lib.DiskChoice(("vdb",))
        )
        self.assertEqual(9, build(other, virtual_size=9 * GIB).min_disk)

    def test_each_has_an_id_of_its_own(self) -> None:
        self.assertNotEqual(build().id, build().id)

    def test_is_accepted_by_an_image_service(self) -> None:
        images = filesystem.FilesystemImageService(self.folder())
        record = build(colour='blau')
        self.assertEqual(record.properties, images.create(record).properties)


class InheritanceTest(base.TestCase):
    """What comes from the base image."""

    def test_what_speaks_of_the_guest_is_inherited(self) -> None:
        properties = build().properties
        self.assertEqual('yes', properties['hw_qemu_guest_agent'])
        self.assertEqual('debian', properties['os_distro'])

    def test_what_speaks_of_other_bytes_is_not(self) -> None:
        kept = {'hw_qemu_guest_agent', 'os_distro', 'image_type'}
        kept.add('img_config_drive')
        self.assertLessEqual(kept, set(build().properties))
        left_out = set(BASE.properties) - kept
        self.assertEqual(set(), left_out & set(build().properties))

    def test_own_properties_win(self) -> None:
        self.assertEqual('snapshot', build().properties['image_type'])

    def test_metadata_wins_over_the_base_image(self) -> None:
        self.assertEqual('me', build(os_distro='me').properties['os_distro'])

    def test_metadata_does_not_win_over_own_properties(self) -> None:
        record = build(instance_uuid='x', image_state='y')
        self.assertEqual(INSTANCE.uuid, record.properties['instance_uuid'])
        self.assertEqual('available', record.properties['image_state'])

    def test_metadata_is_not_held_back(self) -> None:
        record = build(cache_in_nova='True')
        self.assertEqual('True', record.properties['cache_in_nova'])

    def test_min_ram(self) -> None:
        self.assertEqual(128, build().min_ram)
        self.assertEqual(0, build(base_image=None).min_ram)


class MinDiskTest(base.TestCase):
    """GiB that a flavor must have for the image."""

    def check(
        self, expected: int, flavor: int | None, image: int | None, size: int
    ) -> None:
        """With this flavor, base image and virtual size."""
        instance = dataclasses.replace(
            INSTANCE,
            flavor=None
            if flavor is None
            else instance_lib.Flavor('a', 256, flavor),
        )
        base_image = (
            None
            if image is None
            else dataclasses.replace(BASE, min_disk=image)
        )
        record = build(instance, base_image, size)
        self.assertEqual(expected, record.min_disk)

    def test_of_the_flavor(self) -> None:
        self.check(2, flavor=2, image=1, size=GIB)
        self.check(2, flavor=2, image=None, size=9 * GIB)

    def test_of_the_base_image_where_it_needs_more(self) -> None:
        self.check(5, flavor=2, image=5, size=GIB)

    def test_what_holds_the_disk_where_no_flavor_is_known(self) -> None:
        self.check(1, flavor=None, image=None, size=1)
        self.check(1, flavor=None, image=None, size=GIB)
        self.check(2, flavor=None, image=None, size=GIB + 1)
        self.check(5, flavor=None, image=5, size=GIB)


class LimitsTest(base.TestCase):
    """Nova's limits; in characters, whatever their script."""

    def check(self, name: str = 'a', **metadata: str) -> None:
        """Check that name and metadata are accepted."""
        image_record.validate(name, metadata)

    def error_of(
        self, category: type[exception.NovaSnapError], *arguments: Any
    ) -> str:
        """Why these are not."""
        return str(
            self.assertRaises(category, image_record.validate, *arguments)
        )

    def name_refusal(self, name: str) -> str:
        """Why a name is not accepted."""
        return self.error_of(exception.InvalidName, name, {})

    def metadata_refusal(self, metadata: dict[str, str]) -> str:
        """Why metadata is not accepted."""
        return self.error_of(exception.InvalidMetadata, 'a', metadata)

    def test_length_of_a_name(self) -> None:
        for character in ('a', 'ü', '語', '\u0e01'):
            self.check(character * 255)
            text = self.name_refusal(character * 256)
            self.assertIn('256 characters', text)

    def test_name_that_is_empty(self) -> None:
        for name in ('', '   ', '\u3000'):
            self.assertIn('empty', self.name_refusal(name))

    def test_name_that_can_not_be_printed(self) -> None:
        for name in ('a\nb', 'a\x00', 'a\x1b[31m', '\u202eabc'):
            self.assertIn('printed', self.name_refusal(name))

    def test_number_of_items(self) -> None:
        items = {f'key{number}': 'v' for number in range(129)}
        self.assertIn('129 items', self.metadata_refusal(items))
        items.popitem()
        self.check(**items)

    def test_length_of_a_key(self) -> None:
        self.check(**{'語' * 255: 'v'})
        text = self.metadata_refusal({'語' * 256: 'v'})
        self.assertIn('256 characters', text)
        self.assertIn('0 characters', self.metadata_refusal({'': 'v'}))

    def test_key_that_is_a_field(self) -> None:
        for key in ('id', 'status', 'size', 'location', 'os_glance_x'):
            self.assertIn(repr(key), self.metadata_refusal({key: 'v'}))
        self.check(identity='v', os_distro='v')

    def test_length_of_a_value(self) -> None:
        self.check(key='語' * 255)
        self.check(key='')
        text = self.metadata_refusal({'colour': '語' * 256})
        self.assertIn("'colour' has 256 characters", text)

    def test_names_of_fields_are_no_keys(self) -> None:
        for key in ('id', 'owner', 'size', 'checksum', 'os_glance_task'):
            text = self.metadata_refusal({key: 'v'})
            self.assertIn(f"'{key}' is reserved", text)
        self.check(owner_id='v')
