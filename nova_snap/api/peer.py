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
import sys
from typing import Any

from nova_snap.api import sock_diag

TABLES = (pathlib.Path('/proc/net/tcp'), pathlib.Path('/proc/net/tcp6'))

#: The variable of a request for the address that it came to.  No standard of
#: WSGI has it, so ``server.py`` sets it.
LOCAL_ADDRESS = 'nova_snap.local_address'


def is_trusted(environ: Mapping[str, Any]) -> bool:
    """Return True if a program of root or of this user sends a request.

    What can't be known is not trusted: a program that has closed its socket,
    or two sockets with the same ends.

    :param environ: of the request, which came over loopback.
    """
    try:
        here = sock_diag.end(
            environ['REMOTE_ADDR'], int(environ['REMOTE_PORT'])
        )
        there = sock_diag.end(
            environ[LOCAL_ADDRESS], int(environ['SERVER_PORT'])
        )
    except (KeyError, ValueError):
        return False
    found = sockets(here, there)
    if len(found) != 1:
        return False
    return found[0].is_connected and found[0].uid in {0, os.geteuid()}


def sockets(
    here: sock_diag.End, there: sock_diag.End
) -> list[sock_diag.Socket]:
    """Return the sockets of this host between two ends, in any state."""
    try:
        found = sock_diag.sockets(here.port, there.port)
    except OSError:  # a kernel without it, or a sandbox that forbids it
        found = listed_sockets()
    return [
        socket
        for socket in found
        if (socket.here, socket.there) == (here, there)
    ]


def listed_sockets() -> list[sock_diag.Socket]:
    """Return all sockets of this host, by reading the tables of them."""
    found = []
    for table in TABLES:
        try:
            lines = table.read_text().splitlines()[1:]
        except FileNotFoundError:  # no IPv6
            continue
        for line in lines:
            _slot, here, there, state, *others = line.split()
            found.append(
                sock_diag.Socket(
                    _listed_end(here),
                    _listed_end(there),
                    int(state, 16),
                    int(others[3]),
                )
            )
    return found


def _listed_end(text: str) -> sock_diag.End:
    """Return an end that is written as a table has it.

    An address is there in words of 32 bits, each as this processor's number.
    """
    address, port = text.split(':')
    words = bytes.fromhex(address)
    packed = b''.join(
        int.from_bytes(words[place : place + 4], 'big').to_bytes(
            4, sys.byteorder
        )
        for place in range(0, len(words), 4)
    )
    return sock_diag.end(packed, int(port, 16))
