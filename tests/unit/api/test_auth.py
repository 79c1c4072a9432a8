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

import base64
import dataclasses
import os
import pathlib
import socket
from typing import Any
import uuid

import bcrypt

from nova_snap import exception
from nova_snap.api import app
from nova_snap.api import auth
from nova_snap.api import context as context_lib
from nova_snap.api import peer as peer_lib
from nova_snap.api import request as request_lib
from nova_snap.api import server
from nova_snap.api import sock_diag
from nova_snap.objects import instance as instance_lib
from tests.unit import base as unit_base
from tests.unit.api import base
from tests.unit.compute import base as compute_base

SERVER = compute_base.INSTANCE.uuid
PATH = f'/v2.1/servers/{SERVER}/os-instance-actions'


class TestNoAuth(base.ApiTestCase):
    """Without an identity."""

    def setUp(self) -> None:
        super().setUp()
        self.uid = 0
        self.patch(
            peer_lib,
            'sockets',
            lambda here, there: [
                sock_diag.Socket(here, there, sock_diag.ESTABLISHED, self.uid)
            ],
        )

    def test_requests_of_this_host(self) -> None:
        for peer in ('127.0.0.1', '127.9.9.9', '::1', '::ffff:127.0.0.1', ''):
            self.assertEqual(200, self.status(peer), peer)

    def test_requests_of_other_users(self) -> None:
        self.uid = os.geteuid() + 1
        self.assertEqual(403, self.status('127.0.0.1'))
        self.assertEqual(200, self.status(''))

    def test_requests_through_a_proxy(self) -> None:
        for name in ('Forwarded', 'X-Forwarded-For', 'X-Forwarded-Host'):
            answer = self.status('127.0.0.1', **{name: 'for=127.0.0.1'})
            self.assertEqual(403, answer, name)

    def test_requests_to_names_of_others(self) -> None:
        for host in ('localhost:8774', '127.0.0.1', '[::1]:8774'):
            self.assertEqual(200, self.status('127.0.0.1', Host=host), host)
        for host in ('evil.example:8774', '192.0.2.1', 'localhost.example'):
            self.assertEqual(403, self.status('127.0.0.1', Host=host), host)

    def test_requests_of_others(self) -> None:
        for peer in ('192.0.2.1', '::ffff:192.0.2.1', 'fe80::1', '0.0.0.0'):
            self.assertEqual(403, self.status(peer), peer)

    def status(self, peer: str, **headers: str) -> int:
        """Return the status of an answer to this address."""
        request = self.request('GET', PATH)
        request.headers.update(headers)
        request.environ.update(
            {
                'REMOTE_ADDR': peer,
                'REMOTE_PORT': '1',
                peer_lib.LOCAL_ADDRESS: '127.0.0.1',
            }
        )
        found: int = request.get_response(self.application).status_int
        return found


class TestUnixSocket(unit_base.TestCase):
    """The path of a socket."""

    def test_of_another_program(self) -> None:
        path = str(self.folder() / 'socket')
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(path)
            other.listen()
            self.assertRaises(OSError, server.listening, path, 0)
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
        # Now nobody listens there any more.
        server.listening(path, 0).close()


class TestHttpBasic(base.ApiTestCase):
    """A name and a password."""

    def authentication(self) -> app.Authenticate:
        self.file = self.folder() / 'htpasswd'
        self.write('ü:word')
        return auth.HttpBasic(str(self.file), base.PROJECT)

    def write(self, text: str) -> None:
        """Write the file, with a name and a password."""
        name, _colon, password = text.partition(':')
        hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
        self.file.write_text(f'{name}:{hashed}\n')

    def answer(self, text: str) -> Any:
        """Send a request with a name and a password."""
        token = base64.b64encode(text.encode()).decode()
        return self.get(PATH, Authorization=f'Basic {token}')

    def test_right(self) -> None:
        self.assertEqual(200, self.answer('ü:word').status_int)

    def test_changes_at_once(self) -> None:
        self.write('you:key')
        self.assertEqual(200, self.answer('you:key').status_int)
        self.assertEqual(401, self.answer('ü:word').status_int)

    def test_wrong(self) -> None:
        for text in ('ü:wor', 'u:word', ':', 'ü', 'ü:' + 'x' * 80, '\0:\0'):
            answer = self.answer(text)
            self.assert_error(answer, 401, 'unauthorized', 'authentication')
            self.assertIn('Basic', answer.headers['WWW-Authenticate'])

    def test_other_headers(self) -> None:
        for header in ('Bearer x', 'Basic', 'Basic %', 'x'):
            answer = self.get(PATH, Authorization=header)
            self.assertEqual(401, answer.status_int, header)
        self.assertEqual(401, self.get(PATH).status_int)

    def test_the_versions_are_for_everybody(self) -> None:
        self.assertEqual(200, self.get('/v2.1').status_int)

    def test_what_is_not_there_is_not_told_to_everybody(self) -> None:
        self.assertEqual(401, self.get('/v2.1/nothing').status_int)

    def test_files_that_can_not_be_used(self) -> None:
        plain = self.folder() / 'plain'
        plain.write_text('you:word\n')
        for path in (plain, pathlib.Path('/nowhere')):
            error = self.assertRaises(
                exception.InvalidConfiguration,
                *(auth.HttpBasic, str(path), base.PROJECT),
            )
            self.assertIn(str(path), str(error))


