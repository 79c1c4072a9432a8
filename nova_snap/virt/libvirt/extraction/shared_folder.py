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

"""Folders of snapshots, and the directories that they are made in.

QEMU makes the socket of an export as its own user; this process opens the
socket, often as another user.  The directories may belong to a third one: root
takes snapshots in the directory of nova.  That user can put a symbolic link in
the place of a folder at any moment, so mode and owner are changed by
descriptors, never by name.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import errno
import os
import pathlib
import struct
from typing import BinaryIO

from nova_snap import exception

#: The extended attribute and layout of a POSIX access control list; see
#: acl(5) and include/uapi/linux/posix_acl_xattr.h.
_ACCESS = 'system.posix_acl_access'
_DEFAULT = 'system.posix_acl_default'
_VERSION = 2
_USER_OBJ, _USER, _GROUP_OBJ, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_NO_ID = 0xFFFFFFFF
_ALL, _NONE = 7, 0


def make(
    path: pathlib.Path,
    uid: int,
    fill: Callable[[pathlib.Path], None] = lambda folder: None,
) -> None:
    """Make a folder for this user and the user ``uid``.

    Root only has to change its owner; another user needs a file system with
    access control lists.

    :param fill: makes files in the folder while nobody else may enter it, so
        that no name can be replaced by a link; they are shared, too.
    :raises NotPermitted: another user has replaced the folder.
    :raises OSError: the folder can't be made, or can't be shared.
    """
    with _made(path) as folder:
        fill(path)
        if uid == os.geteuid():
            return
        for name in os.listdir(folder):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            file = os.open(name, flags, dir_fd=folder)
            try:
                _share(file, uid)
            finally:
                os.close(file)
        _share(folder, uid)
        if os.geteuid() != 0:
            # Files in the folder inherit this list, so we can open QEMU's
            # socket.
            os.setxattr(folder, _DEFAULT, _access_list(uid, os.geteuid()))


def make_passable(path: pathlib.Path) -> None:
    """Make a folder that other users may pass through, but not list.

    :raises NotPermitted: another user has replaced the folder.
    :raises OSError: the folder can't be made.
    """
    with _made(path) as folder:
        os.fchmod(folder, 0o701)  # nosec B103


def make_directory(path: pathlib.Path) -> None:
    """Make a directory for folders (0711), and those above it.

    What root makes in a directory of another user belongs to that user.  Root
    may be the first to need nova's directory, which nova has to write to.

    :raises OSError: a directory can't be made.
    """
    if path.exists():
        return
    make_directory(path.parent)
    owner = path.parent.stat()
    with contextlib.suppress(FileExistsError), _made(path) as made:
        os.fchmod(made, 0o711)  # nosec B103
        if os.geteuid() == 0:
            os.fchown(made, owner.st_uid, owner.st_gid)


def open_file(path: pathlib.Path) -> BinaryIO:
    """Open a file that this process has made in a folder of its own.

    :raises NotPermitted: another user has replaced the folder.
    :raises OSError: the file can't be read, or is a symbolic link.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    with _opened(path.parent) as folder:
        return open(os.open(path.name, flags, dir_fd=folder), 'rb')


@contextlib.contextmanager
def _made(path: pathlib.Path) -> Iterator[int]:
    """Make a folder (0700), and yield a descriptor of it."""
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    parent = os.open(path.parent, flags)
    try:
        os.mkdir(path.name, 0o700, dir_fd=parent)
        with _opened(path, parent) as folder:
            yield folder
    finally:
        os.close(parent)


@contextlib.contextmanager
def _opened(path: pathlib.Path, parent: int | None = None) -> Iterator[int]:
    """Open a folder of this user, and yield a descriptor of it."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    name = path if parent is None else path.name
    try:
        folder = os.open(name, flags, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP, errno.ENOENT):
            raise _replaced(path) from error
        raise
    try:
        if os.fstat(folder).st_uid != os.geteuid():
            raise _replaced(path)
        yield folder
    finally:
        os.close(folder)


def _replaced(path: pathlib.Path) -> exception.NotPermitted:
    return exception.NotPermitted(
        f'Another user has replaced {path}, the folder of a snapshot. Find '
        'out who can write to the directory that it was in.'
    )


def _share(descriptor: int, uid: int) -> None:
    if os.geteuid() == 0:
        os.fchown(descriptor, uid, -1)
    else:
        os.setxattr(descriptor, _ACCESS, _access_list(uid))


def _access_list(*uids: int) -> bytes:
    """Return a list with all access for the owner and these users only."""
    entries = [
        (_USER_OBJ, _ALL, _NO_ID),
        *((_USER, _ALL, uid) for uid in sorted(uids)),
        (_GROUP_OBJ, _NONE, _NO_ID),
        (_MASK, _ALL, _NO_ID),
        (_OTHER, _NONE, _NO_ID),
    ]
    packed = [struct.pack('<HHI', *entry) for entry in entries]
    return struct.pack('<I', _VERSION) + b''.join(packed)
