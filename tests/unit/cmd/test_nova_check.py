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

"""``nova-snap nova-check`` where there is no Nova.

With one it is run by the tests in a whole cloud.
"""

import json
import os
import subprocess

from tests.unit import base as unit_base
from tests.unit.cmd import base

#: A module of this name is imported by Nova's environment, or is it.
INTRUDERS = ('nova', 'tenacity', 'nova_snap')

INTRUSION = "open('ran', 'w').close()\n"


class NovaCheckTest(base.CommandTestCase):
    """In an environment without Nova."""

    def test_says_what_is_missing(self) -> None:
        found = self.run_command('nova-check', '-f', 'json')
        self.assertEqual(1, found.status, found.errors)
        (row,) = json.loads(found.output)
        self.assertEqual(('Nova', 'failed'), (row['Check'], row['Result']))
        self.assertIn("nova-compute's environment", row['Detail'])
        self.assertIn('see Nova above', found.errors)

    def test_nothing_of_the_current_folder_is_run(self) -> None:
        folder = self.folder()
        for name in INTRUDERS:
            (folder / f'{name}.py').write_text(INTRUSION)
        python, *arguments = self.argv('nova-check', '-f', 'json')
        subprocess.run(
            [python, '-P', *arguments],
            capture_output=True,
            cwd=folder,
            env={**os.environ, 'PYTHONPATH': str(unit_base.REPOSITORY)},
        )
        self.assertFalse((folder / 'ran').exists())
