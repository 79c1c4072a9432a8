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

"""What Nova stands on goes away in the middle of a snapshot."""

from tests.lab import fault_proxy
from tests.openstack import base
from tests.openstack import mode

UPLOAD = r'/v2/images/[^/]+/file$'


class FaultTests:
    """What holds for both methods.

    :cvar BROKEN: what becomes of an image whose upload breaks off once.
    """

    BROKEN: str

    def test_glance_breaks_in_the_middle(self) -> None:
        server = self.shared_server()
        proxy = self.cloud.image_proxy
        proxy.add('PUT', UPLOAD, fault_proxy.CutRequest(1 << 20))
        self.addCleanup(proxy.clear)
        with self.as_found(server):
            image_id = self.begin(server)
            self.wait_until_idle(server)
        self.assertEqual(self.BROKEN, self.image_status(image_id))
        proxy.clear()
        with self.as_found(server):
            self.take(server)

    def test_libvirtd_restarts(self: base.CloudTestCase) -> None:
        server = self.shared_server()
        ticks = server.ticks() - 40
        with self.as_found(server):
            with self.gates.held('upload') as wait:
                image_id = self.begin(server)
                wait()
                self.cloud.libvirtd.restart()
            self.wait_until_idle(server)
            if self.image_status(image_id) == 'active':
                self.assert_image_right(image_id, ticks)
            else:
                self.wait_for_image(image_id, 'gone')
        with self.as_found(server):
            self.take(server)


class TestMirror(FaultTests, base.CloudTestCase):
    """blockRebase, native threads."""

    MODE = mode.Mode(method='mirror')
    #: It has the image in a file, and sends it again.
    BROKEN = 'active'

    def test_glance_is_down(self) -> None:
        server = self.shared_server()
        glance = self.cloud.glance
        with self.as_found(server):
            with self.gates.held('upload') as wait:
                image_id = self.begin(server)
                wait()
                glance.api.stop()
            self.wait_until_idle(server)
            self.assertEqual('ACTIVE', server.status())
            glance.start()
            glance.wait_until_up()
            # Nobody could delete the record while Glance was down: it is in
            # the journal, which nova-compute reads once a minute, and when
            # it starts.
            self.assertIn(self.image_status(image_id), ('queued', 'gone'))
            self.compute.kill()
            self.compute.start()
            self.wait_for_image(image_id, 'gone')

    def test_rabbitmq_restarts(self) -> None:
        server = self.shared_server()
        with self.as_found(server):
            with self.gates.held('upload') as wait:
                image_id = self.begin(server)
                wait()
                self.cloud.rabbitmq.restart()
            self.wait_for_image(image_id)

    def test_libvirtd_restarts_while_mirroring(self) -> None:
        server = self.shared_server()
        with self.as_found(server):
            with self.gates.held('poll') as wait:
                image_id = self.begin(server)
                wait()
                self.cloud.libvirtd.restart()
            self.wait_until_idle(server)
            self.assertIn(self.image_status(image_id), ('active', 'gone'))
        with self.as_found(server):
            self.take(server)


class TestPull(FaultTests, base.CloudTestCase):
    """A point-in-time export, under eventlet."""

    # Compressed, the disk would be sent before anything could break.
    MODE = mode.Mode(method='pull', backend='eventlet').with_options(
        {'nova_snap.compression': 'off'}
    )
    #: What was exported can be read once.
    BROKEN = 'gone'
