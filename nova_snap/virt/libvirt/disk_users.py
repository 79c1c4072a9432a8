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


"""The guests that need a file, by their definitions or by a backing chain.

Open this file for what is looked at before a disk is removed.
"""

from collections.abc import Iterator
import os
import pathlib

from nova_snap import exception
from nova_snap.virt.libvirt import disk_xml
from nova_snap.virt.libvirt import host as host_lib
from nova_snap.virt.libvirt import inspection
from nova_snap.virt.storage import disk_source as storage
from nova_snap.virt.storage import qemu_img


def first(host: host_lib.Host, path: pathlib.Path) -> str | None:
    """Return the uuid of a guest that needs a file, None if there is none.

    Definitions are asked for the name of the file, and headers of qcow2 files
    for what is below them: libvirt knows the layers of guests that run only.

    :raises UnsafeDisk: a header can't be read, so that it may name the file.
    """
    for uuid in host.users_of(str(path)):
        return uuid
    wanted = os.path.realpath(path)
    for uuid, source in _disks(host):
        if wanted in _files(source):
            return uuid
    return None


def _disks(host: host_lib.Host) -> Iterator[tuple[str, storage.DiskSource]]:
    find = inspection.volume_finder(host)
    for uuid, xml in host.definitions():
        for disk in disk_xml.disks(xml, find):
            if disk.readable is not None:
                yield uuid, disk.readable


def _files(source: storage.DiskSource) -> set[str]:
    """Return the files of a disk, by the definition and by headers."""
    layers = list(source.layers())
    found = {
        os.path.realpath(layer.location)
        for layer in layers
        if isinstance(layer.location, str)
    }
    top = layers[-1]
    while isinstance(top.location, str) and top.format != 'raw':
        if not os.path.exists(top.location):
            break  # nothing can be below it
        try:
            header = qemu_img.info(top)
        except exception.ProgramFailed as error:
            raise exception.UnsafeDisk(
                disk=top.location, reason=str(error)
            ) from error
        below = header.backing_file
        if below is None or os.path.realpath(below) in found:
            break
        found.add(os.path.realpath(below))
        top = storage.DiskSource(
            'file', header.backing_format or 'qcow2', below
        )
    return found
