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

"""The environment that the cloud's servers are installed in.

Made by ``tools/setup.sh --openstack`` from ``requirements.txt`` and
``constraints.txt`` beside this file.  It is not the tests' own: Nova and its
kin have requirements that are none of the project's.
"""

import os
import pathlib

from tests.lab import command

TOP = pathlib.Path(__file__).parents[2]
DEFAULT = TOP / '.lab/openstack'


class NotInstalled(Exception):
    """The servers are not there."""


def root() -> pathlib.Path:
    """Return the directory of the virtual environment."""
    return pathlib.Path(os.environ.get('NOVA_SNAP_OPENSTACK', DEFAULT))


def program(name: str) -> pathlib.Path:
    """Return the path of a program of the environment.

    :raises NotInstalled: it is not there.
    """
    path = root() / 'bin' / name
    if not path.exists():
        raise NotInstalled(
            f'{path} is missing: run tools/setup.sh --openstack'
        )
    return path


def data(*parts: str) -> pathlib.Path:
    """Return the path of a file that a package has below ``etc``."""
    return root().joinpath('etc', *parts)


def install_project() -> None:
    """Install the project as it is now, as an operator would."""
    command.run(
        *(program('uv'), 'pip', 'install', '--quiet'),
        *('--python', program('python'), '--reinstall-package', 'nova-snap'),
        f'{TOP}[stream]',
    )
