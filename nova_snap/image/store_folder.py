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

"""The folder of the filesystem image service, and how it is told from others.

Its option, ``filesystem_store_datadir``, has the name of Glance's, and its
files have the names of Glance's: a folder that is given by mistake may hold
another program's images.  So the service works only in a folder that has its
mark.  A folder gets the mark when it is empty, or when it holds a record that
an earlier release has written, which made no marks.
"""

from collections.abc import Callable
import contextlib
import os
import pathlib

from nova_snap import exception

#: Name of the file that says that a folder is this image service's.
MARK = '.nova-snap-images'

_MARK_TEXT = 'Images of nova-snap; see [snapshot] filesystem_store_datadir.\n'

#: What a file system has in its topmost folder.
_OF_FILE_SYSTEMS = ('lost+found',)


def make(directory: pathlib.Path) -> None:
    """Make the folder, if it is missing.

    :raises OSError: it can't be made.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def require_own(
    directory: pathlib.Path, is_own: Callable[[pathlib.Path], bool]
) -> None:
    """Make sure that a folder is this image service's; the lock is held.

    :param is_own: tells whether a file is one that only this service makes.
    :raises InvalidConfiguration: it holds files of others, and no mark.
    :raises OSError: the mark can't be written.
    """
    if os.path.lexists(directory / MARK):
        return
    content = [
        path
        for path in directory.iterdir()
        if path.name not in _OF_FILE_SYSTEMS
    ]
    own = any(is_own(path) for path in content)
    if content and not own:
        raise exception.InvalidConfiguration(
            option='[snapshot] filesystem_store_datadir',
            reason=f'{directory} holds files of others, such as '
            f'{min(content).name!r}, and is left alone. Name another '
            'directory: an empty one, or one that does not exist yet.',
        )
    # Who may only read a store of an earlier release needs no mark in it.
    with contextlib.suppress(*(OSError,) if own else ()):
        (directory / MARK).write_text(_MARK_TEXT)
