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

"""Backup jobs in pull mode: disks at one point in time, over NBD.

libvirt (6.0.0 and later, complete since 7.2.0) lets QEMU export disks as they
are when the job begins.  Old data that the guest overwrites later is first
copied to a scratch file of the disk.  https://libvirt.org/formatbackup.html
"""

from collections.abc import Sequence
import dataclasses
import os
import pathlib
from typing import Any
import urllib.parse
import uuid

# What is parsed is libvirtd's own output.
import xml.etree.ElementTree as ElementTree  # nosec B405

from nova_snap import exception
from nova_snap import waiting
from nova_snap.virt.libvirt import disk_xml
from nova_snap.virt.libvirt import guest as guest_lib

#: Seconds in which a backup job ends that was aborted.
END_TIMEOUT = 30

#: Bytes that the path of a unix socket may have (unix(7)).
MAX_SOCKET_PATH = 107


@dataclasses.dataclass(frozen=True)
class Export:
    """The files of a backup job, all in one folder.

    Each disk is exported on the same socket, under its target name.
    """

    folder: pathlib.Path

    @property
    def socket(self) -> pathlib.Path:
        """The socket of QEMU's NBD server."""
        return self.folder / 'nbd.sock'

    def scratch(self, number: int) -> pathlib.Path:
        """Return the scratch file of a disk, by its place in the job."""
        return self.folder / f'scratch-{number}.qcow2'

    @property
    def scratches(self) -> list[pathlib.Path]:
        """The scratch files that exist."""
        return list(self.folder.glob('scratch*.qcow2'))

    def uri(self, device: str) -> str:
        """Return the URI of a disk for libnbd."""
        # libnbd does not take "+" for a space, as forms in HTML do.
        socket = urllib.parse.quote(str(self.socket), safe='')
        name = urllib.parse.quote(device, safe='')
        return f'nbd+unix:///{name}?socket={socket}'


def is_short_enough(directory: pathlib.Path) -> bool:
    """Return True if the path of a socket in the directory is short enough.

    An export has a folder of its own in the directory, named by a uuid.
    """
    socket = Export(directory / str(uuid.uuid4())).socket
    return len(os.fsencode(socket)) <= MAX_SOCKET_PATH


def begin(
    guest: guest_lib.Guest, wanted: Sequence[str], export: Export
) -> None:
    """Begin the backup job; the disks as of now are exported.

    Each disk's scratch file is there, an empty qcow2 file of the disk's size
    that QEMU may write to.

    :param wanted: target names of the disks.
    :raises BackupRefused: libvirt refused, as it does while another backup
        job runs, or if QEMU can't write the scratch file.
    """
    devices = [disk.device for disk in disk_xml.disks(guest.xml())]
    xml = _job_xml(devices, wanted, export)
    try:
        guest.begin_backup(xml)
    except exception.HypervisorError as error:
        raise exception.BackupRefused(**error.fields) from error


def is_running(guest: guest_lib.Guest, export: Export | None = None) -> bool:
    """Return True if a backup job runs: any, or that of an export."""
    xml = guest.backup_job_xml()
    if xml is None:
        return False
    return export is None or _is_of(xml, export)


def _is_of(xml: str, export: Export) -> bool:
    server = _parse(xml).find('server')
    return server is not None and server.get('socket') == str(export.socket)


def end(guest: guest_lib.Guest, export: Export) -> None:
    """End the job of this export, if it runs; retry if libvirtd is gone.

    A job of another program is left alone.

    :raises HypervisorError: the job has not ended within END_TIMEOUT.
    """
    if not is_running(guest, export):
        return

    def abort(domain: Any) -> None:
        # Asked at each try: the job may have ended, and another begun.
        if _is_of(domain.backupGetXMLDesc(0), export):
            domain.abortJob()

    try:
        guest.call('end the backup of its disks', abort, insist=True)
    except exception.HypervisorError:
        if is_running(guest, export):
            raise
    # abortJob only asks QEMU to end the job, which takes it some milliseconds.
    for _poll in waiting.polls(END_TIMEOUT, interval=0.05, first=0.002):
        if not is_running(guest, export):
            return
    raise exception.HypervisorError(
        action='end the backup of its disks',
        reason=f'it has not ended within {END_TIMEOUT} s',
    )


def _job_xml(
    devices: Sequence[str], wanted: Sequence[str], export: Export
) -> str:
    root = ElementTree.Element('domainbackup', mode='pull')
    ElementTree.SubElement(
        root, 'server', transport='unix', socket=str(export.socket)
    )
    disks = ElementTree.SubElement(root, 'disks')
    for name in devices:
        if name not in wanted:
            ElementTree.SubElement(disks, 'disk', name=name, backup='no')
    for number, name in enumerate(wanted):
        disk = ElementTree.SubElement(
            disks,
            'disk',
            name=name,
            backup='yes',
            type='file',
            exportname=name,
        )
        ElementTree.SubElement(disk, 'driver', type='qcow2')
        scratch = str(export.scratch(number))
        ElementTree.SubElement(disk, 'scratch', file=scratch)
    return ElementTree.tostring(root, encoding='unicode')


def _parse(xml: str) -> ElementTree.Element:
    return ElementTree.fromstring(xml)  # noqa: S314  # nosec B314
