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

import pathlib

import setuptools
from setuptools.command import build_py

#: Puts the driver where nova-compute looks for it: nova_snap/nova/finder.py.
#: Python reads it as one line, at every start, so it imports nothing of ours.
HOOK = (
    "import sys; sys.meta_path.append(type('NovaSnapFinder', (), {'find_spec':"
    ' staticmethod(lambda name, path=None, target=None:'
    " __import__('nova_snap.nova.finder').nova.finder.find_spec()"
    " if name == 'nova.virt.nova_snap' else None)}))\n"
)


class BuildPy(build_py.build_py):
    """Puts the hook beside the package, which is not setuptools' custom."""

    def run(self) -> None:
        super().run()
        directory = self._directory()
        directory.mkdir(parents=True, exist_ok=True)
        (directory / 'nova_snap.pth').write_text(HOOK)

    def _directory(self) -> pathlib.Path:
        """Where what lies there is installed beside packages.

        An editable wheel has no copy of the package, but does have a
        directory for what else is to be there.
        """
        if not self.editable_mode:
            return pathlib.Path(self.build_lib)
        install = self.distribution.get_command_obj('install')
        return pathlib.Path(install.install_purelib)


class Distribution(setuptools.Distribution):
    """Uses the command above; pbr would replace a cmdclass by its own."""

    def get_command_class(self, command: str) -> type[setuptools.Command]:
        if command == 'build_py':
            return BuildPy
        return super().get_command_class(command)


setuptools.setup(pbr=True, distclass=Distribution)
