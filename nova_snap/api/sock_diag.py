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

"""The users of TCP sockets, as the kernel tells them by sock_diag(7).

The kernel looks for the sockets itself and answers with those that match.  The
tables in /proc/net have all sockets of the host, in text: on a host with a
thousand of them, reading them for each of many requests takes most of the
time.
"""

from collections.abc import Iterator
import socket
import struct

#: From linux/netlink.h, linux/sock_diag.h and linux/inet_diag.h.
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_OF_A_LIST = 0x301  # NLM_F_REQUEST, NLM_F_DUMP
_ERROR, _DONE = 2, 3

#: A set of states that has the one in which a program holds the socket.
_ESTABLISHED = 1 << 1

#: Length, type, flags, number, and sender of a message.
_HEADER = struct.Struct('=IHHII')

#: Family, protocol, what is wanted besides, and states.
_REQUEST = struct.Struct('=BBBxI')

#: Both ports, in the order of bytes of the network.
_PORTS = struct.Struct('!HH')

#: Both addresses, the interface and a cookie: any.
_ANY = bytes(32) + bytes(4) + b'\xff' * 8

#: In an answer: the state of the socket, and behind ports, addresses,
#: interface, cookie, timer and queues its user.
_SOCKET = struct.Struct('=xBxx 48x 12x I')

_SIZE = 1 << 16


def uids(port: int, remote_port: int) -> set[int]:
    """Return the users of connected sockets with these ports.

    :raises OSError: the kernel does not tell.
    """
    return {
        uid
        for family in (socket.AF_INET, socket.AF_INET6)
        for uid in _uids(family, port, remote_port)
    }


def _uids(family: int, port: int, remote_port: int) -> Iterator[int]:
    body = (
        _REQUEST.pack(family, socket.IPPROTO_TCP, 0, _ESTABLISHED)
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
            yield _SOCKET.unpack_from(message)[1]


def _messages(kernel: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Yield types and bodies of messages, for as long as somebody asks."""
    while True:
        data = kernel.recv(_SIZE)
        while data:
            length, kind, *_others = _HEADER.unpack_from(data)
            yield kind, data[_HEADER.size : length]
            data = data[(length + 3) & ~3 :]
