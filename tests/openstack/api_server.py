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

"""Runs an OpenStack API under uWSGI: one process, a few threads."""

from collections.abc import Mapping

from tests.openstack import environment
from tests.openstack import layout as layout_lib

#: glanceclient sends chunks of 1 MiB; uWSGI's default limit is smaller, and
#: then every upload fails.
CHUNK_LIMIT = 16 << 20


class ApiServer:
    """An API of the cloud.

    :param service: the name of its port.
    :param module: the Python module that has ``application``.
    :param env: variables that lead it to its configuration.
    """

    def __init__(
        self,
        layout: layout_lib.Layout,
        service: str,
        module: str,
        env: Mapping[str, str],
        arguments: str = '',
    ) -> None:
        self._layout = layout
        self._service = service
        self._module = module
        self._env = env
        self._arguments = arguments
        self.daemon = layout.daemon(f'{service}-api')

    @property
    def url(self) -> str:
        """Where it listens."""
        return self._layout.url(self._service)

    def start(self) -> None:
        """Start it and return at once."""
        address = self.url.removeprefix('http://')
        self.daemon.start(
            [environment.program('pyuwsgi'), '--http-socket', address]
            + ['--module', f'{self._module}:application']
            + ['--master', '--processes', '1', '--threads', '6']
            + ['--enable-threads', '--lazy-apps', '--need-app']
            + ['--die-on-term', '--disable-logging', '--thunder-lock']
            + ['--buffer-size', '65535', '--socket-timeout', '60']
            + ['--chunked-input-limit', str(CHUNK_LIMIT)]
            + ['--chunked-input-timeout', '60']
            # Its HTTP parser can't keep a connection after chunked input.
            + ['--add-header', 'Connection: close']
            + ['--virtualenv', environment.root()]
            + (['--pyargv', self._arguments] if self._arguments else []),
            self._env,
        )

    def wait_until_up(self) -> None:
        """Wait until it answers."""
        self.daemon.wait_for_answer(f'{self.url}/')

    def stop(self) -> None:
        """Stop it; requests that it works on are cut."""
        self.daemon.stop()
