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

"""The domain that runs an instance, with a method for each call of libvirt.

A :class:`Guest` keeps no libvirt object, only the uuid: the domain is looked
up for each call, so the object can be used after a restart of libvirtd, and
after the domain was undefined.  Disks are in ``block_device.py``.

Many methods retry if libvirtd is gone; see ``insist`` of :meth:`Host.call`.
"""

from collections.abc import Callable
import dataclasses
import enum
import json
import time
from typing import Any
from typing import TypeVar

import libvirt
import libvirt_qemu
import tenacity

from nova_snap import exception
from nova_snap import progress
from nova_snap import this_host
from nova_snap.objects import power_state
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt import host as host_lib

T = TypeVar('T')

#: Seconds for which a thaw is retried: a late freeze may keep the agent busy.
THAW_TIMEOUT = 60

#: Seconds in which a living agent answers a simple question.
AGENT_ANSWER_TIMEOUT = 5

#: The command by which an agent is asked whether it answers.
AGENT_QUESTION = 'guest-ping'

#: Seconds in which an event arrives that was sent with an answer.
EVENT_DELAY = 0.5

#: State and reason of a domain whose QEMU is gone, though nobody ended it.
_CRASHED = (
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_CRASHED),
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_FAILED),
)

#: Errors of libvirt if there is no job, or no file of saved memory.
_NOTHING_THERE = (
    libvirt.VIR_ERR_OPERATION_INVALID,  # as when the guest does not run
    libvirt.VIR_ERR_NO_SUPPORT,
)


class SavedMemory(enum.Enum):
    """A guest's memory in a file of libvirt (a managed save)."""

    NONE = enum.auto()
    BROKEN = enum.auto()
    WHOLE = enum.auto()


@dataclasses.dataclass(frozen=True)
class Definition:
    """The definition of a guest, with passwords in the XML."""

    xml: str = dataclasses.field(repr=False)
    autostart: bool


