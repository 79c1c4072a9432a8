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

"""Where one cloud keeps its files, and the ports that it listens on.

A cloud of a test process lies beside the labs of ``tests/lab``::

    /var/tmp/nova-snap-lab/     or $NOVA_SNAP_LAB
        o1234/                  the cloud of the test process 1234
            etc/ log/ run/      of every server
            nova/instances/     the guests' disks and consoles
            glance/images/      the data of the images
        cloud/                  the cloud of "python -m tests.openstack"
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import socket

from tests.lab import daemon as daemon_lib
from tests.lab import paths

#: Every password.  The cloud listens on loopback only.
SECRET = 'lab'
REGION = 'RegionOne'


@dataclasses.dataclass(frozen=True)
class Ports:
    """TCP ports on 127.0.0.1; no two clouds share one."""

    keystone: int
    glance: int
    placement: int
    neutron: int
    nova: int
    cinder: int
    rabbitmq: int
    distribution: int
    epmd: int
    memcached: int

    @classmethod
    def free(cls) -> 'Ports':
        """Ports that nobody listens on now."""
        fields = dataclasses.fields(cls)
        with contextlib.ExitStack() as stack:
            sockets = [
                stack.enter_context(socket.create_server(('127.0.0.1', 0)))
                for _ in fields
            ]
            numbers = [each.getsockname()[1] for each in sockets]
        return cls(*numbers)


@dataclasses.dataclass(frozen=True)
class Layout:
    """The folders of one cloud."""

    state: pathlib.Path
    ports: Ports

    @classmethod
    def at(cls, state: pathlib.Path) -> 'Layout':
        """Read the layout in a folder, or make a new one."""
        file = state / 'ports.json'
        if file.exists():
            return cls(state, Ports(**json.loads(file.read_text())))
        for name in ('etc', 'log', 'run'):
            (state / name).mkdir(parents=True, exist_ok=True)
        ports = Ports.free()
        file.write_text(json.dumps(dataclasses.asdict(ports)))
        return cls(state, ports)

    @property
    def etc(self) -> pathlib.Path:
        """One folder of configuration for each server."""
        return self.state / 'etc'

    @property
    def log(self) -> pathlib.Path:
        """Logs, and what the servers print."""
        return self.state / 'log'

    @property
    def run(self) -> pathlib.Path:
        """Pid files and sockets."""
        return self.state / 'run'

    @property
    def database_socket(self) -> pathlib.Path:
        """MariaDB listens on no port."""
        return self.run / 'mysqld.sock'

    @property
    def instances(self) -> pathlib.Path:
        """``[DEFAULT] instances_path`` of nova-compute."""
        return self.state / 'nova/instances'

    @property
    def images(self) -> pathlib.Path:
        """Glance's file store: each image is a file named after its id."""
        return self.state / 'glance/images'

    def url(self, service: str, path: str = '') -> str:
        """Return the endpoint of a service."""
        return f'http://127.0.0.1:{getattr(self.ports, service)}{path}'

    def daemon(self, name: str) -> daemon_lib.Daemon:
        """Return a daemon whose output and pid file have this name."""
        return daemon_lib.Daemon(
            self.log / f'{name}.out', self.run / f'{name}.pid'
        )

    def folder(self, *parts: str) -> pathlib.Path:
        """Return a folder below the state; make it."""
        path = self.state.joinpath(*parts)
        path.mkdir(parents=True, exist_ok=True)
        return path


def process_state() -> pathlib.Path:
    """Return the folder of the cloud of this process."""
    return paths.root() / f'o{os.getpid()}'


def main_state() -> pathlib.Path:
    """Return the folder of the cloud that is started by hand."""
    return paths.root() / 'cloud'


def abandoned() -> list[pathlib.Path]:
    """Return the folders of clouds whose test process was killed."""
    return [
        state
        for state in paths.root().glob('o[0-9]*')
        if not pathlib.Path(f'/proc/{state.name[1:]}').exists()
    ]
