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
import pathlib

from tests.functional import keystone_base
from tests.lab import exhaustive
from tests.lab import fault_proxy
from tests.lab import guest as guest_lib
from tests.lab import tenants

UPLOAD = r'/v2/images/[^/]+/file$'


class AccessTest(keystone_base.KeystoneTestCase):
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
            body = keystone_base.CREATE_IMAGE if method == 'POST' else None
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


class ImagesTest(keystone_base.KeystoneTestCase):
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


@exhaustive.usually()
class ImagesEventletTest(ImagesTest):
    """The same with eventlet, which is the default."""

    BACKEND = 'eventlet'
