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

"""A real guest of the lab, and what tests ask of it.

How it is described is in ``domain.py``, its disks are made in
``root_disk.py``, what it boots in ``guest_image.py``.
"""

import base64
from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import json
import os
import pathlib
import re
import signal
import time
from typing import Any

import libvirt
import libvirt_qemu

from tests.lab import accelerator
from tests.lab import domain
from tests.lab import gap_watch
from tests.lab import guest_image
from tests.lab import libvirtd as libvirtd_lib

#: Seconds until the first tick of an emulated guest on a busy host.
BOOT_TIMEOUT = 180.0

STATES = {
    libvirt.VIR_DOMAIN_RUNNING: 'running',
    libvirt.VIR_DOMAIN_PAUSED: 'paused',
    libvirt.VIR_DOMAIN_SHUTDOWN: 'shutting down',
    libvirt.VIR_DOMAIN_SHUTOFF: 'shut off',
    libvirt.VIR_DOMAIN_CRASHED: 'crashed',
}

TICK = re.compile(r'^tick (\d+)\r?$', re.MULTILINE)


class GuestFailed(Exception):
    """The guest did not do in time what it was waited for."""


class Guest:
    """A domain of the lab's libvirt.

    :param libvirtd: must run when a method is called.
    :param spec: what the guest is like.
    """

    def __init__(
        self, libvirtd: libvirtd_lib.Libvirtd, spec: domain.Spec
    ) -> None:
        self.spec = spec
        self.serial_log = libvirtd.state / f'{spec.uuid}.console'
        self._libvirtd = libvirtd

    @property
    def name(self) -> str:
        """The domain's name."""
        return self.spec.name

    @property
    def uuid(self) -> str:
        """The domain's uuid, which is the instance's."""
        return self.spec.uuid

    @property
    def target(self) -> str:
        """The root disk's name in the domain, ``vda`` say."""
        return self.spec.target

    def define(self) -> None:
        """Make it known to libvirt; it must be a persistent one."""
        with self._libvirtd.connection() as connection:
            dom = connection.defineXML(self._render())
            dom.setAutostart(self.spec.autostart)

    def start(self) -> None:
        """Start it, defined or transient as its spec says."""
        if self.spec.persistent:
            self.define()
            with self.domain() as dom:
                dom.create()
        else:
            with self._libvirtd.connection() as connection:
                connection.createXML(self._render())

    def _render(self) -> str:
        return domain.render(
            self.spec,
            guest_image.get(),
            accelerator.virt_type(),
            self.serial_log,
        )

    @contextlib.contextmanager
    def domain(self) -> Iterator[libvirt.virDomain]:
        """Yield libvirt's object of the domain.

        :raises libvirt.libvirtError: there is no such domain.
        """
        with self._libvirtd.connection() as connection:
            yield connection.lookupByUUIDString(self.uuid)

    # What it says ---------------------------------------------------------

    def console(self) -> str:
        """All that it ever printed."""
        if not self.serial_log.exists():
            return ''
        return self.serial_log.read_text(errors='replace')

    def ticks(self) -> int:
        """Return the number of the last tick, whose record is on disk."""
        numbers = TICK.findall(self.console())
        return int(numbers[-1]) if numbers else 0

    def is_ticking(self, within: float = 60.0) -> bool:
        """Return True as soon as it ticks, False if not within seconds."""
        before = self.ticks()
        return self._eventually(lambda: self.ticks() > before, within)

    def wait_for_ticks(self, count: int, timeout: float = 60) -> None:
        """Wait until it has ticked that often from now on.

        :raises GuestFailed: not in time (seconds).
        """
        goal = self.ticks() + count
        self.wait_for(lambda: self.ticks() >= goal, f'tick {goal}', timeout)

    def wait_until_up(self, timeout: float = BOOT_TIMEOUT) -> None:
        """Wait for the next tick, and for its agent where it has one.

        :raises GuestFailed: not in time (seconds).
        """
        self.wait_for_ticks(1, timeout)
        if self.spec.agent:
            self.wait_for(self.agent_answers, 'its agent', timeout)

    def wait_for(
        self, condition: Callable[[], bool], what: str, timeout: float
    ) -> None:
        """Wait until the condition holds.

        :raises GuestFailed: it doesn't in time (seconds).
        """
        if not self._eventually(condition, timeout):
            raise GuestFailed(
                f'{self.name}: no {what} in {timeout} s, the console ends in '
                f'{self.console()[-500:]!r}'
            )

    @staticmethod
    def _eventually(condition: Callable[[], bool], timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def gap_watch(self) -> gap_watch.GapWatch:
        """Return a context manager that times the longest gap of ticks."""
        return gap_watch.GapWatch(self.serial_log)

    # What libvirt says ----------------------------------------------------

    def exists(self) -> bool:
        """Whether libvirt knows it."""
        return self.state() != 'missing'

    def state(self) -> str:
        """Return ``running``, ``paused``, ``shut off``, ..., ``missing``."""
        try:
            with self.domain() as dom:
                return STATES[dom.state()[0]]
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise
            return 'missing'

    def is_persistent(self) -> bool:
        """Whether it survives being shut off."""
        with self.domain() as dom:
            return bool(dom.isPersistent())

    def xml(self) -> str:
        """Return the live XML."""
        with self.domain() as dom:
            return str(dom.XMLDesc(0))

    def inactive_xml(self) -> str:
        """Return the persistent XML, with the secrets."""
        with self.domain() as dom:
            return str(
                dom.XMLDesc(
                    libvirt.VIR_DOMAIN_XML_INACTIVE
                    | libvirt.VIR_DOMAIN_XML_SECURE
                )
            )

    def block_jobs(self) -> dict[str, dict[str, Any]]:
        """Return the blockJobInfo of each disk that has a job."""
        with self.domain() as dom:
            if not dom.isActive():
                return {}
            targets = re.findall(r"<target dev='(\w+)' bus", dom.XMLDesc(0))
            jobs = {name: dom.blockJobInfo(name) for name in targets}
        return {name: job for name, job in jobs.items() if job}

    def has_managed_save(self) -> bool:
        """Whether its memory lies saved on disk."""
        with self.domain() as dom:
            return bool(dom.hasManagedSaveImage())

    # What it is told ------------------------------------------------------

    def agent(self, command: str, timeout: int = 60, **arguments: Any) -> Any:
        """Send a command to the guest's agent; its ``return`` comes back.

        :param timeout: seconds.
        :raises libvirt.libvirtError: no answer, or an error.
        """
        request = {'execute': command, 'arguments': arguments}
        with self.domain() as dom:
            answer = libvirt_qemu.qemuAgentCommand(
                dom, json.dumps(request), timeout, 0
            )
        return json.loads(answer)['return']

    def power_off_itself(self) -> None:
        """Let the guest's kernel power off at once, without a sync.

        A sync takes long on a busy host.
        """
        handle = self.agent(
            'guest-file-open', path='/proc/sysrq-trigger', mode='w'
        )
        off = base64.b64encode(b'o').decode()
        self.agent('guest-file-write', handle=handle, **{'buf-b64': off})
        with contextlib.suppress(libvirt.libvirtError):
            # The guest may be gone before the answer.
            self.agent('guest-file-flush', handle=handle)

    def agent_answers(self) -> bool:
        """Whether there is an agent that listens."""
        try:
            self.agent('guest-ping', timeout=2)
        except libvirt.libvirtError:
            return False
        return True

    def suspend(self) -> None:
        """Pause it."""
        with self.domain() as dom:
            dom.suspend()

    def resume(self) -> None:
        """Let it go on."""
        with self.domain() as dom:
            dom.resume()

    def destroy(self) -> None:
        """Pull its plug; one that does not run is fine."""
        with contextlib.suppress(libvirt.libvirtError), self.domain() as dom:
            dom.destroy()

    def crash(self) -> None:
        """Kill its QEMU, as a fault in it or the kernel would."""
        path = self._libvirtd.qemu_pid_file(self.name)
        os.kill(int(path.read_text()), signal.SIGKILL)

    def remove(self) -> None:
        """Destroy and undefine it, and delete all of its files."""
        self.destroy()
        with contextlib.suppress(libvirt.libvirtError), self.domain() as dom:
            dom.undefineFlags(
                libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
                | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
                | libvirt.VIR_DOMAIN_UNDEFINE_TPM
                | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
                | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
            )
        for disk in (self.spec.disk, *self.spec.extra_disks):
            disk.remove()
        self.serial_log.unlink(missing_ok=True)


def disks_directory(libvirtd: libvirtd_lib.Libvirtd) -> pathlib.Path:
    """Where a lab keeps the disks of its guests."""
    return libvirtd.state / 'disks'
