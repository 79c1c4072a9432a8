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

Open this file for the order of write, fsync and rename.  What a process that
is killed in between leaves, is told from what is being written by a lock.
"""

from collections.abc import Iterator
import contextlib
import errno
import fcntl
import os
import pathlib
import stat
from typing import BinaryIO
import uuid

_TEMPORARY = '.tmp'


def write(path: pathlib.Path, text: str) -> None:
    """Replace a file (0600) so that a crash leaves the old or the new one.

    :raises OSError: the new file can't be written; the old one is still
        there.
    """
    temporary = path.with_suffix(_TEMPORARY)
    try:
        with _made(temporary) as descriptor:
            with open(descriptor, 'w', closefd=False) as stream:
                stream.write(text)
            os.fsync(descriptor)
            temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


@contextlib.contextmanager
def _made(temporary: pathlib.Path) -> Iterator[int]:
    """Make an empty file and hold its lock."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        descriptor = os.open(temporary, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Unless it was taken for stale, and removed, just before that.
            if os.fstat(descriptor).st_nlink:
                os.ftruncate(descriptor, 0)
                yield descriptor
                return
        finally:
            os.close(descriptor)


def remove_stale(directory: pathlib.Path) -> None:
    """Remove what :func:`write` left in processes that were killed.

    It may hold passwords, and nobody would write to its name again.

    :raises OSError: a file can't be removed.
    """
    for path in directory.glob(f'*{_TEMPORARY}'):
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISREG(path.lstat().st_mode):
                remove_unless_locked(path)


def remove_unless_locked(path: pathlib.Path) -> None:
    """Remove a file, unless a process that writes it holds its lock.

    :raises OSError: the file can't be removed.
    """
    with path.open('rb') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # being written
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def created(path: pathlib.Path) -> Iterator[BinaryIO]:
    """Yield a new file (0600) that gets its name when the block has ended.

    A file that has the name already is not replaced.  Nothing stays of a block
    that fails.  Of a process that is killed nothing stays either, except on a
    file system that has no files without a name (NFS), where a file stays
    whose name begins with ".nova-snap-new-".

    :raises FileExistsError: the name is taken.
    :raises OSError: the file can't be made.
    """
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with _nameless(path) as (stream, name):
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            # With a directory, so that the link is followed (open(2)).
            os.link(name, path, src_dir_fd=folder, follow_symlinks=True)
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def _nameless(path: pathlib.Path) -> Iterator[tuple[BinaryIO, str]]:
    """Yield a file without a name, and the path by which it can be linked."""
    flags = os.O_RDWR | os.O_CLOEXEC
    try:
        descriptor = os.open(path.parent, flags | os.O_TMPFILE, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
            raise
    else:
        with open(descriptor, 'r+b') as stream:
            yield stream, f'/proc/self/fd/{descriptor}'
        return
    part = path.with_name(f'.nova-snap-new-{uuid.uuid4()}')
    descriptor = os.open(part, flags | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, 'r+b') as stream:
            yield stream, str(part)
    finally:
        part.unlink(missing_ok=True)


def sync_directory(directory: pathlib.Path) -> None:
    """Write to disk that files of a directory were made, renamed, removed."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
