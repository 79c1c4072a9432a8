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

"""Writing of files that are whole after a crash of the host.

Open this file for the order of write, fsync and rename.
"""

import os
import pathlib


def write(path: pathlib.Path, text: str) -> None:
    """Replace a file (0600) so that a crash leaves the old or the new one.

    :raises OSError: the new file can't be written; the old one is still
        there.
    """
    temporary = path.with_suffix('.tmp')
    descriptor = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600
    )
    try:
        with open(descriptor, 'w') as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.rename(path)
    except OSError:
        temporary.unlink()
        raise
    sync_directory(path.parent)


def sync_directory(directory: pathlib.Path) -> None:
    """Write to disk that files of a directory were made, renamed, removed."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
