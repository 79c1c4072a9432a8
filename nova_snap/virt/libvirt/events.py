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

"""libvirt's event loop, and a record of its events.

libvirt reports some facts only as events: whether a block job that was ended
wrote all its data, whether a guest released a device, and why a transient
guest stopped.  The callbacks run in a native thread of libvirt's event loop,
under eventlet too, so they only record the event; the pipelines read the
record when they poll.
"""

import enum
import sys
import threading
from typing import Any

import libvirt

from nova_snap import concurrency


class BlockJobStatus(enum.IntEnum):
    """A status of a block job (virConnectDomainEventBlockJobStatus)."""

    COMPLETED = libvirt.VIR_DOMAIN_BLOCK_JOB_COMPLETED
    FAILED = libvirt.VIR_DOMAIN_BLOCK_JOB_FAILED
    CANCELED = libvirt.VIR_DOMAIN_BLOCK_JOB_CANCELED
    READY = libvirt.VIR_DOMAIN_BLOCK_JOB_READY


#: Details of a stop that nobody asked for.
_CRASHES = (
    libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED,
    libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED,
)


class EventRecord:
    """The newest event of each kind, for each guest.

    Single operations on a dict are atomic, so there is no lock that a native
    thread and a green one could wait for.
    """

    def __init__(self) -> None:
        self._block_jobs: dict[tuple[str, str], BlockJobStatus] = {}
        self._refused_removals: dict[tuple[str, str], bool] = {}
        self._crashed: set[str] = set()

    def register(self, connection: Any) -> None:
        """Listen on a new connection.

        A start that was not heard of in between would leave its guest marked
        as crashed.
        """
        self._crashed.clear()
        for event, callback in (
            (libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2, self._on_block_job),
            (
                libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED,
                self._on_removal_failed,
            ),
            (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_lifecycle),
        ):
            connection.domainEventRegisterAny(None, event, callback, None)

    def forget_block_job(self, uuid: str, device: str) -> None:
        """Forget the events of earlier jobs on a device."""
        self._block_jobs.pop((uuid, device), None)

    def block_job(self, uuid: str, device: str) -> BlockJobStatus | None:
        """Return the newest status of a job on a device, or None."""
        return self._block_jobs.get((uuid, device))

    def take_removal_refused(self, uuid: str, alias: str) -> bool:
        """Return True if a guest refused to release a device; forget it."""
        return self._refused_removals.pop((uuid, alias), False)

    def has_crashed(self, uuid: str) -> bool:
        """Return True if the newest start of a guest ended in a crash."""
        return uuid in self._crashed

    def _on_lifecycle(
        self, _connection: Any, domain: Any, event: int, detail: int, _: Any
    ) -> None:
        if event == libvirt.VIR_DOMAIN_EVENT_STARTED:
            self._crashed.discard(domain.UUIDString())
        elif event == libvirt.VIR_DOMAIN_EVENT_STOPPED and detail in _CRASHES:
            self._crashed.add(domain.UUIDString())

    def _on_block_job(
        self,
        _connection: Any,
        domain: Any,
        device: str,
        _type: int,
        status: int,
        _opaque: Any,
    ) -> None:
        key = (domain.UUIDString(), device)
        self._block_jobs[key] = BlockJobStatus(status)

    def _on_removal_failed(
        self, _connection: Any, domain: Any, alias: str, _opaque: Any
    ) -> None:
        self._refused_removals[(domain.UUIDString(), alias)] = True


_started = threading.Lock()
_is_running = False


def start_loop() -> None:
    """Run libvirt's event loop in a native thread, once in a process.

    Call this before the first connection is opened.  The loop also sends
    keep-alive messages, which detect a daemon that hangs.
    """
    global _is_running
    with _started:
        if _is_running:
            return
        _is_running = True
        libvirt.virEventRegisterDefaultImpl()
        concurrency.start_native_thread('libvirt-events', _run_loop)


def adopt_loop() -> None:
    """Use the loop that another part of this process runs already."""
    global _is_running
    _is_running = True


def _run_loop() -> None:
    while not sys.is_finalizing():
        libvirt.virEventRunDefaultImpl()
