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

"""Findings about options."""

from nova_snap.nova import settings
from nova_snap.nova.check import configuration
from nova_snap.nova.check import findings
from tests.nova import base


class AllDisksTest(base.NovaTestCase):
    """Whether images of all disks can be made."""

    def found(self, options: str) -> findings.Finding:
        """Return the finding with these options of [nova_snap]."""
        self.configure(f'[nova_snap]\n{options}\n')
        settings.register()
        (found,) = findings.run(configuration.check_all_disks)
        return found

    def test_live_method(self) -> None:
        for options, expected, text in (
            ('', 'ok', 'whose request says so'),
            ('all_disks = true', 'ok', 'each image'),
            (
                'all_disks = true\nlive_method = mirror',
                'warning',
                'live_method = pull or auto',
            ),
        ):
            found = self.found(options)
            self.assertEqual(expected, found.result)
            self.assertIn(text, found.detail)
