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

"""Compression of one cluster: zstd, or zlib for readers before QEMU 5.1.

zstd is the standard library's (``compression.zstd``) or, before Python 3.14,
its copy ``backports.zstd``.  For zlib, ``isal`` is used if it is installed,
since it is several times as fast as the standard library.
"""

from collections.abc import Callable
import importlib
import struct
from typing import Any
from typing import Protocol
import zlib as slow_zlib

from nova_snap.qcow2 import errors
from nova_snap.qcow2 import format as qcow2_format
from nova_snap.qcow2 import source as source_lib

CLUSTER = qcow2_format.CLUSTER

#: A cluster that would not become smaller than this is stored uncompressed:
#: saving less than 1/64 is not worth the reader's time.
WORTHWHILE = CLUSTER - CLUSTER // 64

#: A zstd frame with one uncompressed block (RFC 8878, 3.1.1): magic number;
#: single segment with two bytes of content size, less 256; block header.
_ZSTD_STORED = struct.pack('<IBH', 0xFD2FB528, 0x60, CLUSTER - 256) + (
    (CLUSTER << 3 | 1).to_bytes(3, 'little')
)
#: Deflate's uncompressed blocks hold 65535 bytes (RFC 1951, 3.2.4): two.
_ZLIB_FIRST = struct.pack('<BHH', 0, CLUSTER - 1, 0)
_ZLIB_SECOND = struct.pack('<BHH', 1, 1, 0xFFFE)
#: QEMU inflates with a window of 4 KiB and without a zlib header.
_ZLIB_WINDOW = -12


class Codec(Protocol):
    """A compressor for one thread.

    :ivar compression: the compression type in the image's header.
    :ivar stored_size: bytes of a cluster that is stored uncompressed.
    """

    compression: int
    stored_size: int

    def compress(self, cluster: memoryview) -> bytes:
        """Return the compressed cluster, whatever its length."""

    def store(self, cluster: memoryview) -> list[source_lib.Bytes]:
        """Return the pieces of a valid cluster with uncompressed data."""


class Zstd:
    """zstd at a level from 1 to 19 (default 1); one frame a cluster."""

    compression = qcow2_format.ZSTD
    stored_size = len(_ZSTD_STORED) + CLUSTER

    def __init__(self, level: int | None = None) -> None:
        library = _zstd()
        compressor: Any = library.ZstdCompressor(
            level=_valid(1 if level is None else level, range(1, 20))
        )
        self._compress = compressor.compress
        self._mode = compressor.FLUSH_FRAME

    def compress(self, cluster: memoryview) -> bytes:
        """Return the compressed cluster, whatever its length."""
        packed: bytes = self._compress(cluster, self._mode)
        return packed

    def store(self, cluster: memoryview) -> list[source_lib.Bytes]:
        """Return a frame with one raw block."""
        return [_ZSTD_STORED, cluster]


class Zlib:
    """Raw deflate; levels are isal's 0 to 3, or else zlib's 1 to 9."""

    compression = qcow2_format.ZLIB
    stored_size = len(_ZLIB_FIRST) + len(_ZLIB_SECOND) + CLUSTER

    def __init__(self, level: int | None = None) -> None:
        library, default, levels = _zlib()
        self._compress = library.compress
        self._level = _valid(default if level is None else level, levels)

    def compress(self, cluster: memoryview) -> bytes:
        """Return the compressed cluster, whatever its length."""
        packed: bytes = self._compress(
            cluster, level=self._level, wbits=_ZLIB_WINDOW
        )
        return packed

    def store(self, cluster: memoryview) -> list[source_lib.Bytes]:
        """Return two uncompressed blocks."""
        end = CLUSTER - 1
        return [_ZLIB_FIRST, cluster[:end], _ZLIB_SECOND, cluster[end:]]


#: The compression algorithms by their names.
ALGORITHMS: dict[str, Callable[[int | None], Codec]] = {
    'zstd': Zstd,
    'zlib': Zlib,
}


def is_installed(algorithm: str) -> bool:
    """Return True if the library of an algorithm is there."""
    try:
        ALGORITHMS[algorithm](None)
    except errors.LibraryMissing:
        return False
    return True


def _zstd() -> Any:
    for name in ('compression.zstd', 'backports.zstd'):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise errors.LibraryMissing('zstd', 'backports.zstd or nova-snap[stream]')


def _zlib() -> tuple[Any, int, range]:
    """Return the fastest deflate, its default level and its levels."""
    try:
        return importlib.import_module('isal.isal_zlib'), 2, range(4)
    except ImportError:
        return slow_zlib, 1, range(1, 10)


def _valid(level: int, levels: range) -> int:
    if level not in levels:
        raise errors.InvalidLevel(level, levels)
    return level
