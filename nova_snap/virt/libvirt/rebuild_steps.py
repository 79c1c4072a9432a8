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


"""The undo steps of a guest whose disks are replaced.

Open this file for what becomes of a guest and of its disks if a rebuild
fails, or if its process ends.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import os
import pathlib
import stat
from typing import Any

from oslo_log import log as logging

from nova_snap import durable
from nova_snap import exception
from nova_snap import this_host
from nova_snap import undo
from nova_snap.virt.libvirt import disk_users
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import new_guest_steps

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class RestoreDisks(undo.Step, kind='give the server its disks again'):
    """Define a guest with the disks that it had.

    A recovery does not: the definition names the disks of before or the new
    ones, all of which are whole, and the guest may have run with these since.

    :ivar xml: the definition before; it has passwords in it.
    :ivar new: the files of the disks that the guest was to get.
    """

    xml: str = dataclasses.field(repr=False)
    new: Sequence[str]
    outcome: new_guest_steps.Outcome | None = dataclasses.field(
        default=None, compare=False, repr=False, metadata=undo.VOLATILE
    )

    def undo(self, resources: undo.Resources) -> None:
        """Define the guest as before, unless it runs with the new disks.

        A guest that was undefined meanwhile stays so.
        """
        if self.outcome is None or self.outcome.is_complete:
            return
        guest = resources.get(guest_lib.Guest)
        if not guest.is_defined():
            return
        if guest.power_state().is_active and any(
            domain_xml.names(guest.xml(), path) for path in self.new
        ):
            LOG.warning(
                'Server %s runs with its new disks, and keeps them.',
                guest.uuid,
                instance_uuid=guest.uuid,
            )
            return
        guest.host.define(self.xml)


@dataclasses.dataclass(frozen=True)
class RemoveReplaced(undo.Step, kind='remove the disks that are not used'):
    """Remove the files of disks that no guest has any more.

    As long as the definition of the guest names a file, or has a note of it,
    the file stays.

    :ivar files: path, device and inode of each.
    :ivar has_run: the guest ran when the step was made.
    """

    files: Sequence[Mapping[str, Any]]
    has_run: bool = False

    is_blocking = False

    @classmethod
    def of(
        cls, paths: Sequence[str], guest: guest_lib.Guest
    ) -> 'RemoveReplaced':
        """Make the step for files that are there now."""
        files = []
        for path in paths:
            try:
                found = pathlib.Path(path).lstat()
            except OSError:
                continue
            if stat.S_ISREG(found.st_mode):
                files.append(
                    {
                        'path': path,
                        'device': found.st_dev,
                        'inode': found.st_ino,
                    }
                )
        return cls(files, guest.power_state().is_active)

    def undo(self, resources: undo.Resources) -> None:
        """Remove the files, as far as nobody needs them.

        A recovery keeps them if the guest has not come back since.
        """
        guest = resources.get(guest_lib.Guest)
        is_recovery = resources.find(this_host.Origin) is not None
        is_missed = (
            is_recovery and self.has_run and not guest.power_state().is_active
        )
        for file in self.files:
            path = pathlib.Path(file['path'])
            if is_missed:
                _log_kept(guest, path, 'the server does not run')
            elif not _is_same(path, file):
                continue
            else:
                _remove(guest, path)


def _is_same(path: pathlib.Path, file: Mapping[str, Any]) -> bool:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    same = file['device'], file['inode']
    return (found.st_dev, found.st_ino) == same


def _remove(guest: guest_lib.Guest, path: pathlib.Path) -> None:
    try:
        user = disk_users.first(guest.host, path)
    except exception.UnsafeDisk as error:
        _log_kept(guest, path, str(error))
        return
    if user == guest.uuid:
        return  # still, or again
    if user is not None:
        _log_kept(guest, path, f'server {user} needs it')
        return
    os.unlink(path)
    durable.sync_directory(path.parent)
    LOG.info(
        'Disk %(path)s of server %(server)s is removed.',
        {'path': path, 'server': guest.uuid},
        instance_uuid=guest.uuid,
    )


def _log_kept(guest: guest_lib.Guest, path: pathlib.Path, why: str) -> None:
    LOG.warning(
        'Disk %(path)s, which server %(server)s has no more, is not removed: '
        '%(why)s.',
        {'path': path, 'server': guest.uuid, 'why': why},
        instance_uuid=guest.uuid,
    )
