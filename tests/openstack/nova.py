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

"""Nova, but for nova-compute: API, conductor, scheduler, the cells.

``nova.conf`` is one for all of them.  What tests change is in a second file
that only nova-compute reads; see ``compute.py``.
"""

import os

from tests.lab import command
from tests.lab import daemon
from tests.openstack import api_server
from tests.openstack import conf
from tests.openstack import environment
from tests.openstack import layout as layout_lib
from tests.openstack import service

HOST = 'lab'

#: Seconds between two heartbeats.
REPORT_INTERVAL = 2

#: What a privsep context runs its helper with where sudo is not needed.
PRIVSEP = (
    'nova_sys_admin',
    'privsep_osbrick',
    'vif_plug_linux_bridge_privileged',
    'vif_plug_ovs_privileged',
)


class Nova(service.Service):
    """The compute service's control plane."""

    databases = ('nova_api', 'nova', 'nova_cell0')

    def __init__(self, layout: layout_lib.Layout) -> None:
        super().__init__(layout)
        self._etc = layout.etc / 'nova'
        self.config = self._etc / 'nova.conf'
        self.api = api_server.ApiServer(
            layout,
            'nova',
            'nova.wsgi.osapi_compute',
            {'OS_NOVA_CONFIG_DIR': str(self._etc)},
        )
        self._workers = [
            layout.daemon(name)
            for name in ('nova-conductor', 'nova-scheduler')
        ]

    def configure(self) -> None:
        """Write nova.conf."""
        self._etc.mkdir(parents=True, exist_ok=True)
        self.layout.instances.mkdir(parents=True, exist_ok=True)
        paste = environment.data('nova', 'api-paste.ini')
        (self._etc / 'api-paste.ini').write_text(paste.read_text())
        conf.write(
            self.config,
            conf.common(self.layout, 'nova'),
            conf.token_check(self.layout, 'nova'),
            self._general(),
            self._neighbours(),
            self._privileges(),
        )

    def _general(self) -> conf.Sections:
        layout = self.layout
        return {
            'DEFAULT': {
                'debug': 'true',
                'state_path': layout.state / 'nova',
                'instances_path': layout.instances,
                'host': HOST,
                'my_ip': '127.0.0.1',
                'report_interval': REPORT_INTERVAL,
                # One that is killed again and again within that time is down
                # for the scheduler, however short it takes to start.
                'service_down_time': 600,
                'vif_plugging_is_fatal': 'false',
                'vif_plugging_timeout': 0,
                'reserved_host_memory_mb': 512,
                # The guest does not hear the power button: don't wait.
                'shutdown_timeout': 1,
                # Without it, a server whose image names no operating system
                # needs mkfs.vfat.
                'default_ephemeral_format': 'ext4',
                # The tests look themselves.
                'sync_power_state_interval': 600,
            },
            'api_database': {
                'connection': conf.database_url(layout, 'nova_api')
            },
            'cell0_database': {
                'connection': conf.database_url(layout, 'nova_cell0')
            },
            'conductor': {'workers': 1},
            'scheduler': {'workers': 1},
            'vnc': {'enabled': 'false'},
            # The task states of a server, one after the other, in the logs.
            'oslo_messaging_notifications': {'driver': 'log'},
            'notifications': {
                'notification_format': 'unversioned',
                'notify_on_state_change': 'vm_and_task_state',
            },
        }

    def _neighbours(self) -> conf.Sections:
        """How Nova reaches the other services."""
        layout = self.layout
        nova = conf.credentials(layout, 'nova')
        return {
            'glance': nova,
            'placement': conf.credentials(layout, 'placement'),
            'neutron': conf.credentials(layout, 'neutron'),
            'cinder': {
                **conf.credentials(layout, 'cinder'),
                'catalog_info': 'volumev3:cinder:publicURL',
                'os_region_name': layout_lib.REGION,
            },
            'service_user': {**nova, 'send_service_user_token': 'true'},
        }

    def _privileges(self) -> conf.Sections:
        """Root already: neither sudo nor rootwrap."""
        helper = environment.program('privsep-helper')
        words = f'{helper} --config-file {self.config}'
        sections: conf.Sections = {'privsep': {'user': 'root'}}
        for context in PRIVSEP:
            sections[context] = {'helper_command': words}
        return sections

    def prepare(self) -> None:
        """Make the tables and the cells."""
        self.manage_nova('api_db', 'sync')
        self.manage_nova('cell_v2', 'map_cell0')
        self.manage_nova('cell_v2', 'create_cell', '--name', 'cell1')
        self.manage_nova('db', 'sync')

    def start(self) -> None:
        """Start the API and the workers."""
        super().start()
        for worker in self._workers:
            worker.start(
                [environment.program(worker.name)]
                + ['--config-file', self.config]
                + [f'--log-file={self.layout.log / worker.name}.log']
            )

    def daemons(self) -> list[daemon.Daemon]:
        """Return the daemons of the API and of the workers."""
        return [*super().daemons(), *self._workers]

    def discover_hosts(self) -> None:
        """Let the scheduler know the compute host."""
        self.manage_nova('cell_v2', 'discover_hosts')

    def manage_nova(self, *arguments: str | os.PathLike[str]) -> str:
        """Run nova-manage."""
        return command.run(
            *(environment.program('nova-manage'), '--config-file'),
            *(self.config, *arguments),
        ).stdout
