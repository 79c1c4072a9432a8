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

"""``nova-snap-api`` with a real Keystone, and a Glance that asks it."""

from collections.abc import Iterator
import contextlib
import http.client
import json
import pathlib
import subprocess
from typing import Any
from typing import ClassVar

from tests.functional import api_base
from tests.functional import base
from tests.functional import content
from tests.lab import domain
from tests.lab import exhaustive
from tests.lab import fault_proxy
from tests.lab import guest as guest_lib
from tests.lab import tenants

#: Made by "tools/setup.sh --clients".
CLIENTS = pathlib.Path(__file__).parents[2] / '.lab' / 'clients'

CLOUDS = """\
clouds:
  host:
    auth:
      auth_url: {auth_url}
      username: {username}
      password: {password}
      project_name: {project_name}
      user_domain_id: default
      project_domain_id: default
    region_name: RegionOne
    compute_endpoint_override: {compute}/v2.1
"""

CREATE_IMAGE = {'createImage': {'name': 'image'}}

UPLOAD = r'/v2/images/[^/]+/file$'


class KeystoneTestCase(api_base.ServiceTestCase):
    """A running guest of a project, and the service beside it.

    :ivar proxy: stands between the service and Glance.
    """

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


class AccessTest(KeystoneTestCase):
    """What users see and may do."""

    @contextlib.contextmanager
    def guest_of_others(self) -> Iterator[guest_lib.Guest]:
        """Have a guest of another project, which does not run."""
        guest: guest_lib.Guest = self.make_guest(
            start=False, metadata=self.metadata(tenants.OTHER)
        )
        yield guest
        guest.remove()

    def listed(self, query: str = '') -> set[str]:
        """Return the IDs of the servers that a user sees."""
        status, answer = self.get(f'/v2.1/servers/detail{query}')
        self.assertEqual(200, status, answer)
        return {server['id'] for server in answer['servers']}

    def test_projects_and_roles(self) -> None:
        self.start_service()
        with self.guest_of_others() as foreign:
            self.be(tenants.OWN)
            self.assertEqual({self.guest.uuid}, self.listed())
            self.assertEqual(403, self.get('/v2.1/servers?all_tenants=1')[0])
            self.assertEqual(403, self.get('/v2.1/os-hypervisors')[0])
            self.check_nothing_is_there(f'/v2.1/servers/{foreign.uuid}')

            self.be(tenants.OTHER, tenants.OTHER)
            self.assertEqual({foreign.uuid}, self.listed())
            self.check_nothing_is_there(self.path)

            self.be(tenants.READER)
            self.assertEqual({self.guest.uuid}, self.listed())
            self.assertEqual(200, self.get(self.path)[0])
            self.assertEqual(403, self.action()[0])

            self.be('admin', 'admin')
            self.assertEqual(set(), self.listed())
            self.assertEqual(
                {self.guest.uuid, foreign.uuid}, self.listed('?all_tenants=1')
            )
            self.assertEqual(200, self.get(self.path)[0])
        self.assertEqual(self.images_before, self.image_ids())

    def check_nothing_is_there(self, path: str) -> None:
        """Check that a server is not there for a user."""
        for method, below in (
            ('GET', ''),
            ('GET', '/os-instance-actions'),
            ('GET', '/os-instance-actions/req-1'),
            ('GET', '/snapshots'),
            ('DELETE', '/snapshots/x'),
            ('POST', '/action'),
        ):
            body = CREATE_IMAGE if method == 'POST' else None
            answer = self.call(method, path + below, body)
            self.assertEqual(404, answer[0], (method, below, answer))

    def test_tokens(self) -> None:
        self.start_service()
        self.assertEqual(401, self.get('/v2.1/servers')[0])
        with contextlib.closing(self.make_connection()) as connection:
            answer = self._answer(connection)
            self.assertIn(
                self.lab.keystone.url, answer.headers['WWW-Authenticate']
            )
        # A client can't name itself.
        self.headers |= {
            'X-Identity-Status': 'Confirmed',
            'X-User-Id': 'me',
            'X-Project-Id': self.lab.projects[tenants.OWN],
            'X-Roles': 'admin',
        }
        self.assertEqual(401, self.get('/v2.1/servers')[0])
        for forged in ('x', 'gAAAAABmx' + 'A' * 200, ''):
            self.use(forged)
            self.assertEqual(401, self.get('/v2.1/servers')[0], forged)
        self.use(self.lab.token_without_project(tenants.OWN))
        self.assertEqual(403, self.get('/v2.1/servers')[0])

    def _answer(
        self, connection: http.client.HTTPConnection
    ) -> http.client.HTTPResponse:
        connection.request('GET', '/v2.1/servers')
        return connection.getresponse()

    def test_expired_tokens(self) -> None:
        service = self.start_service()
        token = self.lab.token(tenants.OWN, hasty=True)
        self.use(token)
        self.wait_until(
            service,
            'the token has expired',
            lambda: self.get('/v2.1/servers')[0] == 401,
        )
        # Only a service can use it once more.
        self.headers['X-Service-Token'] = self.lab.token(tenants.OWN)
        self.assertEqual(401, self.get('/v2.1/servers')[0])
        service_token = self.lab.token(tenants.SERVICE, 'admin')
        self.headers['X-Service-Token'] = service_token
        self.assertEqual(200, self.get('/v2.1/servers')[0])


