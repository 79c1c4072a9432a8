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

"""Changing the layers of a disk that no QEMU has open, by qemu-img.

Open this file for the command lines; which layers may be changed is decided
by the caller.
"""

import dataclasses
import pathlib

from nova_snap import process
from nova_snap.virt.storage import disk_source as storage
from nova_snap.virt.storage import qemu_img


def commit(
    source: storage.DiskSource, rate: int, progress: qemu_img.Progress
) -> None:
    """Write the data of the topmost layer into the layer below it.

    The topmost layer keeps its data, so the disk reads the same at any moment,
    also if this is ended in the middle.

    :param source: the disk with its whole chain.
    :param rate: bytes a second; 0: as fast as it can.
    :param progress: as for :func:`.qemu_img.convert`.
    :raises ProgramFailed: qemu-img failed, as it does on a full disk, or
        another program has one of the layers open.
    """
    limit = ['-r', str(rate)] if rate else []
    below = pathlib.Path((source.backing or source).describe())
    process.run(
        ['qemu-img', 'commit', '-p', '-d', *limit]
        + ['-t', qemu_img.cache_mode(below.parent)]
        + [qemu_img.checked_name(source)],
        qemu_img.DATA_LIMITS,
        poll=lambda output: progress(qemu_img.share(output)),
    )
    progress(1)


def set_backing(path: str, backing: storage.DiskSource) -> None:
    """Name another backing file in the header of a qcow2 file.

    What is read through it has to be the same.

    :raises ProgramFailed: qemu-img failed, or the file is open.
    """
    process.run(
        ['qemu-img', 'rebase', '-q', '-u', '-f', 'qcow2']
        + ['-F', backing.format, '-b', backing.describe(), path],
        qemu_img.INFO_LIMITS,
    )


def delete_internal(source: storage.DiskSource, name: str) -> None:
    """Delete an internal snapshot of a qcow2 file.

    :raises ProgramFailed: there is none, or the file is open.
    """
    process.run(
        ['qemu-img', 'snapshot', '-q', '-d', name]
        + [qemu_img.checked_name(dataclasses.replace(source, backing=None))],
        qemu_img.DATA_LIMITS,
    )
