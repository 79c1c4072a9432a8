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
import sys

from testtools import matchers

from nova_snap.cmd import nova_check
from tests.unit import base
from tests.unit.cmd import base as cmd_base

#: A module of this name is imported by Nova's environment, or is it.
INTRUDERS = ('nova', 'tenacity', 'nova_snap')

COMMAND = ('-P', '-W', 'ignore', '-m', 'nova_snap.cmd.shell')

INTRUSION = "open('ran', 'w').close()\n"


class NovaCheckTest(base.TestCase):
    """In an environment without Nova."""

    def setUp(self) -> None:
        super().setUp()
        self.state = self.folder()

    def check(
        self, *arguments: str, status: int = 1, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run it in a folder of its own."""
        done = subprocess.run(
            [sys.executable, *COMMAND, *arguments],
            capture_output=True,
            text=True,
            cwd=self.state,
            env={
                **os.environ,
                'PYTHONPATH': str(base.REPOSITORY),
                'HOME': str(self.state),
                **environment,
            },
        )
        self.assertEqual(status, done.returncode, done.stderr)
        return done

    def test_says_what_is_missing(self) -> None:
        found = self.check('nova-check', '-f', 'json')
        (row,) = json.loads(found.stdout)
        self.assertEqual(('Nova', 'failed'), (row['Check'], row['Result']))
        self.assertIn("nova-compute's environment", row['Detail'])
        self.assertIn('see Nova above', found.stderr)

    def test_nothing_that_lies_about_is_run_or_read(self) -> None:
        for name in INTRUDERS:
            (self.state / f'{name}.py').write_text(INTRUSION)
        folder = self.state / '.nova_snap'
        folder.mkdir()
        (folder / 'nova_snap.conf').write_text('no assignment')
        self.check('list', status=2)
        self.check('nova-check')
        self.assertFalse((self.state / 'ran').exists())

    def test_table_has_a_width_that_can_be_read(self) -> None:
        for width, environment in (
            (nova_check.WIDTH, {}),
            (70, {'CLIFF_MAX_TERM_WIDTH': '70'}),
        ):
            lines = self.check('nova-check', **environment).stdout.splitlines()
            self.assertThat(max(map(len, lines)), matchers.LessThan(width + 1))


class ConfigurationTest(cmd_base.CommandTestCase):
    """The configuration that other commands read."""

    def test_can_not_be_named(self) -> None:
        self.check_failure(2, '--nova-config-file', 'nova-check')
