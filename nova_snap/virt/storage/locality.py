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

"""Find out which disks other hosts may be able to reach.

A guest whose disks only this host can reach runs nowhere else.  Open this file
to add a kind of storage that no other host can reach.
"""

import json
import os
import pathlib

from oslo_utils import units

from nova_snap import exception
from nova_snap import process

#: File systems on a disk or in the memory of one host.
_LOCAL_FILE_SYSTEMS = frozenset(
    (
        'bcachefs',
        'btrfs',
        'ext2',
        'ext3',
        'ext4',
        'f2fs',
        'overlay',
        'tmpfs',
        'xfs',
        'zfs',
    )
)

_IN_MEMORY = ('ramfs', 'tmpfs')

#: Transports, as lsblk calls them, of disks that are in this host.
_LOCAL_TRANSPORTS = frozenset(('ata', 'mmc', 'sas', 'sata', 'usb'))

#: The transport of an NVMe disk that is in this host, as Linux calls it.
_LOCAL_NVME = 'pcie'

_LIMITS = process.Limits(address_space=units.Gi, cpu=10)


def is_local(path: str) -> bool:
    """Return True if surely no other host can reach a file or block device.

    A path that does not exist may be on storage that is not attached now.
    """
    if not os.path.exists(path):
        return False
    try:
        if pathlib.Path(path).is_block_device():
            return _is_local_device(path)
        return _file_system(path) in _LOCAL_FILE_SYSTEMS
    except (exception.ProgramFailed, OSError, ValueError):
        return False


def is_in_memory(path: str) -> bool:
    """Return True if the files of a folder are in the memory of the host."""
    try:
        return _file_system(path) in _IN_MEMORY
    except exception.ProgramFailed:
        return False


def _file_system(path: str) -> str:
    found = process.run(
        ['findmnt', '--noheadings', '--first-only', '--output', 'FSTYPE']
        + ['--target', path],
        _LIMITS,
    )
    return found.decode().strip()


def _is_local_device(path: str) -> bool:
    found = process.run(
        ['lsblk', '--inverse', '--json', '--list']
        + ['--output', 'NAME,TYPE,TRAN', path],
        _LIMITS,
    )
    rows = json.loads(found)['blockdevices']
    below = [row for row in rows if row['type'] in ('disk', 'loop')]
    return bool(below) and all(
        row['tran'] in _LOCAL_TRANSPORTS or _is_local_nvme(row['name'])
        for row in below
    )


def _is_local_nvme(name: str) -> bool:
    transport = pathlib.Path('/sys/class/block', name, 'device/transport')
    return transport.exists() and transport.read_text().strip() == _LOCAL_NVME
