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

"""The undo steps of a domain snapshot that is being taken."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import os
from typing import Any

from oslo_log import log as logging

from nova_snap import exception
from nova_snap import undo
from nova_snap import waiting
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import host as host_lib
from nova_snap.virt.libvirt.snapshots import calls
from nova_snap.virt.libvirt.snapshots import firmware_state
from nova_snap.virt.libvirt.snapshots import metadata
from nova_snap.virt.storage import open_files

LOG = logging.getLogger(__name__)

#: Seconds to wait for a domain snapshot that libvirtd carries on alone.
JOB_TIMEOUT = 3600


@dataclasses.dataclass(frozen=True)
class RemoveUnusedFiles(
    undo.Step, kind='remove the files of a failed domain snapshot'
):
    """Remove the new files of a domain snapshot that was not taken.

    :ivar files: path, and the identity of the file that was made there; a
        path without one is of a name that nobody else has.
    :ivar ran: the guest ran when the domain snapshot was begun.
    """

    files: Sequence[Mapping[str, Any]]
    ran: bool

    def undo(self, resources: undo.Resources) -> None:
        """Remove the files that nothing uses; let the guest run on.

        libvirtd carries a domain snapshot on when this process dies; then it
        is whole, and its files are in use.  The files of a guest that has
        gone stay: it may run with them on another host.

        :raises HypervisorError: libvirt still works at it.
        """
        guest = resources.get(guest_lib.Guest)
        if not self._unused(guest.host):
            return self._resume(guest)
        try:
            # libvirtd may be writing the memory, and use the files after.
            _wait_until_taken(guest)
        except exception.GuestGone:
            LOG.warning(
                'Server %(server)s is not there any more. New files of its '
                'domain snapshot, which was interrupted, are left: %(files)s',
                {
                    'server': guest.uuid,
                    'files': ', '.join(self._unused(guest.host)),
                },
                instance_uuid=guest.uuid,
            )
            return None
        for path in self._unused(guest.host):
            os.unlink(path)
        return self._resume(guest)

    def _resume(self, guest: guest_lib.Guest) -> None:
        if self.ran and _is_left_paused(guest):
            LOG.warning(
                'Resuming server %s, which a domain snapshot had paused.',
                guest.uuid,
                instance_uuid=guest.uuid,
            )
            guest.resume()

    def _unused(self, host: host_lib.Host) -> list[str]:
        """Return the files that are there, are ours, and are not in use."""
        ours = {}
        for file in self.files:
            found = open_files.identity(file['path'])
            wanted = file['identity']
            if found is not None and wanted in (None, list(found)):
                ours[file['path']] = found
        if not ours:
            return []
        domains = calls.domains(host)
        opened = open_files.openers({i: [path] for path, i in ours.items()})
        return [
            path
            for path, found in ours.items()
            if found not in opened and not _is_named(domains, path)
        ]


@dataclasses.dataclass(frozen=True)
class CompleteFirmware(
    undo.Step, kind='complete what is kept of the firmware and the TPM'
):
    """Say of which domain snapshot the state is that was written before.

    :ivar name: of the domain snapshot.
    :ivar files: its new files, by which it is known.
    """

    name: str
    files: Sequence[str]

    def undo(self, resources: undo.Resources) -> None:
        """Keep the state, unless the domain snapshot was not taken."""
        guest = resources.get(guest_lib.Guest)
        store = resources.get(firmware_state.Store)
        try:
            xml, is_current = calls.xmls(guest).get(self.name, ('', False))
            created = calls.created(guest)
        except exception.GuestGone:
            store.prune(guest, {})
            return
        if xml and metadata.parse(xml, is_current).paths >= set(self.files):
            store.complete(guest, self.name, created[self.name])
        store.prune(guest, created)


def _is_left_paused(guest: guest_lib.Guest) -> bool:
    """Return True if libvirt has paused a guest, and does nothing with it."""
    try:
        return calls.is_paused_by_snapshot(guest) and guest.job() is None
    except exception.GuestGone:
        return False


def _wait_until_taken(guest: guest_lib.Guest) -> None:
    """Wait while libvirt takes a domain snapshot of a guest.

    :raises GuestGone: the guest does not exist.
    """
    for _poll in waiting.polls(JOB_TIMEOUT):
        if not calls.is_being_taken(guest):
            return
    raise exception.HypervisorError(
        action='take a domain snapshot',
        reason=f'it has not ended within {JOB_TIMEOUT} s',
    )


def _is_named(domains: Sequence[calls.Domain], path: str) -> bool:
    """Return True if a guest, or a domain snapshot, names a file."""
    return any(
        domain_xml.names(domain.xml + domain.definition, path)
        or any(path in snapshot.paths for snapshot in domain.snapshots)
        for domain in domains
    )