class Guest:
    """One domain of a host.

    Every method raises HypervisorUnavailable and HypervisorError, and
    :class:`~nova_snap.exception.GuestGone` when the domain does not exist.
    """

    def __init__(self, host: host_lib.Host, uuid: str, name: str) -> None:
        self.host = host
        self.uuid = uuid
        self.name = name

    def call(
        self, action: str, function: Callable[[Any], T], insist: bool = False
    ) -> T:
        """Call ``function(domain)``; see :meth:`Host.call`."""
        lookup = self.host.domain(self.uuid)
        try:
            return self.host.call(
                action, lambda connection: function(lookup(connection)), insist
            )
        except exception.HypervisorError as error:
            if error.code == libvirt.VIR_ERR_NO_DOMAIN:
                raise exception.GuestGone(
                    server=self.uuid, action=f'asked to {action}'
                ) from error
            raise

    # State

    def power_state(self) -> power_state.PowerState:
        """Return the current state; SHUTDOWN if the domain does not exist.

        A domain that is undefined while it runs ceases to exist when it stops.
        """
        try:
            state, _reason = self.call(
                'read its state', lambda domain: domain.state(), insist=True
            )
        except exception.GuestGone:
            return power_state.PowerState.SHUTDOWN
        return host_lib.power_state_of(state)

    def run(self) -> str | None:
        """Return a name for the current run of QEMU, or None if shut off.

        Equal names mean that the guest was not shut off in between.
        """
        try:
            number = self.call(
                'read its number', lambda domain: domain.ID(), insist=True
            )
        except exception.GuestGone:
            return None
        return None if number < 0 else f'{this_host.boot_id()}/{number}'

    def has_crashed(self) -> bool:
        """Return True if QEMU has ended without having been told to."""
        if self.host.events.has_crashed(self.uuid):
            return True
        try:
            state = self.call(
                'read its state', lambda domain: domain.state(), insist=True
            )
        except exception.GuestGone:
            # A transient guest: only the event has the reason.
            time.sleep(EVENT_DELAY)
            return self.host.events.has_crashed(self.uuid)
        return tuple(state) in _CRASHED

    def is_persistent(self) -> bool:
        """Return True if the guest has a persistent definition."""
        return bool(
            self.call(
                'read whether it is persistent',
                lambda domain: domain.isPersistent(),
                insist=True,
            )
        )

    def has_metadata(self) -> bool:
        """Return True if the guest has libvirt snapshots or checkpoints.

        Undefining the guest removes libvirt's metadata of them.
        """
        return bool(
            self._counted('snapshots', lambda domain: domain.snapshotNum())
            or self._counted(
                'checkpoints', lambda domain: len(domain.listAllCheckpoints())
            )
        )

    def _counted(self, what: str, count: Callable[[Any], int]) -> int:
        try:
            return self.call(f'count its {what}', count, insist=True)
        except exception.HypervisorError as error:
            if error.code == libvirt.VIR_ERR_NO_SUPPORT:
                return 0
            raise

    def xml(self) -> str:
        """Return the current XML: the live XML of a running guest."""
        xml: str = self.call(
            'read its XML', lambda domain: domain.XMLDesc(), insist=True
        )
        return xml

    def definition(self) -> Definition:
        """Return the persistent definition, passwords included."""
        flags = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
        return self.call(
            'read its definition',
            lambda domain: Definition(
                xml=domain.XMLDesc(flags), autostart=bool(domain.autostart())
            ),
        )

    # Defining

    def undefine(self) -> None:
        """Make the guest transient; keep firmware variables and TPM state.

        libvirt refuses while there is a file of saved memory.  An incomplete
        one is removed, as libvirt itself does when it starts the guest.
        """
        flags = libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM
        if self.host.libvirt_version() >= host_lib.MIN_LIBVIRT_KEEP_TPM:
            flags |= libvirt.VIR_DOMAIN_UNDEFINE_KEEP_TPM
        # While a save runs, its file is incomplete, too.
        if self.saved_memory() is SavedMemory.BROKEN and self.job() is None:
            flags |= libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
        self.call('undefine it', lambda domain: domain.undefineFlags(flags))

    def restore_definition(self, definition: Definition) -> None:
        """Make the guest persistent, with its former autostart flag.

        The guest may have stopped meanwhile, and not exist any more.  The
        autostart flag of a persistent guest is set, too: the process that
        defined the guest may have died before it set the flag.
        """
        if not self.is_defined():
            self.host.define(definition.xml)
        self.call(
            'set whether it starts with the host',
            lambda domain: domain.setAutostart(int(definition.autostart)),
            insist=True,
        )

    def is_defined(self) -> bool:
        """Return True if the guest exists and is persistent."""
        try:
            return self.is_persistent()
        except exception.GuestGone:
            return False

    # Suspending

    def managed_save(self) -> None:
        """Save the guest's memory to disk and stop the guest."""
        self.call('save its memory', lambda domain: domain.managedSave())

    def job(self) -> int | None:
        """Return the VIR_DOMAIN_JOB_OPERATION_* of a job, or None.

        Such as a managed save or a dump; a guest that does not run has none.
        """
        try:
            found = self.call(
                'read its job', lambda domain: domain.jobStats(), insist=True
            )
        except exception.HypervisorError as error:
            if error.code in _NOTHING_THERE:
                return None
            raise
        if found.get('type') == libvirt.VIR_DOMAIN_JOB_NONE:
            return None
        return int(found.get(libvirt.VIR_DOMAIN_JOB_OPERATION, 0))

    def is_saving(self) -> bool:
        """Return True if a job saves the guest's memory."""
        return bool(self.job() == libvirt.VIR_DOMAIN_JOB_OPERATION_SAVE)

    def has_managed_save(self) -> bool:
        """Return True if the guest's memory is saved on disk."""
        return bool(
            self.call(
                'read whether it is saved',
                lambda domain: domain.hasManagedSaveImage(),
                insist=True,
            )
        )

    def saved_memory(self) -> SavedMemory:
        """Read whether there is a file of saved memory, and a whole one.

        libvirt's own flag does not know of a file that a killed libvirtd or
        another program has left.
        """
        try:
            self.call(
                'read its saved memory',
                lambda domain: domain.managedSaveGetXMLDesc(),
                insist=True,
            )
        except exception.HypervisorError as error:
            if error.code in _NOTHING_THERE:
                return SavedMemory.NONE
            # "save image is incomplete", "image magic is incorrect", etc.
            if error.code == libvirt.VIR_ERR_OPERATION_FAILED:
                return SavedMemory.BROKEN
            raise
        return SavedMemory.WHOLE

    def remove_managed_save(self) -> None:
        """Remove the guest's saved memory."""
        action = 'remove its saved memory'
        self.call(action, lambda domain: domain.managedSaveRemove())

    def start(self, paused: bool, anew: bool = False) -> None:
        """Start the guest, from its saved memory if there is any.

        :param anew: remove saved memory; the guest boots.
        """
        flags = libvirt.VIR_DOMAIN_START_PAUSED if paused else 0
        flags |= libvirt.VIR_DOMAIN_START_FORCE_BOOT if anew else 0

        def start(domain: Any) -> None:
            # A retry may find that the first call was successful.
            if not domain.isActive():
                domain.createWithFlags(flags)

        self.call('start it', start, insist=True)

    def is_paused_by_io_error(self, insist: bool = True) -> bool:
        """Return True if QEMU has paused the guest after an I/O error."""
        try:
            state = self.call(
                'read its state', lambda domain: domain.state(), insist
            )
        except exception.GuestGone:
            return False
        return tuple(state) == (
            libvirt.VIR_DOMAIN_PAUSED,
            libvirt.VIR_DOMAIN_PAUSED_IOERROR,
        )

    def pause(self) -> None:
        """Pause the guest."""
        self.call('pause it', lambda domain: domain.suspend())

    def resume(self) -> None:
        """Resume a paused guest."""
        self.call('resume it', lambda domain: domain.resume())

    def wake_up(self) -> None:
        """Wake up a guest that sleeps, with its memory in QEMU."""
        self.call('wake it up', lambda domain: domain.pMWakeup())

    def shut_down(self) -> None:
        """Ask the guest to shut down, by ACPI."""
        flags = libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN
        self.call('shut it down', lambda domain: domain.shutdownFlags(flags))

    def shut_down_by_agent(self) -> None:
        """Ask the guest's agent to shut it down.

        An agent that does so does not answer.  libvirt's own call would wait
        a minute for one that hangs.

        :raises HypervisorError: the agent refuses.
        """
        try:
            self._ask_agent('shut it down by its agent', 'guest-shutdown')
        except exception.HypervisorError as error:
            if error.code != libvirt.VIR_ERR_AGENT_UNRESPONSIVE:
                raise

    def destroy(self) -> None:
        """Switch the power of the guest off."""
        self.call('switch it off', lambda domain: domain.destroy())

    # The guest agent

    def is_agent_alive(self) -> bool:
        """Return True if the agent answers within AGENT_ANSWER_TIMEOUT."""
        if not domain_xml.is_agent_connected(self.xml()):
            return False
        try:
            self._ask_agent('ask its agent', AGENT_QUESTION, insist=True)
        except exception.HypervisorError as error:
            # An agent may answer that it has no such command, or that it was
            # disabled.  libvirt's error then has the name of the command.
            return (
                error.code != libvirt.VIR_ERR_AGENT_UNRESPONSIVE
                and AGENT_QUESTION in str(error)
            )
        return True

    def is_frozen(self) -> bool:
        """Return True if the agent has frozen the guest's file systems."""
        answer = self._ask_agent(
            'ask whether its file systems are frozen',
            'guest-fsfreeze-status',
            insist=True,
        )
        return bool(answer == 'frozen')

    def freeze(self, timeout: int) -> None:
        """Freeze the guest's file systems, within ``timeout`` seconds.

        After an error they may be frozen all the same, or be frozen later.
        """
        self._ask_agent(
            'freeze its file systems', 'guest-fsfreeze-freeze', timeout
        )

    def thaw(self) -> None:
        """Thaw the guest's file systems, if the guest runs.

        Errors are retried for THAW_TIMEOUT seconds, since an agent that did
        not answer a freeze in time may still carry it out.
        """
        for attempt in tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(exception.HypervisorError),
            wait=tenacity.wait_fixed(progress.POLL_INTERVAL),
            stop=tenacity.stop_after_delay(THAW_TIMEOUT),
            reraise=True,
        ):
            with attempt:
                if self.power_state().is_active:
                    self._ask_agent(
                        'thaw its file systems',
                        'guest-fsfreeze-thaw',
                        insist=True,
                    )

    def _ask_agent(
        self,
        action: str,
        command: str,
        timeout: int = AGENT_ANSWER_TIMEOUT,
        insist: bool = False,
    ) -> Any:
        """Return the answer of the agent; ``timeout`` is in seconds.

        virDomainFSFreeze and the like take no timeout.  They use that of
        virDomainAgentSetResponseTimeout, which belongs to the operator: it
        can be set, but not be read and put back.
        """
        request = json.dumps({'execute': command})
        answer: str = self.call(
            action,
            lambda domain: libvirt_qemu.qemuAgentCommand(
                domain, request, timeout, 0
            ),
            insist,
        )
        return json.loads(answer)['return']

    # Backup jobs

    def begin_backup(self, xml: str) -> None:
        """Begin a backup job; its scratch files are there already."""
        flags = libvirt.VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL
        self.call(
            'begin the backup of its disks',
            lambda domain: domain.backupBegin(xml, None, flags),
        )

    def backup_job_xml(self) -> str | None:
        """Return the XML of the guest's backup job, or None."""
        try:
            xml: str = self.call(
                'read its backup job',
                lambda domain: domain.backupGetXMLDesc(0),
                insist=True,
            )
        except exception.GuestGone:
            return None
        except exception.HypervisorError as error:
            if error.code in (
                libvirt.VIR_ERR_NO_DOMAIN_BACKUP,
                libvirt.VIR_ERR_OPERATION_INVALID,  # the guest does not run
                libvirt.VIR_ERR_NO_SUPPORT,
            ):
                return None
            raise
        return xml

    # Devices

    def detach_device(self, xml: str) -> None:
        """Ask the running guest to release a device; return at once."""
        self.call(
            'detach a device',
            lambda domain: domain.detachDeviceFlags(
                xml, libvirt.VIR_DOMAIN_AFFECT_LIVE
            ),
        )

    def attach_device(self, xml: str) -> None:
        """Attach a device to the running guest."""
        self.call(
            'attach a device',
            lambda domain: domain.attachDeviceFlags(
                xml, libvirt.VIR_DOMAIN_AFFECT_LIVE
            ),
        )
