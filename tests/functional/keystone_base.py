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

"""What tests of ``nova-snap-api`` with a real Keystone and Glance share."""

from typing import Any

from tests.functional import api_base
from tests.functional import base
from tests.functional import content
from tests.lab import domain
from tests.lab import fault_proxy
from tests.lab import tenants

CREATE_IMAGE = {'createImage': {'name': 'image'}}


class KeystoneTestCase(api_base.ServiceTestCase):
    """A running guest of a project, and the service beside it.

    :ivar proxy: stands between the service and Glance.
    """

    GUEST_GROUP = 'keystone'

    def setUp(self) -> None:
        self.lab = tenants.shared_lab()
        self.proxy = fault_proxy.FaultProxy(self.lab.glance.url)
        self.proxy.start()
        self.addCleanup(self.proxy.stop)
        login = self.lab.login()
        self.OPTIONS = {
            'api': {'auth_strategy': 'keystone'},
            'keystone_authtoken': {
                **login,
                'www_authenticate_uri': self.lab.keystone.url,
            },
            'service_user': {**login, 'send_service_user_token': 'true'},
            'glance': {
                **login,
                'endpoint_override': self.proxy.url,
                'num_retries': '0',
            },
            'snapshot': {
                **content.PULL['snapshot'],
                'image_service': 'glance',
                # Compressed, the disk of a test is sent in two or three
                # pieces.
                'compression': 'off',
            },
        }
        super().setUp()
        self.guest = self.class_guest(metadata=self.metadata(tenants.OWN))
        self.found = base.Found.of(self.guest)
        self.path = f'/v2.1/servers/{self.guest.uuid}'
        self.admin_token = self.lab.token('admin', 'admin')
        self.images_before = self.image_ids()

    def configure(self, **sections: dict[str, str]) -> None:
        """Write the configuration, with a file for the log.

        Nobody reads the output of the service meanwhile, and a pipe that is
        full would stop it.
        """
        log = {'log_file': str(self.state_path / 'service.log')}
        sections['DEFAULT'] = {**log, **sections.get('DEFAULT', {})}
        super().configure(**sections)

    def metadata(self, project: str) -> domain.NovaMetadata:
        """Return Nova's metadata of a guest of a project."""
        return domain.NovaMetadata(
            'web', project_id=self.lab.projects[project]
        )

    def be(self, user: str, project: str = tenants.OWN) -> None:
        """Send the requests of a user from now on."""
        self.use(self.lab.token(user, project))

    def use(self, token: str) -> None:
        """Send requests with a token from now on."""
        self.headers['X-Auth-Token'] = token

    def action(self, document: Any = CREATE_IMAGE) -> tuple[int, Any]:
        """Have something done to the guest."""
        return self.call('POST', f'{self.path}/action', document)

    def begin(self, document: Any = CREATE_IMAGE) -> str:
        """Begin an image of the guest; return its ID."""
        status, answer = self.action(document)
        self.assertEqual(202, status, answer)
        image_id: str = answer['image_id']
        return image_id

    def event(self) -> Any:
        """Return the event of the last action, as an administrator sees it."""
        own = dict(self.headers)
        self.use(self.admin_token)
        try:
            return self._event()
        finally:
            self.headers = own

    def _event(self) -> Any:
        path = f'{self.path}/os-instance-actions'
        last = self.get(path)[1]['instanceActions'][0]
        shown = self.get(f'{path}/{last["request_id"]}')[1]['instanceAction']
        return shown['events'][0] if shown['events'] else {'result': None}

    def wait_for_result(self, service: Any) -> Any:
        """Wait until the last action has ended; return its event."""
        self.wait_until(
            service, 'the action has ended', lambda: self.event()['result']
        )
        return self.event()

    def make(self, service: Any, document: Any = CREATE_IMAGE) -> str:
        """Make an image of the guest; return its ID."""
        image_id = self.begin(document)
        event = self.wait_for_result(service)
        self.assertEqual('Success', event['result'], event)
        return image_id

    def image_ids(self) -> set[str]:
        """Return the IDs of all images."""
        return {image['id'] for image in self.lab.images().list()}

    def assert_gone(self, image_id: str) -> None:
        """Check that nothing of an image is left, and the guest is well."""
        self.assertNotIn(image_id, self.image_ids())
        self.assert_as_found(self.guest, self.found)
        self.assert_nothing_left()

    def assert_owner(self, image_id: str, project: str) -> None:
        """Check whose an image is, which is active."""
        image = self.lab.images().get(image_id)
        self.assertEqual('active', image['status'])
        self.assertEqual(self.lab.projects[project], image['owner'])
