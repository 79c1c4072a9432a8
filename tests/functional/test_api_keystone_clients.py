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

"""OpenStack's own clients with a password: Keystone's catalog names the rest.

The service is in the catalog as Nova would be, and Glance beside it.
"""

import json
from typing import Any
from typing import ClassVar

import openstack

from tests.functional import keystone_base
from tests.lab import clients
from tests.lab import exhaustive
from tests.lab import keystone as keystone_lib
from tests.lab import tenants


class ClientsTest(keystone_base.KeystoneTestCase):
    """A member of the guest's project; the service has eventlet's server."""

    BACKEND = 'eventlet'

    #: Of python-openstackclient: the newest.
    VERSION: ClassVar[str] = '10.5.0'

    def setUp(self) -> None:
        super().setUp()
        self.service = self.start_service()
        keystone = self.lab.keystone
        entry = keystone.add_service(
            'compute', 'nova', f'http://127.0.0.1:{self.port}/v2.1'
        )
        self.addCleanup(keystone.delete_service, entry)
        self.login = keystone.credentials(tenants.OWN, tenants.OWN)
        self.be(tenants.OWN)

    def wait_until_idle(self) -> None:
        """Wait until another image of the server would be no conflict."""
        self.wait_until(
            self.service,
            'the server has no task state',
            lambda: (
                self.get(self.path)[1]['server']['OS-EXT-STS:task_state']
                is None
            ),
        )

    def check_and_delete(self, image_id: str) -> None:
        """Check that an image is active, and the user's own; delete it."""
        self.assert_owner(image_id, tenants.OWN)
        self.lab.images(tenants.OWN, tenants.OWN).delete(image_id)

    def test_openstackclient(self) -> None:
        clouds = self.state_path / 'clouds.yaml'
        clouds.write_text(clients.WITH_KEYSTONE.format(**self.login))
        with clients.Shell(
            clients.openstack(self.VERSION), clients.environment(clouds)
        ) as shell:

            def run(*command: str) -> Any:
                return json.loads(shell.run(*command, '-f', 'json'))

            (server,) = run('server', 'list')
            self.assertEqual(self.guest.uuid, server['ID'])
            shown = run('server', 'show', server['Name'])
            self.assertEqual(
                self.lab.projects[tenants.OWN], shown['project_id']
            )
            for words in (('image', 'create'), ('backup', 'create')):
                made = run('server', *words, '--wait', self.guest.uuid)
                self.check_and_delete(made['id'])
                # The image is active a moment before the action has ended.
                self.wait_until_idle()
            events = run('server', 'event', 'list', self.guest.uuid)
            self.assertEqual(
                ['createBackup', 'createImage'],
                [event['Action'] for event in events],
            )
        self.assert_nothing_left()

    def test_novaclient(self) -> None:
        # With --poll, it waits for the task state by itself.
        image = clients.properties(
            self.nova('image-create', '--poll', '--show', 'web', 'image')
        )
        self.assertEqual('active', image['status'])
        self.check_and_delete(image['id'])
        backup = clients.properties(
            self.nova('backup', 'web', 'backup', 'daily', '1')
        )
        self.wait_until_idle()
        self.check_and_delete(backup['id'])
        self.assert_nothing_left()

    def nova(self, *arguments: str) -> list[dict[str, str]]:
        """Run python-novaclient; return the rows of the table it prints."""
        variables = {f'OS_{k.upper()}': v for k, v in self.login.items()}
        variables['OS_REGION_NAME'] = keystone_lib.REGION
        return clients.nova(variables, *arguments)

    def test_openstacksdk(self) -> None:
        cloud = openstack.connection.Connection(
            auth=self.login, region_name=keystone_lib.REGION
        )
        (server,) = cloud.compute.servers()
        self.assertEqual(self.guest.uuid, server.id)
        shown = cloud.compute.get_server(server.id)
        self.assertEqual(self.lab.projects[tenants.OWN], shown.project_id)
        image = cloud.compute.create_server_image(
            server.id, 'by the SDK', wait=True
        )
        self.assertEqual('active', image.status)
        self.wait_until_idle()
        self.check_and_delete(image.id)
        self.assert_nothing_left()


@exhaustive.usually()
class OldClientsTest(ClientsTest):
    """The oldest openstackclient that is promised, with native threads."""

    BACKEND = 'threading'
    VERSION = '7.4.0'
