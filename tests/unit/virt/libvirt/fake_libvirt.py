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


"""A libvirt whose faults come at will, below the real Host and Guest.

For what no machine at hand has (PCI devices of the host) and for what can't
be brought about in time (an agent that freezes too late).  It behaves as
libvirt 9.0 does with QEMU, as far as snapshots see it; everything else is
proven with the real libvirt in ``tests/functional``.
"""

from collections.abc import Callable
import json
import re
import time
from typing import Any

import libvirt

from tests.unit.virt.libvirt import samples


def error(code: int, message: str) -> libvirt.libvirtError:
    """Make an error as the bindings raise it."""
    raised = libvirt.libvirtError(message)
    # The bindings prefer the last error that libvirt had in this thread, such
    # as one that its test driver raised in another test.
    raised.args = (message,)
    raised.err = (code, libvirt.VIR_FROM_QEMU, message, 2, '', '', '', -1, -1)
    return raised


def pci_slot(xml: str) -> str:
    """Return the slot of a device on the host, from its XML."""
    found = re.search(r'<source>.*?slot=.(0x\w+)', xml, re.DOTALL)
    assert found
    return found.group(1)


class Domain:
    """One domain.

    ``attach_errors`` and ``stubborn`` hold the slots of devices that can't
    be attached, or that the guest never lets go of; ``refused`` those whose
    removal it refuses by an event.  To let go takes ``detaching`` seconds.
    ``freeze``, ``thaw`` and ``ping`` are what the agent does, ``save`` is what
    happens while memory is saved, ``create`` while the domain starts, and
    ``shut_down`` when it is asked to shut down, ``agent_shut_down`` when its
    agent is; ``number`` is that of its run.
    """

    def __init__(self, disk: str = '', *devices: str) -> None:
        self.state_now = libvirt.VIR_DOMAIN_RUNNING
        self.exists = True
        self.agent = samples.agent()
        self.devices = list(devices)
        self.attach_errors: set[str] = set()
        self.stubborn: set[str] = set()
        self.refused: set[str] = set()
        self.freeze: Callable[[], None] = lambda: None
        self.thaw: Callable[[], None] = lambda: None
        self.ping: Callable[[], None] = lambda: None
        self.save: Callable[[], None] = lambda: None
        self.ask_for_job: Callable[[], None] = lambda: None
        #: A VIR_DOMAIN_JOB_OPERATION_* that is under way.
        self.job_now: int | None = None
        self.create: Callable[[], None] = lambda: None
        self.shut_down: Callable[[], None] = lambda: None
        self.agent_shut_down: Callable[[], None] = lambda: self.shut_down()
        #: How it was asked to shut down, by turns.
        self.asked: list[str] = []
        self.end: Callable[[], None] = lambda: None
        self.number = 1
        self.detaching = 0.1
        self.is_saved = False
        #: Whether it was started from saved memory.
        self.restored = False
        self.is_frozen = False
        self.backup_job: str | None = None
        self.cannot_abort = False
        #: Of each command to the agent, in seconds.
        self.agent_timeouts: dict[str, int] = {}
        self.events: dict[int, Callable[..., None]] = {}
        self._disk = disk
        self._leaving: dict[str, float] = {}

    @property
    def slots(self) -> list[str]:
        """The slots of the host's devices that the guest has."""
        return [pci_slot(device) for device in self.devices]

    def UUIDString(self) -> str:  # noqa: N802
        return samples.UUID

    def state(self) -> list[int]:
        return [self.state_now, 1]

    def isActive(self) -> bool:  # noqa: N802
        return self.state_now != libvirt.VIR_DOMAIN_SHUTOFF

    def isPersistent(self) -> int:  # noqa: N802
        return 1

    def ID(self) -> int:  # noqa: N802
        return self.number if self.isActive() else -1

    def snapshotNum(self) -> int:  # noqa: N802
        return 0

    def listAllCheckpoints(self) -> list[Any]:  # noqa: N802
        return []

    def XMLDesc(self, _flags: int = 0) -> str:  # noqa: N802
        now = time.monotonic()
        gone = {slot for slot, at in self._leaving.items() if at <= now}
        self.devices = [d for d in self.devices if pci_slot(d) not in gone]
        for slot in gone:
            del self._leaving[slot]
        return samples.domain(
            self._disk, devices=self.agent + ''.join(self.devices)
        )

    def detachDeviceFlags(self, xml: str, _flags: int) -> None:  # noqa: N802
        """Ask the guest; it lets go of the device later, or does not."""
        slot = pci_slot(xml)
        if slot not in self.slots:
            raise error(libvirt.VIR_ERR_DEVICE_MISSING, 'device not found')
        if slot in self.refused:
            (alias,) = re.findall(r"<alias name=.(hostdev\d+)", xml)
            event = libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED
            self.events[event](None, self, alias, None)
        elif slot not in self.stubborn:
            self._leaving[slot] = time.monotonic() + self.detaching

    def attachDeviceFlags(self, xml: str, _flags: int) -> None:  # noqa: N802
        slot = pci_slot(xml)
        if slot in self.attach_errors:
            raise error(
                libvirt.VIR_ERR_OPERATION_FAILED, 'device is in use elsewhere'
            )
        if slot in self.slots:
            raise error(
                libvirt.VIR_ERR_OPERATION_FAILED, 'device already attached'
            )
        self.devices.append(xml)

    def managedSave(self) -> None:  # noqa: N802
        if self.devices:
            raise error(
                libvirt.VIR_ERR_OPERATION_INVALID,
                'domain has assigned non-USB host devices',
            )
        self.save()
        self.state_now = libvirt.VIR_DOMAIN_SHUTOFF
        self.is_saved = True

    def managedSaveGetXMLDesc(self) -> str:  # noqa: N802
        if not self.is_saved:
            raise error(
                libvirt.VIR_ERR_OPERATION_INVALID,
                'domain does not have managed save image',
            )
        return self.XMLDesc()

    def hasManagedSaveImage(self) -> bool:  # noqa: N802
        return self.is_saved

    def managedSaveRemove(self) -> None:  # noqa: N802
        self.is_saved = False

    def suspend(self) -> None:
        self.state_now = libvirt.VIR_DOMAIN_PAUSED

    def shutdownFlags(self, _flags: int) -> None:  # noqa: N802
        self.asked.append('acpi')
        self.shut_down()

    def destroy(self) -> None:
        self.end()
        self.state_now = libvirt.VIR_DOMAIN_SHUTOFF

    def autostart(self) -> int:
        return 0

    def blockJobInfo(  # noqa: N802
        self, _disk: str, _flags: int
    ) -> dict[str, int]:
        return {}

    def createWithFlags(self, flags: int) -> None:  # noqa: N802
        self.create()
        self.number += 1
        self.restored = self.is_saved and not (
            flags & libvirt.VIR_DOMAIN_START_FORCE_BOOT
        )
        self.is_saved = False
        self.state_now = (
            libvirt.VIR_DOMAIN_PAUSED
            if flags & libvirt.VIR_DOMAIN_START_PAUSED
            else libvirt.VIR_DOMAIN_RUNNING
        )

    def jobStats(self) -> dict[str, int]:  # noqa: N802
        self.ask_for_job()
        if not self.isActive():
            raise error(
                libvirt.VIR_ERR_OPERATION_INVALID, 'domain is not running'
            )
        if self.job_now is None:
            return {'type': libvirt.VIR_DOMAIN_JOB_NONE}
        return {
            'type': libvirt.VIR_DOMAIN_JOB_UNBOUNDED,
            libvirt.VIR_DOMAIN_JOB_OPERATION: self.job_now,
        }

    def change_disk(self, disk: str) -> None:
        """Give it another disk."""
        self._disk = disk

    def backupGetXMLDesc(self, _flags: int) -> str:  # noqa: N802
        if self.backup_job is None:
            raise error(libvirt.VIR_ERR_NO_DOMAIN_BACKUP, 'no backup job')
        return self.backup_job

    def abortJob(self) -> None:  # noqa: N802
        if self.cannot_abort:
            raise error(libvirt.VIR_ERR_OPERATION_TIMEOUT, 'no lock')
        self.backup_job = None

    def ask_agent(self, command: str, timeout: int) -> Any:
        """Answer as the guest agent does."""
        self.agent_timeouts[command] = timeout
        match command:
            case 'guest-ping':
                return self.ping() or {}
            case 'guest-shutdown':
                self.asked.append('agent')
                return self.agent_shut_down() or {}
            case 'guest-fsfreeze-status':
                return self.freeze_status()
            case 'guest-fsfreeze-freeze':
                return self.fs_freeze()
            case 'guest-fsfreeze-thaw':
                return self.fs_thaw()
        raise error(libvirt.VIR_ERR_INTERNAL_ERROR, f'no command {command}')

    def freeze_status(self) -> str:
        return 'frozen' if self.is_frozen else 'thawed'

    def fs_freeze(self) -> int:
        self.freeze()
        self.is_frozen = True
        return 1

    def fs_thaw(self) -> int:
        self.thaw()
        self.is_frozen = False
        return 1


def agent_command(
    domain: Domain, request: str, timeout: int, _flags: int
) -> str:
    """Stand in for libvirt_qemu.qemuAgentCommand."""
    command = json.loads(request)['execute']
    return json.dumps({'return': domain.ask_agent(command, timeout)})


class Connection:
    """A connection to a host with one domain."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain

    def isAlive(self) -> int:  # noqa: N802
        return 1

    def setKeepAlive(self, _interval: int, _count: int) -> int:  # noqa: N802
        return 0

    def domainEventRegisterAny(  # noqa: N802
        self, _domain: Any, event: int, callback: Any, _opaque: Any
    ) -> int:
        self._domain.events[event] = callback
        return event

    def lookupByUUIDString(self, uuid: str) -> Domain:  # noqa: N802
        if not self._domain.exists or uuid != samples.UUID:
            raise error(libvirt.VIR_ERR_NO_DOMAIN, 'Domain not found')
        return self._domain

    def listAllDomains(self) -> list[Domain]:  # noqa: N802
        return [self._domain] if self._domain.exists else []
