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

"""A real Keystone for tests: SQLite, fernet tokens, one region.

Open this file for who may log in and where the catalog says that a service
is.
"""

import base64
from collections.abc import Mapping
import hashlib
import os
import pathlib
import shutil
import socket
import tempfile
from typing import Any

from keystoneauth1 import adapter
from keystoneauth1 import session
from keystoneauth1.identity import v3

from tests.lab import command
from tests.lab import daemon
from tests.lab import paths
from tests.lab import volume_servers

REGION = 'RegionOne'
PASSWORD = 'lab'

DATABASE = 'keystone.sqlite'

CONFIGURATION = """\
[DEFAULT]
log_file = {directory}/keystone.log
[database]
connection = sqlite:///{data}/{database}
[token]
provider = fernet
expiration = {expiration}
[fernet_tokens]
key_repository = {data}/keys
[fernet_receipts]
key_repository = {data}/keys
[credential]
key_repository = {data}/keys
[cache]
enabled = false
# Less than what the lab's logins would wait for; 4 is the least that bcrypt
# takes.
[identity]
password_hash_rounds = 4
[oslo_messaging_notifications]
driver = noop
"""

GUNICORN = """\
wsgi_app = 'keystone.wsgi.api:application'
bind = 'fd://{fd}'
workers = 1
threads = 8
timeout = 600
"""


class Keystone:
    """Keystone on a free port of the loopback address.

    :param directory: where everything is kept.
    :ivar url: with the version.
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.url = ''
        self._config = directory / 'keystone.conf'
        self._server = daemon.Daemon(directory / 'server.log')

    def start(self) -> None:
        """Return once the administrator can log in."""
        self.begin()
        self.wait()

    def begin(self) -> None:
        """Start it; its URL is known then, and others may start beside it."""
        self._configure(self.directory)
        self._make_keys()
        shutil.copyfile(_database(), self.directory / DATABASE)
        self._listen()

    def wait(self) -> None:
        """Return once the administrator can log in, after :meth:`begin`."""
        self._server.wait_for_answer(self.url)
        self.add_service('identity', 'keystone', self.url)

    def start_beside(self, other: 'Keystone', expiration: int) -> None:
        """Return once this one issues tokens of another, which end sooner.

        Each validates the tokens of the other.

        :param expiration: seconds for which a token is valid.
        """
        self._configure(other.directory, expiration)
        self._listen()
        self._server.wait_for_answer(self.url)

    def make_database(self) -> None:
        """Make the database that :meth:`start` begins with.

        It has the administrator, the usual roles and the region.
        """
        self._configure(self.directory)
        self._make_keys()
        self._manage('db_sync')
        self._manage(
            *('bootstrap', '--bootstrap-password', PASSWORD),
            *('--bootstrap-region-id', REGION),
        )

    def _make_keys(self) -> None:
        """Make a primary key and the next one, as fernet_setup does."""
        keys = self.directory / 'keys'
        keys.mkdir(mode=0o700)
        for name in ('0', '1'):
            key = base64.urlsafe_b64encode(os.urandom(32))
            (keys / name).write_bytes(key)

    def _listen(self) -> None:
        """Start the server, whose clients wait until it accepts them."""
        with socket.create_server(('127.0.0.1', 0)) as listener:
            port = listener.getsockname()[1]
            self.url = f'http://127.0.0.1:{port}/v3'
            self._spawn(listener.fileno())

    def _configure(self, data: pathlib.Path, expiration: int = 3600) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._config.write_text(
            CONFIGURATION.format(
                directory=self.directory,
                data=data,
                database=DATABASE,
                expiration=expiration,
            )
        )

    def stop(self) -> None:
        """End it."""
        self._server.stop()

    def login(self, user: str = 'admin', project: str = 'admin') -> Any:
        """Return a session of a user."""
        return session.Session(
            auth=v3.Password(**self.credentials(user, project))
        )

    def credentials(self, user: str, project: str) -> dict[str, str]:
        """Return keystoneauth's options for the login of a user."""
        return {
            'auth_url': self.url,
            'username': user,
            'password': PASSWORD,
            'project_name': project,
            'user_domain_id': 'default',
            'project_domain_id': 'default',
        }

    def add_project(self, name: str) -> str:
        """Add a project with a user of the same name, a plain member.

        :return: the project's id.
        """
        project = self._create(
            'projects', 'project', name=name, domain_id='default'
        )
        self.add_user(name, project, 'member')
        return project

    def add_user(self, name: str, project_id: str, *roles: str) -> None:
        """Add a user with roles in a project; roles that imply others, too."""
        user = self._create(
            'users',
            'user',
            name=name,
            password=PASSWORD,
            domain_id='default',
        )
        api = self._api()
        for role in roles:
            (found,) = api.get(f'/roles?name={role}').json()['roles']
            api.put(f'/projects/{project_id}/users/{user}/roles/{found["id"]}')

    def add_service(self, kind: str, name: str, url: str) -> str:
        """Say in the catalog where a service is; return the entry's id."""
        service = self._create('services', 'service', type=kind, name=name)
        for interface in ('public', 'internal'):
            self._create(
                'endpoints',
                'endpoint',
                service_id=service,
                interface=interface,
                region_id=REGION,
                url=url,
            )
        return service

    def delete_service(self, service: str) -> None:
        """Remove a service from the catalog, by the id of its entry."""
        self._api().delete(f'/services/{service}')

    def get(self, path: str) -> Any:
        """Return what the administrator gets from the API."""
        return self._api().get(path).json()

    def revoke(self, token: str) -> None:
        """End a token, as its user does at the end of a session."""
        self._api().delete('/auth/tokens', headers={'X-Subject-Token': token})

    def accepts(self, token: str) -> bool:
        """Return True if a token is valid."""
        answer = self._api().get(
            '/auth/tokens',
            headers={'X-Subject-Token': token},
            raise_exc=False,
        )
        return bool(answer.status_code == 200)

    def _create(self, path: str, kind: str, **fields: str) -> str:
        body: Mapping[str, Any] = {kind: fields}
        answer = self._api().post(f'/{path}', json=body)
        return str(answer.json()[kind]['id'])

    def _api(self) -> Any:
        return adapter.Adapter(self.login(), endpoint_override=self.url)

    def _manage(self, *arguments: str) -> None:
        command.run(
            *(volume_servers.program('keystone-manage'), '--config-file'),
            *(self._config, *arguments),
        )

    def _spawn(self, fd: int) -> None:
        # Keystone reads the command line, too, so there must be none.
        config = self.directory / 'gunicorn.conf.py'
        config.write_text(GUNICORN.format(fd=fd))
        self._server.start(
            [volume_servers.program('gunicorn')],
            env={
                'GUNICORN_CMD_ARGS': f'--config {config}',
                'OS_KEYSTONE_CONFIG_DIR': str(self.directory),
                # Where gunicorn puts its control socket.
                'XDG_RUNTIME_DIR': str(self.directory),
            },
            pass_fds=[fd],
        )


def _database() -> pathlib.Path:
    """Return a new database; make it if no lab of this machine has it.

    Two programs that import all of Keystone would make it for each lab.
    """
    wanted = hashlib.sha256((volume_servers.root() / 'installed').read_bytes())
    kept = paths.cache() / f'keystone-{wanted.hexdigest()[:12]}.sqlite'
    with paths.locked('keystone'):
        if not kept.exists():
            with tempfile.TemporaryDirectory(dir=paths.cache()) as work:
                maker = Keystone(pathlib.Path(work))
                maker.make_database()
                (maker.directory / DATABASE).replace(kept)
    return kept
