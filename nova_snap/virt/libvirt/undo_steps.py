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

"""How what a snapshot owes a guest is undone; see ``nova_snap/journal.py``.

Each function takes the data of a duty, in the running process when a block
ends as well as in recovery, maybe days later and after a reboot.  So each
looks at what the guest is now, and does only what is missing.
"""

from collections.abc import Mapping
import contextlib
import dataclasses
import enum
import pathlib
import shutil
import time

from oslo_log import log as logging

from nova_snap import exception
from nova_snap import journal
from nova_snap import progress
from nova_snap.virt.libvirt import backup_job
from nova_snap.virt.libvirt import block_device
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import hooks as owner_lib

LOG = logging.getLogger(__name__)

#: Seconds that a managed save which outlived our process is waited for.
SAVE_TIMEOUT = 3600

#: Seconds for which a device that is still there is watched: the guest may
#: have been asked to let go of it, which can't be taken back, and be about to.
DETACH_GRACE = 20


class Kind(enum.StrEnum):
    """The kinds of duty, by what is owed; they stand in the journal."""

    REMOVE_FOLDER = 'remove the folder'
    END_MIRROR = 'end the block job'
    END_EXPORT = 'end the export'
    DEFINE = 'define the guest again'
    THAW = 'thaw the guest'
    RESUME = 'start the guest again'
    ATTACH_DEVICES = 'attach the devices again'


