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

"""Objects that are made from nova.conf."""

import pathlib

from nova_snap.nova import settings
from tests.nova import base


class DriverOptionsTest(base.NovaTestCase):
    def test_cache_of_images_may_hold_backing_files(self) -> None:
        """Wherever Nova has it, besides what the option names."""
        base.CONF.set_override(
            'backing_file_directories', ['/srv/bases'], 'nova_snap'
        )
        self.addCleanup(
            base.CONF.clear_override, 'backing_file_directories', 'nova_snap'
        )
        base.CONF.set_override('instances_path', '/srv/instances')
        self.addCleanup(base.CONF.clear_override, 'instances_path')
        self.assertEqual(
            (pathlib.Path('/srv/bases'), pathlib.Path('/srv/instances/_base')),
            settings.driver_options().chain_reader.directories,
        )
