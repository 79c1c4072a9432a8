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

"""Three snapshots at once where two are allowed; the service goes on."""

from tests.openstack import base
from tests.openstack import mode
from tests.openstack import server as server_lib

COUNT = 3
LIMIT = 2

#: With native threads Nova takes the larger one for both (nova/conf/compute.py
#: of Nova 34), and the default for builds is larger.
OPTIONS = {
    'DEFAULT.max_concurrent_snapshots': str(LIMIT),
    'DEFAULT.max_concurrent_builds': str(LIMIT),
}

#: Heartbeats that have to come while the snapshots are held.
HEARTBEATS = 3


class TogetherTests:
    """What holds with threads and with eventlet."""

    def test_third_waits_and_service_answers(
        self: base.CloudTestCase,
    ) -> None:
        servers = [
            self.shared_server(name=f'server {number}')
            for number in range(COUNT)
        ]
        for server in servers:
            server.wait_for_ticks(1, 60)
        with self.gates.held('upload') as wait:
            images = [self.begin(server) for server in servers]
            wait()
            self.wait_for_task_states(servers)
            self.check_answers(servers[0])
        for image_id in images:
            self.wait_for_image(image_id)
        for server in servers:
            self.wait_until_idle(server)
            self.assertTrue(server.is_ticking())
            self.assert_nothing_left(server)

    def wait_for_task_states(self, servers: list[server_lib.Server]) -> None:
        """Until two upload; the third is queued, and has not begun."""

        def arrived() -> bool:
            states = [server.task_state() for server in servers]
            return sorted(map(str, states)) == (
                ['image_snapshot'] + ['image_uploading'] * LIMIT
            )

        servers[0].wait_until(arrived, 'two that upload')

    def check_answers(self, server: server_lib.Server) -> None:
        """Heartbeats come all the while, and calls are answered."""
        compute = self.cloud.connection.compute
        beats = set()

        def enough() -> bool:
            compute.get_server_console_output(server.id, 5)
            (service,) = compute.services(binary='nova-compute')
            beats.add(service.updated_at)
            return len(beats) > HEARTBEATS

        server.wait_until(enough, 'heartbeats')


class TestThreading(TogetherTests, base.CloudTestCase):
    """The mirror, native threads."""

    MODE = mode.Mode(method='mirror').with_options(OPTIONS)

    @classmethod
    def tearDownClass(cls) -> None:
        base.delete_shared_servers()
        super().tearDownClass()


class TestEventlet(TogetherTests, base.CloudTestCase):
    """The export, under eventlet."""

    MODE = mode.Mode(method='pull', backend='eventlet').with_options(OPTIONS)
