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

"""The bytes of the qcow2 format, as QEMU's docs/interop/qcow2.txt has them.

Open this file for the meaning of a field.  It has constants and pure functions
only; offsets in the file are computed in ``layout``.
"""

import struct

CLUSTER_BITS = 16
#: Bytes of a cluster, the unit of everything; QEMU's own default.
CLUSTER = 1 << CLUSTER_BITS
#: Guest clusters that one L2 table maps (8 bytes each, one cluster): 512 MiB.
L2_ENTRIES = CLUSTER // 8
#: Host clusters that one refcount block counts (2 bytes each): 2 GiB.
REFCOUNTS = CLUSTER // 2
#: Refcount blocks that one cluster of the refcount table points to: 16 TiB.
REFTABLE_ENTRIES = CLUSTER // 8
#: Bytes of the units in which a size is given.
SECTOR = 512
#: QEMU opens L1 tables of at most 32 MiB (QCOW_MAX_L1_SIZE): 2 PiB of disk.
MAX_VIRTUAL_SIZE = (32 << 20) // 8 * L2_ENTRIES * CLUSTER

#: The cluster's refcount is exactly one.
COPIED = 1 << 63
#: The L2 entry describes a compressed cluster.
COMPRESSED = 1 << 62
#: First bit of the number of additional sectors in such an entry.
SECTORS_SHIFT = 62 - (CLUSTER_BITS - 8)

#: Values of the header's compression type.
ZLIB = 0
ZSTD = 1

_MAGIC = 0x514649FB
_VERSION = 3
_REFCOUNT_ORDER = 4
_INCOMPATIBLE_COMPRESSION = 1 << 3
_FEATURE_NAMES = 0x6803F857
_HEADER = struct.Struct('>IIQIIQIIQQIIQQQQII')
_COMPRESSION = struct.Struct('>B7x')
_EXTENSION = struct.Struct('>II')
_FEATURE = struct.Struct('>BB46s')


def ceil_div(number: int, divisor: int) -> int:
    """Divide and round up."""
    return -(-number // divisor)


def header(
    *,
    virtual_size: int,
    l1_offset: int,
    l1_entries: int,
    reftable_offset: int,
    reftable_clusters: int,
    compression: int,
) -> bytes:
    """Return the cluster with the header, of version 3.

    Images without zstd clusters have the shortest header of version 3, which
    every QEMU since 1.1 reads.

    :param virtual_size: bytes, a multiple of 512.
    :param compression: ``ZLIB`` or ``ZSTD``.
    """
    zstd = compression != ZLIB
    length = _HEADER.size + (_COMPRESSION.size if zstd else 0)
    fields = _HEADER.pack(
        _MAGIC,
        _VERSION,
        0,  # backing file: offset and length of its name
        0,
        CLUSTER_BITS,
        virtual_size,
        0,  # encryption
        l1_entries,
        l1_offset,
        reftable_offset,
        reftable_clusters,
        0,  # internal snapshots: number and offset
        0,
        _INCOMPATIBLE_COMPRESSION if zstd else 0,
        0,  # compatible features
        0,  # auto-clear features
        _REFCOUNT_ORDER,
        length,
    )
    extra = _zstd_extra(compression) if zstd else b''
    return (fields + extra).ljust(CLUSTER, b'\0')


def _zstd_extra(compression: int) -> bytes:
    """Return the compression type, and its name for older readers."""
    name = _FEATURE.pack(0, 3, b'compression type')
    extension = _EXTENSION.pack(_FEATURE_NAMES, len(name))
    return _COMPRESSION.pack(compression) + extension + name


def standard_entry(offset: int) -> int:
    """Return the L1 or L2 entry of a host cluster with refcount 1."""
    return COPIED | offset


def compressed_entry(offset: int, size: int) -> int:
    """Return the L2 entry of a compressed cluster.

    :param offset: of its first byte; need not be aligned.
    :param size: its number of bytes; may exceed a cluster, as long as the
        number of sectors fits into eight bits.
    """
    sectors = (offset + size - 1) // SECTOR - offset // SECTOR
    return COMPRESSED | sectors << SECTORS_SHIFT | offset
