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


import uuid

import testtools

from nova_snap.image import api
from nova_snap.image import schema


def record(**fields):
    return api.Image(
        **{'id': str(uuid.uuid4()), 'name': 'n', 'status': 'queued', **fields}
    )


class FieldsTest(testtools.TestCase):
    def test_there_and_back(self):
        image = record(
            disk_format='raw',
            size=5,
            min_ram=1,
            owner='o',
            hash_algorithm='sha512',
            hash_value='ab',
            properties={'a': 'b'},
        )
        fields = schema.to_fields(image)
        self.assertEqual('ab', fields['os_hash_value'])
        self.assertEqual('b', fields['a'])
        self.assertEqual(image, schema.from_fields(fields))

    def test_what_glance_adds_is_no_property(self):
        image = schema.from_fields(
            {
                **schema.to_fields(record()),
                'tags': [],
                'file': '/v2/images/x/file',
                'locations': [],
                'virtual_size': 5,
                'kernel_id': None,
                'os_version': 12,
            }
        )
        self.assertEqual({'os_version': '12'}, image.properties)

    def test_writable_fields(self):
        self.assertEqual(
            {'name': 'x', 'a': 'b'},
            schema.writable_fields({'name': 'x', 'properties': {'a': 'b'}}),
        )
        for changes in ({'size': 1}, {'properties': {'size': '1'}}):
            self.assertRaises(ValueError, schema.writable_fields, changes)


class CheckTest(testtools.TestCase):
    def test_accepted(self):
        for fields in (
            {'name': '快' * 255},
            {'name': ''},
            {'disk_format': 'qcow2', 'container_format': 'bare'},
            {'properties': {'k' * 255: 'v' * 65535}},
            {'properties': {f'k{i}': '' for i in range(128)}},
        ):
            schema.check(record(**fields))

    def test_refused(self):
        for fields in (
            {'name': 'x' * 256},
            {'name': '\N{CAMERA}'},
            {'disk_format': 'qcow3'},
            {'container_format': 'bear'},
            {'visibility': 'secret'},
            {'min_disk': -1},
            {'min_ram': 2**31},
            {'properties': {'': 'v'}},
            {'properties': {'k' * 256: 'v'}},
            {'properties': {'os_glance_importing': 'v'}},
            {'properties': {'deleted': 'v'}},
            {'properties': {'checksum': 'v'}},
            {'properties': {'os_hash_value': 'v'}},
            {'properties': {'k': 5}},
            {'properties': {'k': 'v' * 65536}},
        ):
            self.assertRaises(ValueError, schema.check, record(**fields))