class Undoing:
    """The undoing of each kind, for one guest."""

    def __init__(
        self,
        guest: guest_lib.Guest,
        owner: owner_lib.Owner = owner_lib.NOBODY,
    ) -> None:
        self._guest = guest
        self._owner = owner

    def undoers(self) -> Mapping[str, journal.Undo]:
        """The function for each kind."""
        return {
            Kind.REMOVE_FOLDER: self.remove_folder,
            Kind.END_MIRROR: self.end_mirror,
            Kind.END_EXPORT: self.end_export,
            Kind.DEFINE: self.define,
            Kind.THAW: self.thaw,
            Kind.RESUME: self.resume,
            Kind.ATTACH_DEVICES: self.attach_devices,
        }

    def remove_folder(self, data: journal.Data) -> None:
        """Remove ``folder``, unless the guest's disk has come to lie there.

        That is so when another program ended the mirror with a pivot.

        :raises UnsafeDisk: it is so.
        """
        for delta in pathlib.Path(data['folder']).glob('*.delta'):
            self._require_unused(delta)
        remove_folder(data)

    def _require_unused(self, delta: pathlib.Path) -> None:
        if not self._guest.power_state().is_active:
            return
        if str(delta) in self._guest.xml():
            raise exception.UnsafeDisk(
                disk=delta,
                reason='another program has made the server write to it; '
                'copy it back with "virsh blockcopy --pivot" before the '
                'server is shut off.',
            )

    def end_mirror(self, data: journal.Data) -> None:
        """End the block job on ``device``, if it copies to ``target``."""
        device = block_device.BlockDevice(self._guest, data['device'])
        try:
            mirror = device.mirror()
        except exception.GuestGone:
            return  # stopped while it was undefined: the job went with it
        if mirror is not None and mirror.target == data['target']:
            device.abort_job()

    def end_export(self, data: journal.Data) -> None:
        """End the export in ``folder``.

        A guest that was ``running``, and that QEMU paused because its old
        data found no room, goes on.
        """
        folder = pathlib.Path(data['folder'])
        backup_job.end(self._guest, backup_job.Export.in_folder(folder))
        if data['running'] and self._guest.is_paused_by_io_error():
            LOG.warning(
                'Resuming server %s, which an I/O error had paused.',
                self._guest.uuid,
            )
            self._guest.resume()

    def define(self, data: journal.Data) -> None:
        """Make the guest persistent again, from ``xml`` and ``autostart``.

        Not one that is being deleted: nobody would delete it once more.
        """
        if self._is_unwanted():
            return
        self._guest.restore_definition(guest_lib.Definition(**data))

    def thaw(self, data: journal.Data) -> None:
        """Thaw the file systems."""
        try:
            self._guest.thaw()
        except exception.GuestGone:
            return

    def resume(self, data: journal.Data) -> None:
        """Start the guest from its saved memory, ``paused`` or not.

        A guest that is shut off without saved memory was shut off by
        somebody else, and stays so; as does one that was undefined.
        """
        if self._is_unwanted():
            return
        try:
            self._wait_for_save()
            if self._guest.power_state().is_active:
                self._remove_broken_save()
            elif self._guest.has_managed_save():
                self._owner.prepare_start(self._guest.uuid)
                self._guest.start(paused=data['paused'])
        except exception.GuestGone:
            LOG.warning(
                'Server %s was undefined while it was suspended, so it is '
                'not started again.',
                self._guest.uuid,
            )

    def _is_unwanted(self) -> bool:
        unwanted = self._owner.is_being_deleted(self._guest.uuid)
        if unwanted:
            LOG.info(
                'Server %s is being deleted, so it is left to that.',
                self._guest.uuid,
            )
        return unwanted

    def _remove_broken_save(self) -> None:
        # A libvirtd that is killed while it saves a guest leaves the part
        # that it has written (seen with 9.0); the guest runs on.
        if self._guest.has_managed_save():
            self._guest.remove_managed_save()

    def attach_devices(self, data: journal.Data) -> None:
        """Attach each of ``devices`` (address and XML) that is missing.

        :raises HypervisorError: for the last of those that failed; each is
            logged by its address.
        """
        if not self._guest.power_state().is_active:
            LOG.warning(
                'Server %s does not run, so devices that it had are not '
                'attached; it gets them when it starts.',
                self._guest.uuid,
            )
            return
        self._wait_for_departure({d['address'] for d in data['devices']})
        failure: exception.HypervisorError | None = None
        for device in data['devices']:
            try:
                self._attach_device(device['address'], device['xml'])
            except exception.HypervisorError as error:
                LOG.error(
                    'Device %(address)s could not be attached to server '
                    '%(server)s again: %(error)s',
                    {
                        'address': device['address'],
                        'server': self._guest.uuid,
                        'error': error,
                    },
                )
                failure = error
        if failure is not None:
            raise failure

    def _attach_device(self, address: str, xml: str) -> None:
        if address not in self._present_devices():
            self._guest.attach_device(xml)

    def _present_devices(self) -> set[str]:
        devices = domain_xml.passthrough_devices(self._guest.xml())
        return {device.address for device in devices}

    def _wait_for_departure(self, addresses: set[str]) -> None:
        deadline = time.monotonic() + DETACH_GRACE
        while (
            self._present_devices() & addresses and time.monotonic() < deadline
        ):
            time.sleep(progress.POLL_INTERVAL)

    def _wait_for_save(self) -> None:
        # libvirtd carries a save on to its end when our process dies.
        deadline = time.monotonic() + SAVE_TIMEOUT
        while (
            self._guest.power_state().is_active
            and self._guest.job() is not None
        ):
            if time.monotonic() > deadline:
                raise exception.HypervisorError(
                    action='start the guest again',
                    reason=f'its managed save has run for {SAVE_TIMEOUT} s',
                )
            time.sleep(progress.POLL_INTERVAL)


def remove_folder(data: journal.Data) -> None:
    """Remove ``folder`` with all that is in it."""
    folder = pathlib.Path(data['folder'])
    while folder.exists():
        # Gone meanwhile: libvirt removes the scratch file of an export that
        # was ended a moment ago.
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)


def device_data(
    devices: list[domain_xml.PassthroughDevice],
) -> list[dict[str, str]]:
    """The devices as the data of a duty."""
    return [dataclasses.asdict(device) for device in devices]
