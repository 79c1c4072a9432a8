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

"""The undo steps of a guest; their base class is in ``nova_snap/undo.py``.

Those of power actions are in ``power_steps.py``.

The resources of each step have the guest, which need not exist any more, and
the hooks of the program that owns it.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import pathlib
import shutil

from oslo_log import log as logging
from oslo_utils import uuidutils

from nova_snap import exception
from nova_snap import this_host
from nova_snap import undo
from nova_snap import waiting
from nova_snap.virt.libvirt import backup_job
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import hooks as hooks_lib
from nova_snap.virt.libvirt import host as host_lib

LOG = logging.getLogger(__name__)

#: Seconds to wait for a managed save that libvirtd carries on alone.
SAVE_TIMEOUT = 3600

#: Seconds to wait for a device that the guest is about to release.
DETACH_GRACE = 20


@dataclasses.dataclass(frozen=True)
class Folders:
    """The directories in which extractions have their folders."""

    directories: tuple[pathlib.Path, ...]

    def checked(self, folder: str) -> pathlib.Path:
        """Return the path of a folder that the journal names.

        :raises UnsafeDisk: no extraction can have made the folder.
        """
        path = pathlib.Path(folder)
        if path.is_symlink():
            raise exception.UnsafeDisk(
                disk=repr(folder),
                reason='another user has put a symbolic link in the place of '
                'the folder of a snapshot. Look for the folder, and remove '
                'both.',
            )
        if (
            path.is_absolute()
            and path.parent in self.directories
            and uuidutils.is_uuid_like(path.name)
        ):
            return path
        known = ', '.join(map(str, self.directories))
        raise exception.UnsafeDisk(
            disk=repr(folder),
            reason=f'the journal names it as a folder of a snapshot, and '
            f'those are in {known}. It stays; if the configuration was '
            'changed meanwhile, recover with the old one.',
        )


@dataclasses.dataclass(frozen=True)
class RemoveFolder(undo.Step, kind='remove the folder'):
    """Remove a folder with all that is in it."""

    folder: str

    def undo(self, resources: undo.Resources) -> None:
        """Remove the folder, unless a guest uses a delta in it as its disk.

        A guest does so after another program ended the mirror with a pivot.

        QEMU goes on writing to the scratch file of an export that could not
        be ended, removed or not; that folder stays, too, and with it the
        process that tries to end the export.

        :raises UnsafeDisk: a guest uses a delta in the folder, or no
            extraction made the folder.
        :raises HypervisorError: an export still uses the folder.
        """
        folder = resources.get(Folders).checked(self.folder)
        guest = resources.get(guest_lib.Guest)
        export = backup_job.Export(folder)
        if export.scratches and backup_job.is_running(guest, export):
            raise exception.HypervisorError(
                action='remove the folder of an export',
                reason='the export still runs',
            )
        for delta in folder.glob('*.delta'):
            _require_unused(guest.host, delta)
        remove_folder(folder)


def _require_unused(host: host_lib.Host, delta: pathlib.Path) -> None:
    """Raise UnsafeDisk if the definition of any guest names the file."""
    for uuid in host.users_of(str(delta)):
        raise exception.UnsafeDisk(
            disk=delta,
            reason=f'another program has made server {uuid} write to it; copy '
            'it back with "virsh blockcopy --pivot" before the server is '
            'shut off.',
        )


def remove_folder(folder: pathlib.Path) -> None:
    """Remove a folder with all that is in it."""
    while folder.exists():
        # A file may be gone meanwhile: libvirt removes the scratch file of an
        # export that was ended a moment ago.
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)


@dataclasses.dataclass(frozen=True)
class EndExport(undo.Step, kind='end the export'):
    """End the backup job that exports disks.

    :ivar folder: of the socket and the scratch files.
    :ivar running: True if the guest ran when the export began.
    """

    folder: str
    running: bool

    @property
    def path(self) -> pathlib.Path:
        """The folder as a path."""
        return pathlib.Path(self.folder)

    def has_begun(self, guest: guest_lib.Guest) -> bool:
        """Return True if the job runs."""
        export = backup_job.Export(self.path)
        return backup_job.is_running(guest, export)

    def undo(self, resources: undo.Resources) -> None:
        """End the export.

        A guest that ran, and that QEMU has paused because the scratch file
        had no room for old data, is resumed.

        :raises UnsafeDisk: no extraction made the folder.
        """
        folder = resources.get(Folders).checked(self.folder)
        guest = resources.get(guest_lib.Guest)
        backup_job.end(guest, backup_job.Export(folder))
        if self.running and guest.is_paused_by_io_error():
            LOG.warning(
                'Resuming server %s, which an I/O error had paused.',
                guest.uuid,
                instance_uuid=guest.uuid,
            )
            guest.resume()


@dataclasses.dataclass(frozen=True)
class Define(undo.Step, kind='define the guest again'):
    """Make a guest persistent again; the XML has passwords in it."""

    xml: str = dataclasses.field(repr=False)
    autostart: bool

    def undo(self, resources: undo.Resources) -> None:
        """Define the guest, unless it has left this host.

        A guest that is defined after its deletion would never be deleted.

        :raises MayHaveMoved: another host may have the guest now.
        """
        guest = resources.get(guest_lib.Guest)
        if not has_left(guest, resources, lambda: self.xml):
            guest.restore_definition(
                guest_lib.Definition(self.xml, self.autostart)
            )


@dataclasses.dataclass(frozen=True)
class Thaw(undo.Step, kind='thaw the guest'):
    """Thaw the file systems of a guest."""

    def undo(self, resources: undo.Resources) -> None:
        """Thaw the file systems, if the guest is there.

        :raises HypervisorError: the guest is suspended with frozen file
            systems; once it is started again, they are still frozen.
        """
        guest = resources.get(guest_lib.Guest)
        with contextlib.suppress(exception.GuestGone):
            if _is_saved(guest) and not has_left(guest, resources, guest.xml):
                raise exception.HypervisorError(
                    action='thaw its file systems',
                    reason='it is suspended, and has to be started first',
                )
            guest.thaw()


@dataclasses.dataclass(frozen=True)
class Resume(undo.Step, kind='start the guest again'):
    """Start a guest from its saved memory, paused or not."""

    paused: bool

    def undo(self, resources: undo.Resources) -> None:
        """Start the guest.

        A guest that is shut off without saved memory was shut off by somebody
        else, and stays shut off; a guest that was undefined is not started.

        :raises MayHaveMoved: another host may run the guest now.
        """
        guest = resources.get(guest_lib.Guest)
        try:
            wait_for_save(guest, self.kind)
            if guest.power_state().is_active:
                remove_broken_save(guest)
            elif guest.has_managed_save():
                start(guest, self.paused, resources)
        except exception.GuestGone:
            LOG.warning(
                'Server %s was undefined while it was suspended, and is not '
                'started again.',
                guest.uuid,
                instance_uuid=guest.uuid,
            )


def start(
    guest: guest_lib.Guest,
    paused: bool,
    resources: undo.Resources,
    anew: bool = False,
) -> None:
    """Start a guest, if this host has to.

    :param anew: without its saved memory.
    """
    if has_left(guest, resources, guest.xml):
        return
    hooks = resources.get(hooks_lib.Hooks)
    is_recovery = resources.find(this_host.Origin) is not None
    if is_recovery and not hooks.has_to_run(guest.uuid):
        LOG.warning(
            'Server %s is to be shut off, so it is not started. Memory that '
            'is saved is used when it is started.',
            guest.uuid,
            instance_uuid=guest.uuid,
        )
        return
    hooks.prepare_start(guest.uuid)
    guest.start(paused=paused, anew=anew)


def _is_saved(guest: guest_lib.Guest) -> bool:
    return not guest.power_state().is_active and guest.has_managed_save()


def wait_for_save(guest: guest_lib.Guest, action: str) -> None:
    """Wait until a managed save of a guest has ended.

    :param action: what waits for that, a phrase that continues "could not".
    :raises HypervisorError: it has not ended.
    """
    # libvirtd carries a save on to its end when our process dies.
    for _poll in waiting.polls(SAVE_TIMEOUT):
        if not guest.power_state().is_active or not guest.is_saving():
            return
    raise exception.HypervisorError(
        action=action,
        reason=f'its managed save has run for {SAVE_TIMEOUT} s',
    )


def remove_broken_save(guest: guest_lib.Guest) -> None:
    """Remove what a managed save has left that has failed."""
    # A libvirtd that is killed while it saves a guest leaves a partial file
    # (seen with 9.0); the guest runs on.
    if guest.has_managed_save():
        guest.remove_managed_save()


@dataclasses.dataclass(frozen=True)
class AttachDevices(undo.Step, kind='attach the devices again'):
    """Attach devices of the host to a guest again.

    :ivar devices: fields of :class:`.domain_xml.PassthroughDevice`.
    """

    devices: Sequence[Mapping[str, str]]

    @classmethod
    def of(
        cls, devices: Sequence[domain_xml.PassthroughDevice]
    ) -> 'AttachDevices':
        """Make the step for devices that are about to be detached."""
        return cls([dataclasses.asdict(device) for device in devices])

    def undo(self, resources: undo.Resources) -> None:
        """Attach each device that is missing.

        :raises HypervisorError: the error of the last device that failed;
            each is logged by its address.
        """
        guest = resources.get(guest_lib.Guest)
        if not guest.power_state().is_active:
            LOG.warning(
                'Server %s does not run, so its devices are not attached; it '
                'gets them when it starts.',
                guest.uuid,
                instance_uuid=guest.uuid,
            )
            return
        _wait_for_departure(guest, {d['address'] for d in self.devices})
        failure: exception.HypervisorError | None = None
        for device in self.devices:
            try:
                _attach(guest, device)
            except exception.HypervisorError as error:
                failure = error
        if failure is not None:
            raise failure


def _attach(guest: guest_lib.Guest, device: Mapping[str, str]) -> None:
    if device['address'] in _present_devices(guest):
        return
    try:
        guest.attach_device(device['xml'])
    except exception.HypervisorError as error:
        LOG.error(
            'Device %(address)s could not be attached to server %(server)s '
            'again: %(error)s',
            {
                'address': device['address'],
                'server': guest.uuid,
                'error': error,
            },
            instance_uuid=guest.uuid,
        )
        raise


def _present_devices(guest: guest_lib.Guest) -> set[str]:
    devices = domain_xml.passthrough_devices(guest.xml())
    return {device.address for device in devices}


def _wait_for_departure(guest: guest_lib.Guest, addresses: set[str]) -> None:
    for _poll in waiting.polls(DETACH_GRACE):
        if not _present_devices(guest) & addresses:
            return


def has_left(
    guest: guest_lib.Guest,
    resources: undo.Resources,
    xml: Callable[[], str],
) -> bool:
    """Return True if a guest is not this host's any more.

    A recovery asks whether a guest that does not run was moved to another
    host: two hosts that write to one disk would destroy it.

    :raises MayHaveMoved: that is not known.
    """
    hooks = resources.get(hooks_lib.Hooks)
    origin = resources.find(this_host.Origin)
    if hooks.is_being_deleted(guest.uuid):
        reason = 'is being deleted'
    elif (
        origin is not None
        and not guest.power_state().is_active
        and hooks.has_moved(guest.uuid, origin, xml())
    ):
        reason = 'was moved to another host'
    else:
        return False
    LOG.warning(
        'Server %(server)s %(reason)s, so it is left alone.',
        {'server': guest.uuid, 'reason': reason},
        instance_uuid=guest.uuid,
    )
    return True
