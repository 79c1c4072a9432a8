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

"""Placement: what each compute host has and what is in use."""

from tests.openstack import api_server
from tests.openstack import conf
from tests.openstack import layout as layout_lib
from tests.openstack import service


class Placement(service.Service):
    """The placement service."""

    databases = ('placement',)

    def __init__(self, layout: layout_lib.Layout) -> None:
        super().__init__(layout)
        self._etc = layout.etc / 'placement'
        self._config = self._etc / 'placement.conf'
        self.api = api_server.ApiServer(
            layout,
            'placement',
            'placement.wsgi.api',
            {'OS_PLACEMENT_CONFIG_DIR': str(self._etc)},
        )

    def configure(self) -> None:
        """Write placement.conf."""
        sections: conf.Sections = {
            'DEFAULT': {'log_file': self.layout.log / 'placement-api.log'},
            'placement_database': {
                'connection': conf.database_url(self.layout, 'placement')
            },
            'api': {'auth_strategy': 'keystone'},
        }
        conf.write(
            self._config, conf.token_check(self.layout, 'placement'), sections
        )

    def prepare(self) -> None:
        """Make the tables."""
        self.manage(
            *('placement-manage', '--config-file', self._config),
            *('db', 'sync'),
        )
