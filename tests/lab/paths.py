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

"""Where the lab keeps its files.

One root directory holds any number of labs side by side and a cache that they
share::

    /var/tmp/nova-snap-lab/     or $NOVA_SNAP_LAB
        cache/                  kernel and initramfs of the guests
        main/                   the lab of "python -m tests.lab"
        t1234/                  the lab of the test process 1234
"""

from collections.abc import Iterator
import contextlib
import fcntl
import os
import pathlib

#: The file system must hold sparse files and take O_DIRECT, as a host's does:
#: not /tmp, which often is a tmpfs.
DEFAULT_ROOT = '/var/tmp/nova-snap-lab'


def root() -> pathlib.Path:
    """Return the directory that all labs share."""
    return pathlib.Path(os.environ.get('NOVA_SNAP_LAB', DEFAULT_ROOT))


def cache() -> pathlib.Path:
    """Return the directory of files that are built once; make it."""
    path = root() / 'cache'
    path.mkdir(parents=True, exist_ok=True)
    return path


def main_lab() -> pathlib.Path:
    """Return the state directory of the lab that is started by hand."""
    return root() / 'main'


def process_lab() -> pathlib.Path:
    """Return the state directory of the lab of this process."""
    return root() / f't{os.getpid()}'


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold a lock that all processes of all labs respect."""
    with open(cache() / f'{name}.lock', 'w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
