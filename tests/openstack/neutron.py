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

"""Neutron's API, without a network behind it.

Nova cannot list servers without a network endpoint.  Servers get no port, so
neither agents nor mechanism drivers are needed.
"""

from tests.openstack import api_server
from tests.openstack import conf
from tests.openstack import environment
from tests.openstack import layout as layout_lib
from tests.openstack import service


class Neutron(service.Service):
    """The network service's API."""

    databases = ('neutron',)

    def __init__(self, layout: layout_lib.Layout) -> None:
        super().__init__(layout)
        self._etc = layout.etc / 'neutron'
        self._config = self._etc / 'neutron.conf'
        self.api = api_server.ApiServer(
            layout,
            'neutron',
            'neutron.wsgi.api',
            {
                'OS_NEUTRON_CONFIG_DIR': str(self._etc),
                'OS_NEUTRON_CONFIG_FILES': 'neutron.conf',
            },
        )

    def configure(self) -> None:
        """Write neutron.conf."""
        layout = self.layout
        sections: conf.Sections = {
            'DEFAULT': {
                'log_file': layout.log / 'neutron-api.log',
                'core_plugin': 'ml2',
                'service_plugins': '',
                'auth_strategy': 'keystone',
                'state_path': layout.folder('neutron'),
                'api_paste_config': environment.data(
                    'neutron', 'api-paste.ini'
                ),
                'notify_nova_on_port_status_changes': 'false',
                'notify_nova_on_port_data_changes': 'false',
                'rpc_workers': 0,
            },
            'ml2': {
                'type_drivers': 'local',
                'tenant_network_types': 'local',
                'mechanism_drivers': '',
            },
        }
        conf.write(
            self._config,
            conf.common(layout, 'neutron'),
            conf.token_check(layout, 'neutron'),
            sections,
        )

    def prepare(self) -> None:
        """Make the tables."""
        self.manage(
            *('neutron-db-manage', '--config-file', self._config),
            *('upgrade', 'heads'),
        )
