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

"""A running server: its image has all, and the server never notices."""

from testtools import content

from tests.lab import event_watch
from tests.lab import exhaustive
from tests.openstack import base
from tests.openstack import mode

MIRROR = mode.Mode(method='mirror', backend='threading')
PULL = mode.Mode(method='pull', backend='eventlet')
MODES = exhaustive.choose(
    (
        MIRROR,
        mode.Mode(method='mirror', backend='eventlet'),
        mode.Mode(method='pull', backend='threading'),
        PULL,
    ),
    (MIRROR, PULL),
)


class TestLive(base.CloudTestCase):
    """Each method, with native threads and under eventlet."""

    MODE = MIRROR

    def test_client_image_boots_and_server_never_stops(self) -> None:
        for each in MODES:
            with self.subTest(str(each)):
                self.compute.run(each)
                self.check(each)

    def check(self, each: mode.Mode) -> None:
        server = self.shared_server()
        server.wait_for_ticks(40)
        ticks = server.ticks() - 40  # those are on the disk, synced
        watch = event_watch.EventWatch(self.cloud.libvirtd, server)
        with self.as_found(server), watch, server.gap_watch() as gaps:
            image_id = self.take_with_client(server, f'live {each}')
        told = f'{each}: longest gap {gaps.result.longest_ms:.0f} ms'
        self.addDetailUniqueName('gap', content.text_content(told))
        self.assertNotIn('lifecycle: Suspended Paused', watch.events)
        self.assert_image_right(image_id, ticks)
        self.assert_boots(image_id, ticks).delete()
