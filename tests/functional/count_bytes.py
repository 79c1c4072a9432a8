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


"""Run nova-snap and count the bytes of its connections to Ceph.

    python -m tests.functional.count_bytes FILE ARGUMENT...

The file gets the number: what TCP has sent and received on the connections of
the process (TCP_INFO) that are open when one to Ceph ends.
"""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import socket
import struct
import sys
from typing import Any

from nova_snap.virt.storage import rbd

#: Offsets of tcpi_bytes_acked and tcpi_bytes_received in struct tcp_info.
_ACKED = 120


def look(seen: dict[int, int]) -> None:
    """Note the bytes of all TCP connections that are open, by their inode."""
    for name in os.listdir('/proc/self/fd'):
        with contextlib.suppress(OSError), _socket(int(name)) as connection:
            found = connection.getsockopt(
                socket.IPPROTO_TCP, socket.TCP_INFO, _ACKED + 16
            )
            inode = os.fstat(connection.fileno()).st_ino
            seen[inode] = sum(struct.unpack_from('QQ', found, _ACKED))


def _socket(descriptor: int) -> socket.socket:
    return socket.socket(fileno=os.dup(descriptor))


def count(file: pathlib.Path) -> None:
    """Add up what all connections have transferred when one to Ceph ends."""
    connected = rbd.connected
    seen: dict[int, int] = {}

    @contextlib.contextmanager
    def counted(*arguments: Any) -> Iterator[rbd.Ceph]:
        with connected(*arguments) as ceph:
            yield ceph
            look(seen)
            file.write_text(str(sum(seen.values())))

    rbd.connected = counted


if __name__ == '__main__':
    count(pathlib.Path(sys.argv[1]))
    from nova_snap.cmd import shell

    sys.exit(shell.main(sys.argv[2:]))
