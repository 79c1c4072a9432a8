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

"""Folders below ``[DEFAULT] state_path`` that tell this process what to do.

The journal holds instructions, and a lock file is made where its name leads.
So such a folder is used only if nobody else can put something into it.
"""

import os
import pathlib
import stat

from nova_snap import exception

_ROOT = 0


def make(folder: pathlib.Path) -> None:
    """Make a folder (0700) if it is missing, and check it.

    :raises NotPermitted: others could write to the folder.
    :raises OSError: it can't be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    require_own(folder)


def require_own(folder: pathlib.Path) -> None:
    """Check that only this user, or root, decides what is in a folder.

    A symbolic link to the folder is checked, too.

    :raises NotPermitted: others could write to the folder.
    :raises FileNotFoundError: there is no folder.
    """
    for found in (folder.lstat(), folder.stat()):
        if not is_own(found):
            raise _refused(folder, f'belongs to user {found.st_uid}')
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = stat.S_IMODE(found.st_mode)
        raise _refused(folder, f'is writable by others (mode {mode:04o})')


def is_own(found: os.stat_result) -> bool:
    """Return True if a file belongs to this user or to root."""
    return found.st_uid in (os.geteuid(), _ROOT)


def _refused(folder: pathlib.Path, fact: str) -> exception.NotPermitted:
    return exception.NotPermitted(
        f'{folder} {fact}, so its content cannot be relied on. Run as the '
        'user that the folder belongs to; look through what is in it before '
        'you change its owner or its mode.'
    )
