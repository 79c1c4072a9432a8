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

"""The hook by which nova-compute finds the driver."""

import pathlib
import subprocess
import sys

from nova_snap.nova import finder
from tests.unit import base

TOP = pathlib.Path(__file__).parents[3]

#: Imports names after the hook was read, as Python reads it, and says which
#: were found and whether anything of ours was imported before.
LOOK = """\
import importlib.util, sys
exec(sys.argv[1])
print('nova_snap' in sys.modules)
for name in sys.argv[2:]:
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        spec = None
    print(spec and spec.origin)
"""


def hook() -> str:
    """Return the line that setup.py installs."""
    names: dict[str, str] = {}
    text = (TOP / 'setup.py').read_text()
    begin = text.index('HOOK = (')
    exec(text[begin : text.index('class BuildPy')], names)
    return names['HOOK']


class FinderTest(base.TestCase):
    """In a Python of its own, with a package that is called as Nova's."""

    def setUp(self) -> None:
        super().setUp()
        self.site = self.folder()
        package = self.site / 'nova' / 'virt'
        package.mkdir(parents=True)
        for folder in (package, package.parent):
            (folder / '__init__.py').touch()

    def look(self, *names: str) -> list[str]:
        """Whether we are imported, and where each name leads."""
        done = subprocess.run(
            [sys.executable, '-c', LOOK, hook(), *names],
            env={'PYTHONPATH': f'{self.site}:{TOP}'},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.split()

    def test_driver_is_found_by_the_name_that_nova_imports(self) -> None:
        imported, found = self.look(finder.NAME)
        self.assertEqual('False', imported)
        self.assertEqual(str(TOP / 'nova_snap/nova/plugin.py'), found)

    def test_other_names_are_not(self) -> None:
        found = self.look('nova.virt.other', 'nova.nova_snap', 'nosuch')
        self.assertEqual(['False', 'None', 'None', 'None'], found)

    def test_a_module_of_nova_comes_first(self) -> None:
        theirs = self.site / 'nova/virt/nova_snap.py'
        theirs.touch()
        self.assertEqual(['False', str(theirs)], self.look(finder.NAME))

    def test_hook_is_one_line(self) -> None:
        self.assertEqual(1, len(hook().splitlines()))
        self.assertTrue(hook().startswith('import '), 'else it is a path')

    def test_names_agree(self) -> None:
        for name in (finder.NAME, finder.HOOK, 'nova_snap.nova.finder'):
            self.assertIn(f"'{name}'", hook())
