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


"""The settings of a connection to Ceph, and what is not in them."""

import dataclasses
import json

from nova_snap.virt.storage import disk_source
from nova_snap.virt.storage import rbd
from tests.unit import base

LOCATION = disk_source.RbdLocation(
    pool='vms',
    image='disk',
    hosts=(('192.0.2.1', '6790'), ('2001:db8::2', '6789')),
    user='nova',
    secret='457eb676-33da-42ec-9a8c-9293d545c337',
)


class SettingsTest(base.TestCase):
    """Settings by the location of an image."""

    def test_of_the_definition(self) -> None:
        settings = rbd._settings(LOCATION, b'key')
        self.assertEqual(
            '192.0.2.1:6790,[2001:db8::2]:6789', settings['mon_host']
        )
        self.assertEqual('a2V5', settings['key'])
        # A command of the socket would show the key.
        self.assertEqual('', settings['admin_socket'])

    def test_every_request_has_a_limit(self) -> None:
        settings = rbd._settings(LOCATION, None)
        for name in (
            'client_mount_timeout',
            'rados_mon_op_timeout',
            'rados_osd_op_timeout',
        ):
            self.assertGreater(int(settings[name]), 0)

    def test_no_login_as_libvirt_without_auth(self) -> None:
        settings = rbd._settings(LOCATION, None)
        self.assertEqual('none', settings['auth_client_required'])
        self.assertNotIn('key', settings)

    def test_ceph_conf_says_how_to_log_in(self) -> None:
        location = dataclasses.replace(LOCATION, conf='/dev/null')
        settings = rbd._settings(location, None)
        self.assertNotIn('auth_client_required', settings)


class JournalTest(base.TestCase):
    """A location comes back from the journal as it was."""

    def test_round_trip(self) -> None:
        data = json.loads(json.dumps(dataclasses.asdict(LOCATION)))
        self.assertEqual(LOCATION, disk_source.RbdLocation.from_data(data))
