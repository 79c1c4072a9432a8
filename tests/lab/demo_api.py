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

"""The demo of the service: OpenStack's own client takes an image of a guest.

    python -m tests.lab.demo_api

There is neither Nova nor Keystone nor Glance.  ``tools/demo.sh --api`` sets up
what this needs and runs it; ``demo.py`` is the demo of the command, and ends
what this one has left running.
"""

import pathlib
import shlex
import socket
import subprocess
import sys

from tests.lab import clients
from tests.lab import demo
from tests.lab import guest as guest_lib
from tests.lab import paths

CONFIGURATION = """\
[DEFAULT]
state_path = {state}
[libvirt]
connection_uri = {uri}
[snapshot]
reserved_space_mb = 100
[api]
port = {port}
"""

IMAGE = 'before-upgrade'


class ApiDemo:
    """The service and its client, in the directory of the demo.

    The service goes on when this process has ended, for whoever wants to try.
    """

    def __init__(self, state: pathlib.Path) -> None:
        self._demo = demo.Demo(state)
        self._service = self._demo.service
        self._state = state / 'api'
        self._config = state / 'api.conf'
        self._clouds = state / 'clouds.yaml'
        self._port_file = state / 'api.port'

    def run(self) -> None:
        """From nothing to an image."""
        self._demo.start_libvirtd()
        guest = self._demo.guest()
        url = self.start()
        demo.say(f'Where the client finds it: {self._clouds}')
        self._clouds.write_text(clients.WITHOUT_KEYSTONE.format(url=url))
        print(self._clouds.read_text(), end='')
        demo.say('A live snapshot, taken by the client of OpenStack')
        self.openstack('server', 'list')
        with guest.gap_watch() as watch:
            self.openstack(
                *('server', 'image', 'create', '--wait'),
                *('--name', IMAGE, guest.name, '--fit-width'),
                *('-c', 'id', '-c', 'name', '-c', 'status', '-c', 'size'),
            )
        gap = watch.result.longest_ms
        print(f'The guest wrote on; its longest gap was {gap:.0f} ms.')
        self.openstack('image', 'list')
        self.openstack('server', 'event', 'list', guest.name, '--fit-width')
        self.advise(guest)

    def advise(self, guest: guest_lib.Guest) -> None:
        """Print commands to try."""
        print(f"""
The service runs on. Try next:

  export OS_CLIENT_CONFIG_FILE={shlex.quote(str(self._clouds))} OS_CLOUD=host
  PATH={shlex.quote(str(clients.newest_openstack().parent))}:$PATH
  openstack server show {guest.name}
  openstack server backup create --type daily --rotate 2 --wait {guest.name}
  openstack image save --file /tmp/{IMAGE}.img {IMAGE}
  tools/demo.sh --down""")

    def start(self) -> str:
        """Start the service, if it does not run; return its URL."""
        if self._service.pid is None:
            with socket.create_server(('127.0.0.1', 0)) as free:
                self._port_file.write_text(str(free.getsockname()[1]))
        port = int(self._port_file.read_text())
        self._config.write_text(
            CONFIGURATION.format(
                state=self._state, uri=self._demo.libvirtd.uri, port=port
            )
        )
        url = f'http://127.0.0.1:{port}'
        demo.say(f'Starting nova-snap-api, which answers as Nova, on {url}')
        program = pathlib.Path(sys.executable).with_name('nova-snap-api')
        print(f'$ nova-snap-api --config-file {self._config} &', flush=True)
        self._service.start([program, '--config-file', self._config])
        self._service.wait_for_answer(f'{url}/healthcheck')
        return url

    def openstack(self, *arguments: str) -> None:
        """Run the client; what it prints is seen."""
        print(f'$ openstack {shlex.join(arguments)}', flush=True)
        subprocess.run(
            [clients.newest_openstack(), *arguments],
            env=clients.environment(self._clouds),
            check=True,
        )


def main() -> int:
    """Run the demo; return the exit status."""
    try:
        ApiDemo(paths.root() / 'demo').run()
    except subprocess.CalledProcessError as error:
        print(f'It failed with status {error.returncode}.', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
