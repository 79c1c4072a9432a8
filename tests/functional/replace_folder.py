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

"""Run nova-snap while another user replaces the folders that it makes.

    python -m tests.functional.replace_folder TARGET ARGUMENT...

As soon as a folder is made whose name is a uuid, a symbolic link to TARGET is
in its place.
"""

import os
import sys
from typing import Any

from oslo_utils import uuidutils

_mkdir = os.mkdir


def mkdir(path: Any, *arguments: Any, dir_fd: int | None = None) -> None:
    """Make a folder, and lose it."""
    _mkdir(path, *arguments, dir_fd=dir_fd)
    if uuidutils.is_uuid_like(os.path.basename(path)):
        moved = f'{path}.moved'
        os.rename(path, moved, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
        os.symlink(sys.argv[1], path, dir_fd=dir_fd)


if __name__ == '__main__':
    os.mkdir = mkdir
    from nova_snap.cmd import shell

    sys.exit(shell.main(sys.argv[2:]))
