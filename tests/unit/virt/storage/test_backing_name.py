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


"""Names of backing files; what qemu-img makes of them is in functional."""

import json
from typing import Any

from nova_snap.virt.storage import backing_name
from tests.unit import base

FILE = {'driver': 'file', 'filename': '/srv/a'}


class PathTest(base.TestCase):
    def assert_path(self, path: str | None, name: str | Any) -> None:
        """Check the path of a name, or of fields in JSON."""
        text = name if isinstance(name, str) else f'json:{json.dumps(name)}'
        self.assertEqual(path, backing_name.path(text, 'qcow2'))

    def test_forms_of_a_file(self) -> None:
        self.assert_path('/srv/a', '/srv/a')
        self.assert_path('/srv/a', 'file:/srv/a')
        self.assert_path('///srv/a', 'file:///srv/a')
        self.assert_path('/srv/a', FILE)
        self.assert_path('/srv/a', {**FILE, 'driver': 'host_device'})
        self.assert_path('/srv/a', {'file': FILE})
        self.assert_path('/srv/a', {'driver': 'qcow2', 'file': FILE})
        self.assert_path(
            '/srv/a', {'file.driver': 'file', 'file.filename': '/srv/a'}
        )

    def test_whatever_means_more_than_a_file(self) -> None:
        for fields in (
            {**FILE, 'offset': 512},
            {**FILE, 'driver': 'nbd'},
            {**FILE, 'filename': 7},
            {'filename': '/srv/a'},
            {'driver': 'raw', 'file': FILE},
            {'driver': 'qcow2', 'file': FILE, 'offset': 512},
            {'file': 'node-name'},
            {'file': 'node-name', 'file.filename': '/srv/a'},
            {'file.file.filename': '/srv/a'},
            [],
            'json:{',
            'json:' + '[' * 1010,  # deeper than Python reads
        ):
            self.assert_path(None, fields)
