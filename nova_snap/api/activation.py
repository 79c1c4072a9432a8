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

"""The socket that systemd gives to a service, if it is started by a socket.

Open this file for ``etc/systemd/nova-snap-api.socket``.  The protocol is in
sd_listen_fds(3).
"""

import os
import pathlib
import socket
import stat

from nova_snap import exception

#: The first inherited file descriptor.
FIRST = 3

#: The variables of the protocol.  cheroot would heed them, too.
PROCESS, COUNT, NAMES = VARIABLES = (
    'LISTEN_PID',
    'LISTEN_FDS',
    'LISTEN_FDNAMES',
)


def inherited() -> socket.socket | None:
    """Return the socket that was given to this process; None if none was.

    The variables are removed: no program that this process starts is meant.

    :raises Invalid: it is of no kind that can be served, or one of several.
    """
    values = {name: os.environ.pop(name, '') for name in VARIABLES}
    if values[PROCESS] != str(os.getpid()):
        return None
    if values[COUNT] != '1':
        raise _invalid(f'gives {values[COUNT]} of them')
    os.set_inheritable(FIRST, False)
    # Unknown: the kernel is asked.  That is not the default of eventlet.
    found = socket.socket(-1, -1, -1, fileno=FIRST)
    families = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
    if found.family not in families or found.type != socket.SOCK_STREAM:
        raise _invalid('gives one that is neither TCP nor a unix stream')
    if not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise _invalid('gives a connection; set Accept=no')
    return found


def address(listener: socket.socket) -> str:
    """Return the IP address, or the path, at which a socket listens.

    :raises Invalid: it is a unix socket without a path.
    """
    name = listener.getsockname()
    if listener.family != socket.AF_UNIX:
        return str(name[0])
    if not isinstance(name, str) or not name.startswith('/'):
        raise _invalid('gives a unix socket without a path')
    return name


def is_for_all(listener: socket.socket) -> bool:
    """Return True if every user of this host may connect to a unix socket."""
    if listener.family != socket.AF_UNIX:
        return False
    mode = pathlib.Path(address(listener)).stat().st_mode
    return bool(mode & stat.S_IWOTH)


def _invalid(what: str) -> exception.Invalid:
    return exception.Invalid(
        'nova-snap-api needs one listening socket; its unit of systemd '
        f'{what}.'
    )
