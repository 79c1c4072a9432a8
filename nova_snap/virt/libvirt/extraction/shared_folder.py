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

"""A folder that is shared by two users of the host only.

QEMU makes the socket of an export as its own user; this process opens the
socket, often as another user.
"""

from collections.abc import Callable
import os
import pathlib
import struct

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
    :raises OSError: the folder can't be made, or can't be shared.
    """
    path.mkdir(mode=0o700)
    fill(path)
    if uid == os.geteuid():
        return
    for shared in (*path.iterdir(), path):
        if os.geteuid() == 0:
            os.chown(shared, uid, -1)
        else:
            os.setxattr(shared, _ACCESS, _access_list(uid))
    if os.geteuid() != 0:
        # Files in the folder inherit this list, so we can open QEMU's socket.
        os.setxattr(path, _DEFAULT, _access_list(uid, os.geteuid()))


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
