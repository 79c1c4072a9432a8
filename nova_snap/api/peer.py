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

"""Who is at the other end of a connection within this host.

A guest whose network is a program of the host (``<interface type='user'>``)
can connect to the host's loopback addresses.  What the kernel shows then is
the user of that guest's QEMU.
"""

from collections.abc import Mapping
import os
import pathlib
from typing import Any

from nova_snap.api import sock_diag

#: The kernel's tables of TCP sockets in this network namespace (proc(5)).
TABLES = (pathlib.Path('/proc/net/tcp'), pathlib.Path('/proc/net/tcp6'))

#: The state of a socket that a program holds: a socket that is closed already
#: is shown as root's, whoever has closed it.
_ESTABLISHED = '01'


def is_trusted(environ: Mapping[str, Any]) -> bool:
    """Return True if a program of root or of this user sends a request.

    :param environ: of the request, which came over loopback.
    """
    try:
        found = uids(int(environ['REMOTE_PORT']), int(environ['SERVER_PORT']))
    except (KeyError, ValueError):
        return False
    return bool(found) and found <= {0, os.geteuid()}


def uids(port: int, remote_port: int) -> set[int]:
    """Return the users of connected sockets with these ports.

    Whatever their addresses: a user too many only refuses a request.
    """
    try:
        return sock_diag.uids(port, remote_port)
    except OSError:  # a kernel without it, or a sandbox that forbids it
        return listed_uids(port, remote_port)


def listed_uids(port: int, remote_port: int) -> set[int]:
    """Return the same by reading the tables of all sockets."""
    found = set()
    for table in TABLES:
        try:
            lines = table.read_text().splitlines()[1:]
        except FileNotFoundError:  # no IPv6
            continue
        for line in lines:
            _slot, local, remote, state, *others = line.split()
            ports = tuple(int(end[-4:], 16) for end in (local, remote))
            if state == _ESTABLISHED and ports == (port, remote_port):
                found.add(int(others[3]))
    return found
