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

"""Glance: images, in a file store."""

from tests.openstack import api_server
from tests.openstack import conf
from tests.openstack import environment
from tests.openstack import layout as layout_lib
from tests.openstack import service


class Glance(service.Service):
    """The image service.  Its logins are keystone's.

    :ivar storage_quota: bytes that the images of a project may take; 0 is no
        limit.
    :ivar options: more of them.
    """

    databases = ('glance',)

    def __init__(self, layout: layout_lib.Layout) -> None:
        super().__init__(layout)
        self.storage_quota = 0
        self.options: conf.Sections = {}
        self._etc = layout.etc / 'glance'
        self._config = self._etc / 'glance-api.conf'
        self.api = api_server.ApiServer(
            layout,
            'glance',
            'glance.wsgi.api',
            {'OS_GLANCE_CONFIG_DIR': str(self._etc)},
        )

    def configure(self) -> None:
        """Write glance-api.conf."""
        layout = self.layout
        sections: conf.Sections = {
            'DEFAULT': {
                'log_file': layout.log / 'glance-api.log',
                'enabled_backends': 'file:file',
                'worker_self_reference_url': self.api.url,
                'user_storage_quota': self.storage_quota,
            },
            'glance_store': {'default_backend': 'file'},
            'file': {'filesystem_store_datadir': layout.images},
            'os_glance_staging_store': {
                'filesystem_store_datadir': layout.folder('glance', 'staging')
            },
            'os_glance_tasks_store': {
                'filesystem_store_datadir': layout.folder('glance', 'tasks')
            },
            'paste_deploy': {
                'flavor': 'keystone',
                'config_file': environment.data(
                    'glance', 'glance-api-paste.ini'
                ),
            },
        }
        layout.images.mkdir(parents=True, exist_ok=True)
        conf.write(
            self._config,
            conf.common(layout, 'glance'),
            conf.token_check(layout, 'glance'),
            sections,
            self.options,
        )

    def prepare(self) -> None:
        """Make the tables."""
        self.manage('glance-manage', '--config-file', self._config, 'db_sync')

    def limit_storage(self, quota: int) -> None:
        """Restart it with a quota, in bytes."""
        self.storage_quota = quota
        self.restart()

    def restart(self) -> None:
        """Restart it with the options that it has now."""
        self.configure()
        self.api.stop()
        self.start()
        self.wait_until_up()
