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

"""``nova-snap recover`` and what it can't read."""

import json
import pathlib

from tests.unit.cmd import base


class UnreadableTest(base.CommandTestCase):
    """Entries of the journal that nobody can make anything of."""

    def write(self, text: str) -> pathlib.Path:
        """Write a file to the journal."""
        journal = self.state / 'state' / 'journal'
        journal.mkdir(parents=True)
        path = journal / 'x.json'
        path.write_text(text)
        return path

    def test_is_named_and_ends_with_an_error(self) -> None:
        path = self.write('{bad')
        found = self.run_command('recover', '-f', 'json')
        self.assertEqual(1, found.status, found.errors)
        (row,) = json.loads(found.output)
        self.assertIn(f'{path} is unreadable', row['Outcome'])
        self.assertNotIn('Nothing was left behind', found.errors)
        self.assertTrue(path.exists())

    def test_its_content_is_not_shown(self) -> None:
        self.write('{"xml": "passwd=secret", "duties": 1}')
        found = self.run_command('recover')
        self.assertEqual(1, found.status, found.errors)
        self.assertNotIn('secret', found.output + found.errors)
