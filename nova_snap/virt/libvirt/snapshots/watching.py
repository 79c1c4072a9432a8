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

"""Calls of libvirt that write the memory of a guest, and take as long.

Open this file for their progress, and for how they are cancelled.
"""

from collections.abc import Callable
import contextlib
import enum

from oslo_log import log as logging

from nova_snap import concurrency
from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt.snapshots import calls

LOG = logging.getLogger(__name__)


class Job(enum.IntEnum):
    """What libvirt does; see ``calls.py``."""

    DOMAIN_SNAPSHOT = calls.TAKING
    SAVE = calls.SAVING


def run(
    guest: guest_lib.Guest,
    job: Job,
    call: Callable[[], None],
    progress: progress_lib.Progress,
) -> None:
    """Make a call; report how much memory is written.

    A cancellation ends what libvirt does; if it comes too late, the call was
    successful, and so is this.

    :raises SnapshotCancelled: the call has ended.
    :raises NovaSnapError: the call has failed.
    """
    failures: list[Exception] = []

    def make() -> None:
        try:
            call()
        except Exception as error:
            failures.append(error)

    thread = concurrency.start_thread('memory', make)
    cancelled: exception.SnapshotCancelled | None = None
    while thread.is_alive():
        thread.join(progress_lib.POLL_INTERVAL)
        try:
            _report(guest, job, progress)
        except exception.SnapshotCancelled as error:
            cancelled = cancelled or error
            with contextlib.suppress(exception.NovaSnapError):
                calls.abort(guest, job)
    if failures:
        raise cancelled or failures[0]


def _report(
    guest: guest_lib.Guest, job: Job, progress: progress_lib.Progress
) -> None:
    """Report how much memory is written.

    What goes wrong is not said here: the call itself says it, and nothing is
    undone before the call has ended.

    :raises SnapshotCancelled: it was cancelled, and nothing else.
    """
    try:
        written = calls.memory_written(guest, job)
    except exception.NovaSnapError as error:
        LOG.debug('%s', error, instance_uuid=guest.uuid)
        written = None
    if written is not None:
        progress.report(progress_lib.Stage.WRITING, *written)
    progress.check()
