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

import json

import testtools

from nova_snap import exception
from nova_snap.compute.volume_backed import record as volume_record
from nova_snap.image import api as image_api
from nova_snap.objects import instance as instance_lib
from tests.unit.compute import volumes

ATTACHED = [
    volume_record.AttachedVolume(
        volumes.device(), volumes.volume(image_metadata=volumes.IMAGE)
    ),
    volume_record.AttachedVolume(
        volumes.device('vdb', volumes.DATA),
        volumes.volume(volumes.DATA, size=7),
    ),
]

#: The fields of an entry that Nova 34 writes (bdm_new_fields without
#: connection_info, nova/block_device.py).
NOVA_FIELDS = {
    'source_type',
    'destination_type',
    'guest_format',
    'device_type',
    'disk_bus',
    'boot_index',
    'device_name',
    'delete_on_termination',
    'snapshot_id',
    'volume_id',
    'volume_size',
    'image_id',
    'no_device',
    'tag',
    'volume_type',
    'encrypted',
    'encryption_secret_uuid',
    'encryption_format',
    'encryption_options',
}


class BuildTest(testtools.TestCase):
    def build(self, metadata=None, non_inheritable=(), flavor=None):
        instance = instance_lib.Instance('i', 'web', flavor=flavor)
        return volume_record.build(
            instance, ATTACHED[0], 'backup', metadata or {}, non_inheritable
        )

    def test_formats_of_an_image_without_data(self):
        record = self.build()
        self.assertEqual('raw', record.disk_format)
        self.assertEqual('bare', record.container_format)
        self.assertEqual('queued', record.status)
        self.assertEqual('private', record.visibility)

    def test_inherits_what_the_volume_keeps_of_its_image(self):
        record = self.build({'color': 'blue'})
        self.assertEqual(
            {
                'base_image_ref': '',
                'color': 'blue',
                'hw_disk_bus': 'scsi',
                'root_device_name': '/dev/vda',
            },
            record.properties,
        )
        self.assertEqual((3, 64), (record.min_disk, record.min_ram))

    def test_what_shall_not_be_inherited(self):
        record = self.build(non_inheritable=['hw_disk_bus'])
        self.assertNotIn('hw_disk_bus', record.properties)

    def test_the_flavors_disk_counts(self):
        record = self.build(flavor=instance_lib.Flavor('m', 1, 9))
        self.assertEqual(9, record.min_disk)

    def test_metadata_does_not_replace_what_is_its_own(self):
        record = self.build(
            {
                'root_device_name': '/dev/x',
                'bdm_v2': 'no',
                'block_device_mapping': '[]',
            }
        )
        self.assertEqual('/dev/vda', record.properties['root_device_name'])
        self.assertNotIn('bdm_v2', record.properties)
        self.assertNotIn('block_device_mapping', record.properties)


class MappingTest(testtools.TestCase):
    def test_entries(self):
        properties = volume_record.mapping(ATTACHED, ['s1', 's2'])
        self.assertEqual('True', properties['bdm_v2'])
        root, data = json.loads(properties['block_device_mapping'])
        self.assertEqual(NOVA_FIELDS, set(root))
        self.assertEqual(NOVA_FIELDS, set(data))
        given = {k: v for k, v in root.items() if v is not None}
        self.assertEqual(
            {
                'source_type': 'snapshot',
                'destination_type': 'volume',
                'snapshot_id': 's1',
                'volume_size': 5,
                'boot_index': 0,
                'delete_on_termination': False,
                'disk_bus': 'virtio',
                'device_type': 'disk',
                'device_name': '/dev/vda',
            },
            given,
        )
        self.assertIsNone(data['boot_index'])
        self.assertEqual(
            ('s2', 7, '/dev/vdb'),
            (data['snapshot_id'], data['volume_size'], data['device_name']),
        )


class NamedSnapshotsTest(testtools.TestCase):
    def named(self, **properties):
        return volume_record.named_snapshots(
            image_api.Image('i', 'x', 'active', properties=properties)
        )

    def test_its_own(self):
        mapping = volume_record.mapping(ATTACHED, ['s1', 's2'])
        self.assertEqual(['s1', 's2'], self.named(**mapping))

    def test_none(self):
        self.assertEqual([], self.named())
        blank = [{'source_type': 'blank', 'snapshot_id': None}]
        self.assertEqual(
            [], self.named(block_device_mapping=json.dumps(blank))
        )

    def test_nonsense(self):
        for text in ('{', '[1]', '1', 'null'):
            self.assertRaises(
                exception.Invalid, self.named, block_device_mapping=text
            )
