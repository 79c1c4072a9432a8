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

"""The TCP sockets of this host, as the kernel tells them by sock_diag(7).

The kernel looks for the sockets itself and answers with those that match.  The
tables in /proc/net have all sockets of the host, in text: on a host with a
thousand of them, reading them for each of many requests takes most of the
time.
"""

from collections.abc import Iterator
import ipaddress
import socket
import struct
import sys
from typing import NamedTuple

#: From linux/netlink.h, linux/sock_diag.h and linux/inet_diag.h.
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_OF_A_LIST = 0x301  # NLM_F_REQUEST, NLM_F_DUMP
_ERROR, _DONE = 2, 3

#: The state in which a program holds the socket, and its other end as well.
ESTABLISHED = 1

_ANY_STATE = 0xFFFFFFFF

#: Length, type, flags, number, and sender of a message.
_HEADER = struct.Struct('=IHHII')

#: Family, protocol, what is wanted besides, and states.
_REQUEST = struct.Struct('=BBBxI')

#: Both ports, in the order of bytes of the network.
_PORTS = struct.Struct('!HH')

#: Both addresses, the interface and a cookie: any.
_ANY = bytes(32) + bytes(4) + b'\xff' * 8

#: In an answer: family and state of the socket, ports, addresses, and behind
#: interface, cookie, timer and queues its user.
_SOCKET = struct.Struct('!BBxx HH 16s16s 12x 12x 4s')

_SIZE = 1 << 16


class End(NamedTuple):
    """One end of a connection."""

    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    port: int


class Socket(NamedTuple):
    """A socket of this host.

    :ivar state: a number of linux/tcp_states.h.
    :ivar uid: of the user who made it; 0 when no program holds it any more.
    """

    here: End
    there: End
    state: int
    uid: int

    @property
    def is_connected(self) -> bool:
        """Whether a program holds it, and nobody has begun to close it."""
        return self.state == ESTABLISHED


def end(address: str | bytes, port: int) -> End:
    """Return an end; an IPv4 address within IPv6 becomes one of IPv4.

    :raises ValueError: it is no address.
    """
    found = ipaddress.ip_address(address)
    return End(getattr(found, 'ipv4_mapped', None) or found, port)


def sockets(port: int, remote_port: int) -> list[Socket]:
    """Return the sockets of this host with these ports, in any state.

    :raises OSError: the kernel does not tell.
    """
    return [
        found
        for family in (socket.AF_INET, socket.AF_INET6)
        for found in _sockets(family, port, remote_port)
    ]


def _sockets(family: int, port: int, remote_port: int) -> Iterator[Socket]:
    body = (
        _REQUEST.pack(family, socket.IPPROTO_TCP, 0, _ANY_STATE)
        + _PORTS.pack(port, remote_port)
        + _ANY
    )
    head = _HEADER.pack(
        _HEADER.size + len(body),
        _SOCK_DIAG_BY_FAMILY,
        _REQUEST_OF_A_LIST,
        1,
        0,
    )
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG
    ) as kernel:
        kernel.sendto(head + body, (0, 0))
        for kind, message in _messages(kernel):
            if kind == _DONE:
                return
            if kind == _ERROR:
                (code,) = struct.unpack_from('=i', message)
                raise OSError(-code, 'sock_diag')
            yield _socket(message)


def _socket(message: bytes) -> Socket:
    family, state, port, remote_port, here, there, uid = _SOCKET.unpack_from(
        message
    )
    size = 4 if family == socket.AF_INET else 16
    return Socket(
        end(here[:size], port),
        end(there[:size], remote_port),
        state,
        int.from_bytes(uid, sys.byteorder),
    )


def _messages(kernel: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Yield types and bodies of messages, for as long as somebody asks."""
    while True:
        data = kernel.recv(_SIZE)
        while data:
            length, kind, *_others = _HEADER.unpack_from(data)
            yield kind, data[_HEADER.size : length]
            data = data[(length + 3) & ~3 :]