class ImagesTest(KeystoneTestCase):
    """Images of users."""

    def test_images_and_backups_belong_to_the_user(self) -> None:
        service = self.start_service()

        def backup(user: str, project: str) -> str:
            self.be(user, project)
            fields = {'name': 'x', 'backup_type': 'daily', 'rotation': 1}
            image_id = self.make(service, {'createBackup': fields})
            self.assert_owner(image_id, project)
            return image_id

        first = backup(tenants.OWN, tenants.OWN)
        # An administrator sees the first one, too.
        others = backup('admin', 'admin')
        last = backup(tenants.OWN, tenants.OWN)
        left = self.image_ids() - self.images_before
        self.assertEqual({others, last}, left)
        self.assertNotIn(first, left)
        # The project of the server may use what the administrator has made.
        self.assertEqual(
            [self.lab.projects[tenants.OWN]], self.lab.members(others)
        )
        self.assert_nothing_left()

    def test_token_expires_during_the_upload(self) -> None:
        service = self.start_service()
        token = ''

        def wait(_request: fault_proxy.Request) -> None:
            self.wait_until(
                service,
                'the token has expired',
                lambda: not self.lab.is_valid(token),
            )

        self.proxy.add('PUT', UPLOAD, fault_proxy.Call(wait, 1 << 20))
        status, answer = 401, None
        while status == 401:
            token = self.lab.token(tenants.OWN, hasty=True)
            self.use(token)
            status, answer = self.action()
        self.assertEqual(202, status, answer)
        event = self.wait_for_result(service)
        self.assertEqual('Success', event['result'], event)
        self.assertFalse(self.lab.is_valid(token))
        self.assert_owner(answer['image_id'], tenants.OWN)

    def test_token_is_revoked_before_the_upload(self) -> None:
        """So the user's own token can't remove the record any more."""
        service = self.start_service()
        self.be(tenants.OWN)

        token = self.headers['X-Auth-Token']

        def revoke(_request: fault_proxy.Request) -> None:
            self.lab.keystone.revoke(token)
            self.wait_until(
                service,
                'Glance does not take the token',
                lambda: not self.lab.is_taken_by_glance(token),
            )

        # This is the last request before the data are sent.
        self.proxy.add(
            'GET', 'sort=created_at', fault_proxy.Call(revoke), times=1
        )
        image_id = self.begin()
        event = self.wait_for_result(service)
        self.assertEqual('Error', event['result'], event)
        self.assertIn('401', event['details'])
        self.assert_gone(image_id)

    def test_killed_during_the_upload(self) -> None:
        service = self.start_service()
        self.be(tenants.OWN)
        self.proxy.add('PUT', UPLOAD, fault_proxy.Stall(1 << 20))
        image_id = self.begin()
        self.wait_until(
            service,
            'data are sent',
            lambda: self.lab.images().get(image_id)['status'] == 'saving',
        )
        self.assertEqual([], self.files_with(self.headers['X-Auth-Token']))
        log = (self.state_path / 'service.log').read_text()
        self.assertIn('Listening', log)
        service.kill()
        service.wait()
        service = self.start_service()
        self.assert_gone(image_id)
        event = self.event()
        self.assertEqual('Error', event['result'])
        self.assertIn('service ended', event['details'])
        # What the user sees of that has no reason, as in Nova.
        self.assertEqual('Error', self._event()['result'])
        self.assertNotIn('details', self._event())
        self.assert_owner(self.make(service), tenants.OWN)

    def files_with(self, token: str) -> list[pathlib.Path]:
        """Return the files of the service, its log too, with a token."""
        return [
            path
            for path in self.state_path.rglob('*')
            if path.is_file() and token.encode() in path.read_bytes()
        ]


@exhaustive.usually('test_killed_during_the_upload')
class ImagesEventletTest(ImagesTest):
    """The same with eventlet, which is the default."""

    BACKEND = 'eventlet'


class ClientTest(KeystoneTestCase):
    """python-openstackclient with a password."""

    VERSION: ClassVar[str] = '10.5.0'

    def openstack(self, *arguments: str) -> Any:
        """Run a command; return the document that it prints."""
        clouds = self.state_path / 'clouds.yaml'
        login = self.lab.keystone.credentials(tenants.OWN, tenants.OWN)
        clouds.write_text(
            CLOUDS.format(compute=f'http://127.0.0.1:{self.port}', **login)
        )
        process = subprocess.run(
            [
                CLIENTS / self.VERSION / 'bin' / 'openstack',
                *(*arguments, '-f', 'json'),
            ],
            env=base.environment(
                OS_CLIENT_CONFIG_FILE=str(clouds), OS_CLOUD='host'
            ),
            capture_output=True,
            text=True,
            timeout=base.TIMEOUT,
        )
        self.assertEqual(0, process.returncode, process.stderr)
        return json.loads(process.stdout)

    def test_a_user_takes_images(self) -> None:
        self.start_service()
        (server,) = self.openstack('server', 'list')
        self.assertEqual(self.guest.uuid, server['ID'])
        made = [
            self.openstack(
                *('server', *words, '--wait', '--name', f'{words[0]}-image'),
                self.guest.uuid,
            )
            for words in (('image', 'create'), ('backup', 'create'))
        ]
        for image in made:
            self.assert_owner(image['id'], tenants.OWN)
            self.lab.images(tenants.OWN, tenants.OWN).delete(image['id'])
        self.assert_nothing_left()


@exhaustive.usually()
class OldClientTest(ClientTest):
    """The oldest that is promised, with eventlet's server."""

    BACKEND = 'eventlet'
    VERSION = '7.4.0'
