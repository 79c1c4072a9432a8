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

"""What OpenStack's servers stand on: MariaDB, RabbitMQ, memcached.

All are Debian's; none is a service of the host.
"""

import shutil

from tests.lab import command
from tests.openstack import layout as layout_lib

#: For data that nobody keeps: speed before safety.
MARIADB_OPTIONS = (
    '--skip-networking',
    '--skip-log-bin',
    '--innodb-flush-log-at-trx-commit=0',
    '--innodb-buffer-pool-size=128M',
    '--innodb-doublewrite=0',
    '--skip-innodb-flush-method',
    '--performance-schema=OFF',
    '--max-connections=400',
    '--character-set-server=utf8mb4',
)


class MariaDB:
    """The databases, on a socket only; root needs no password."""

    def __init__(self, layout: layout_lib.Layout) -> None:
        self._layout = layout
        self.daemon = layout.daemon('mariadb')

    def start(self, databases: list[str]) -> None:
        """Return once it answers and has these databases."""
        data = self._layout.folder('mariadb')
        if not (data / 'mysql').exists():
            command.run(
                *('mariadb-install-db', '--no-defaults', '--user=root'),
                *(f'--datadir={data}', '--skip-test-db'),
                '--auth-root-authentication-method=normal',
            )
        program = shutil.which('mariadbd', path='/usr/sbin:/usr/bin')
        self.daemon.start(
            [program or 'mariadbd', '--no-defaults', '--user=root']
            + [f'--datadir={data}']
            + [f'--socket={self._layout.database_socket}', *MARIADB_OPTIONS]
        )
        self.daemon.wait_until(self._answers)
        for name in databases:
            self.run(
                f'CREATE DATABASE IF NOT EXISTS {name} CHARACTER SET utf8mb4'
            )

    def run(self, statement: str) -> str:
        """Run an SQL statement; its rows, without headings."""
        return command.run(
            *('mariadb', '--no-defaults', '--skip-column-names', '--batch'),
            *('-u', 'root', '-S', self._layout.database_socket),
            *('-e', statement),
        ).stdout

    def _answers(self) -> bool:
        try:
            self.run('SELECT 1')
        except command.CommandFailed:
            return False
        return True


class Memcached:
    """Where keystone and the token checks keep what they know."""

    def __init__(self, layout: layout_lib.Layout) -> None:
        self._port = layout.ports.memcached
        self.daemon = layout.daemon('memcached')

    def start(self) -> None:
        """Return once it listens."""
        self.daemon.start(
            ['memcached', '-u', 'root', '-l', '127.0.0.1', '-m', '64']
            + ['-p', str(self._port)]
        )
        self.daemon.wait_for_port(self._port)


class RabbitMQ:
    """The message queue, with an epmd of its own."""

    def __init__(self, layout: layout_lib.Layout) -> None:
        self._layout = layout
        self._ports = layout.ports
        self.daemon = layout.daemon('rabbitmq')
        self.epmd = layout.daemon('epmd')

    def start(self) -> None:
        """Return once it listens."""
        # epmd speaks a protocol of its own; that it listens is enough.
        self.epmd.start(
            ['epmd', '-address', '127.0.0.1']
            + ['-port', str(self._ports.epmd)]
        )
        self.epmd.wait_for_port(self._ports.epmd)
        self.daemon.start(
            ['/usr/lib/rabbitmq/bin/rabbitmq-server'], self._environment()
        )
        self.daemon.wait_for_port(self._ports.rabbitmq)

    def restart(self) -> None:
        """Break all connections; queues that are durable stay."""
        self.daemon.stop()
        self.start()

    def _environment(self) -> dict[str, str]:
        home = self._layout.folder('rabbitmq')
        return {
            'HOME': str(home),
            'RABBITMQ_NODENAME': f'rabbit{self._ports.rabbitmq}@localhost',
            'RABBITMQ_NODE_IP_ADDRESS': '127.0.0.1',
            'RABBITMQ_NODE_PORT': str(self._ports.rabbitmq),
            'RABBITMQ_DIST_PORT': str(self._ports.distribution),
            'RABBITMQ_MNESIA_BASE': str(home),
            'RABBITMQ_LOG_BASE': str(self._layout.log),
            'RABBITMQ_PID_FILE': str(home / 'pid'),
            'RABBITMQ_CONF_ENV_FILE': '/dev/null',
            'RABBITMQ_ENABLED_PLUGINS_FILE': str(home / 'plugins'),
            'RABBITMQ_CTL_ERL_ARGS': '',
            'RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS': (
                '-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none'
            ),
            'ERL_EPMD_ADDRESS': '127.0.0.1',
            'ERL_EPMD_PORT': str(self._ports.epmd),
        }
