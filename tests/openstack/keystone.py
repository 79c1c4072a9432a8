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

"""Keystone: users, projects, tokens, and where the other services are."""

from tests.openstack import api_server
from tests.openstack import conf
from tests.openstack import layout as layout_lib
from tests.openstack import service


class Keystone(service.Service):
    """The identity service, with fernet tokens."""

    databases = ('keystone',)

    def __init__(self, layout: layout_lib.Layout) -> None:
        super().__init__(layout)
        self._etc = layout.etc / 'keystone'
        self._config = self._etc / 'keystone.conf'
        self.api = api_server.ApiServer(
            layout,
            'keystone',
            'keystone.wsgi.api',
            {'OS_KEYSTONE_CONFIG_DIR': str(self._etc)},
        )

    def configure(self) -> None:
        """Write keystone.conf."""
        layout = self.layout
        tokens = self._etc / 'fernet-keys'
        sections: conf.Sections = {
            'DEFAULT': {'log_file': layout.log / 'keystone-api.log'},
            'database': {
                'connection': conf.database_url(layout, 'keystone'),
                'max_pool_size': 5,
            },
            'token': {'provider': 'fernet'},
            'fernet_tokens': {'key_repository': tokens},
            'fernet_receipts': {'key_repository': tokens},
            'credential': {'key_repository': self._etc / 'credential-keys'},
            'cache': {
                'enabled': 'true',
                'backend': 'dogpile.cache.pymemcache',
                'memcache_servers': f'127.0.0.1:{layout.ports.memcached}',
            },
            # 4 is the least that bcrypt takes; logins are fast then.
            'identity': {'password_hash_rounds': 4},
            'oslo_messaging_notifications': {'driver': 'noop'},
        }
        conf.write(self._config, sections)

    def prepare(self) -> None:
        """Make tables, keys, the administrator and its own endpoints."""
        self._manage('db_sync')
        for command in ('fernet_setup', 'credential_setup'):
            self._manage(
                *(command, '--keystone-user', 'root'),
                *('--keystone-group', 'root'),
            )
        url = self.layout.url('keystone', '/v3')
        self._manage(
            *('bootstrap', '--bootstrap-password', layout_lib.SECRET),
            *('--bootstrap-region-id', layout_lib.REGION),
            *('--bootstrap-admin-url', url, '--bootstrap-public-url', url),
            *('--bootstrap-internal-url', url),
        )

    def _manage(self, *arguments: str) -> None:
        self.manage(
            'keystone-manage', '--config-file', self._config, *arguments
        )
