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

"""A real Cinder for tests: Keystone's logins, SQLite, one storage backend.

Open this file for how Cinder is configured.  Its services run in one process
(``cinder_all.py``).
"""

from collections.abc import Mapping
import dataclasses
import os
import pathlib
import shutil
import socket
from typing import Any

import cinderclient.client

from tests.lab import ceph as ceph_lib
from tests.lab import command
from tests.lab import daemon
from tests.lab import keystone as keystone_lib
from tests.lab import volume_servers

POOL = 'volumes'

#: The user of the lab, and the project of the same name.
USER = 'demo'

CONFIGURATION = """\
[DEFAULT]
log_file = {directory}/cinder.log
transport_url = fake:/
auth_strategy = keystone
host = lab
my_ip = 127.0.0.1
state_path = {directory}
osapi_volume_listen = 127.0.0.1
osapi_volume_listen_port = {port}
osapi_volume_workers = 1
api_paste_config = {etc}/api-paste.ini
rootwrap_config = {etc}/rootwrap.conf
resource_query_filters_file = {etc}/resource_filters.json
# The tests of a process make more than a user may by default.
quota_volumes = -1
quota_snapshots = -1
quota_gigabytes = -1
enabled_backends = {backend}
default_volume_type = __DEFAULT__
[{backend}]
volume_backend_name = {backend}
{options}
[database]
connection = sqlite:///{directory}/cinder.sqlite
[coordination]
backend_url = file://{directory}/coordination
[oslo_concurrency]
lock_path = {directory}/lock
[oslo_messaging_notifications]
driver = noop
[keystone_authtoken]
www_authenticate_uri = {keystone}
auth_type = password
{login}
[nova]
interface = public
{nova}
[privsep_osbrick]
helper_command = {helper} --config-file {directory}/cinder.conf
[cinder_sys_admin]
helper_command = {helper} --config-file {directory}/cinder.conf
"""


@dataclasses.dataclass(frozen=True)
class Backend:
    """Where the volumes are kept.

    :ivar options: of its section in cinder.conf.
    :ivar programs: a folder of programs that Cinder is to find first.
    """

    name: str
    options: Mapping[str, object]
    programs: pathlib.Path | None = None


def rbd(ceph: ceph_lib.Ceph) -> Backend:
    """Volumes are RBD images in :data:`POOL`."""
    return Backend(
        'rbd',
        {
            'volume_driver': 'cinder.volume.drivers.rbd.RBDDriver',
            'rbd_ceph_conf': ceph.conf,
            'rbd_pool': POOL,
            'rbd_exclusive_cinder_pool': 'true',
        },
    )


class Cinder:
    """Cinder on a free port of the loopback address.

    :param directory: where everything is kept.
    :param port: 0 takes a free one.
    :param nova: the login by which it asks Nova for snapshots.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        keystone: keystone_lib.Keystone,
        backend: Backend,
        port: int = 0,
        nova: Mapping[str, object] | None = None,
    ) -> None:
        self.directory = directory
        self.keystone = keystone
        self.port = port
        self._backend = backend
        self._nova = nova or {}
        self._config = directory / 'cinder.conf'
        self._server = daemon.Daemon(directory / 'server.log')

    @property
    def url(self) -> str:
        """The endpoint, with the version."""
        return f'http://127.0.0.1:{self.port}/v3'

    def prepare(self) -> None:
        """Write the configuration and make the tables; needs no Keystone."""
        for name in ('coordination', 'lock'):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        with socket.create_server(('127.0.0.1', self.port)) as listener:
            self.port = listener.getsockname()[1]
        self._write()
        command.run(
            *(volume_servers.program('cinder-manage'), '--config-file'),
            *(self._config, 'db', 'sync'),
        )

    def start(self) -> None:
        """Return once it can make volumes; the catalog names it.

        :raises DaemonFailed: it does not get ready.
        """
        self._write()
        self._server.start(
            [
                *(volume_servers.program('python'), '-m'),
                *('tests.lab.cinder_all', '--config-file', self._config),
            ],
            env=self._environment(),
        )
        self._server.wait_for_answer(self.url)
        client = self.client('admin', 'admin')
        self._server.wait_until(lambda: _is_up(client))

    def register(self) -> None:
        """Tell Keystone of it and of its user."""
        self.keystone.add_project(USER)
        self.keystone.add_service('volumev3', 'cinder', self.url)

    def stop(self) -> None:
        """End it, and delete all it had."""
        self._server.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def client(self, user: str = USER, project: str = USER) -> Any:
        """Return cinderclient's client for a user."""
        return cinderclient.client.Client(
            '3.59',
            session=self.keystone.login(user, project),
            region_name=keystone_lib.REGION,
        )

    def _environment(self) -> dict[str, str]:
        path = command.environment()['PATH']
        if self._backend.programs is not None:
            path = f'{self._backend.programs}{os.pathsep}{path}'
        return {'PYTHONPATH': str(volume_servers.TOP), 'PATH': path}

    def _write(self) -> None:
        login = self.keystone.credentials('admin', 'admin')
        self._config.write_text(
            CONFIGURATION.format(
                directory=self.directory,
                port=self.port,
                etc=volume_servers.data('cinder'),
                backend=self._backend.name,
                options=_lines(self._backend.options),
                keystone=self.keystone.url,
                login=_lines(login),
                nova=_lines(self._nova),
                helper=volume_servers.program('privsep-helper'),
            )
        )


def _lines(options: Mapping[str, object]) -> str:
    return '\n'.join(f'{name} = {value}' for name, value in options.items())


def _is_up(client: Any) -> bool:
    states = {s.binary: s.state for s in client.services.list()}
    wanted = ('cinder-scheduler', 'cinder-volume')
    return all(states.get(binary) == 'up' for binary in wanted)