class TestAddresses(base.ApiTestCase):
    """Where the service may listen."""

    def assert_refused(self, *arguments: Any) -> None:
        """Check that the service does not start."""
        self.assertRaises(
            exception.InvalidConfiguration, auth.require_safe, *arguments
        )

    def test_everywhere_on_this_host(self) -> None:
        for strategy in ('noauth2', 'http_basic'):
            for address in ('127.0.0.1', '::1', '/run/nova-snap.sock'):
                auth.require_safe(strategy, address, False)

    def test_without_identity_nowhere_else(self) -> None:
        for address in ('0.0.0.0', '::', '192.0.2.1', 'host.example', ''):
            self.assert_refused('noauth2', address, True)

    def test_passwords_are_not_sent_in_clear(self) -> None:
        self.assert_refused('http_basic', '0.0.0.0', False)
        auth.require_safe('http_basic', '0.0.0.0', True)


def member(project_id: str) -> context_lib.Context:
    """Return the context of a member of a project."""
    return context_lib.Context(
        'req-1', 'me', project_id, roles=('member', 'reader')
    )


class TestProjects(base.ApiTestCase):
    """Servers of other projects are not there."""

    #: Who sends requests.
    context_of_user = member('mine')

    def authentication(self) -> app.Authenticate:
        def found(_request: request_lib.Request) -> context_lib.Context:
            return self.context_of_user

        return found

    def status(self, project_id: str | None) -> int:
        """Return the status of an answer about a server of a project."""
        server = instance_lib.Instance(
            str(uuid.uuid4()), 'web', project_id=project_id
        )
        self.driver.instance = (  # type: ignore[method-assign]
            lambda name: server
        )
        answer = self.call(
            'POST',
            f'/v2.1/servers/{server.uuid}/action',
            {'createImage': {'name': 'x'}},
        )
        self.wait_until(
            'every snapshot has ended',
            lambda: not list(self.services.snapshots),
        )
        found: int = answer.status_int
        return found

    def test_by_nova_s_metadata(self) -> None:
        self.assertEqual(202, self.status('mine'))
        self.assertEqual(404, self.status('theirs'))

    def test_others_belong_to_the_default_project(self) -> None:
        self.assertEqual(404, self.status(None))
        self.context_of_user = member(base.PROJECT)
        self.assertEqual(202, self.status(None))

    def test_an_administrator_sees_all(self) -> None:
        self.context_of_user = dataclasses.replace(
            member('mine'), roles=('admin',), is_admin=True
        )
        self.assertEqual(202, self.status('theirs'))

    def test_actions(self) -> None:
        self.driver.instance = self.nothing  # type: ignore[method-assign]
        self.actions.begin(
            context_lib.Context('req-1', 'me', 'theirs'),
            *(SERVER, 'createImage', 'x'),
        )
        for version in ('2.1', '2.21'):
            answer = self.get(PATH, version=version)
            self.assertEqual(404, answer.status_int)

    def test_actions_of_a_server_that_is_gone(self) -> None:
        self.driver.instance = self.nothing  # type: ignore[method-assign]
        self.actions.begin(
            context_lib.Context('req-1', 'me', 'mine'),
            *(SERVER, 'createImage', 'x'),
        )
        self.assertEqual(404, self.get(PATH, version='2.20').status_int)
        self.assertEqual(200, self.get(PATH, version='2.21').status_int)

    def nothing(self, server: str) -> instance_lib.Instance:
        """Find no server."""
        raise exception.InstanceNotFound(server=server)
