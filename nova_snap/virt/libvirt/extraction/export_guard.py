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

"""A guard of a guest while its disk is exported.

Open this file to change what ends an export: too little space, a paused guest,
a libvirtd that stays away.
"""

from collections.abc import Iterator
import contextlib
import threading
import time
from typing import Self

from oslo_log import log as logging

from nova_snap import concurrency
from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap import waiting
from nova_snap.qcow2 import errors
from nova_snap.virt.libvirt import backup_job
from nova_snap.virt.libvirt import host as host_lib
from nova_snap.virt.libvirt.extraction import context as context_lib
from nova_snap.virt.libvirt.extraction import guest_stop

LOG = logging.getLogger(__name__)

#: Seconds after which a look at the space is due, whoever takes it.
LOOK_INTERVAL = 2 * progress_lib.POLL_INTERVAL


class ExportGuard:
    """A guard of a guest while its disk is exported.

    QEMU pauses the guest if the scratch file has no room for old data.  So
    the export is ended before that; a guest that is paused all the same is
    resumed when the export ends.

    A thread looks, also while nothing is read.  A call of libvirt may keep it
    waiting, so each read looks too if the thread has not.

    :param was_paused: an I/O error had paused the guest before the export.
    """

    def __init__(
        self,
        context: context_lib.Context,
        export: backup_job.Export,
        was_paused: bool,
    ) -> None:
        self._context = context
        self._export = export
        self._was_paused = was_paused
        self._over = threading.Event()
        self._failure: exception.NovaSnapError | None = None
        self._looked_at = self._answered_at = time.monotonic()

    def __enter__(self) -> Self:
        self._thread = concurrency.start_thread('export-guard', self._watch)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Guard a read, and translate errors of reading to their cause.

        :raises NotEnoughSpace: the scratch file takes too much space.
        :raises ExportFailed: QEMU has paused the guest, the export has ended,
            or nothing guards it any more.
        :raises HypervisorUnavailable: libvirtd has been away for too long.
        """
        if self._failure is not None:
            raise self._failure
        if not self._thread.is_alive():
            raise self._failed('its guard has ended.')
        if time.monotonic() - self._looked_at > LOOK_INTERVAL:
            self._require_space()
        with self.translated():
            yield

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Translate errors of reading to their cause."""
        try:
            yield
        except errors.Qcow2Error as error:
            raise self._explained(error) from error

    def check(self) -> None:
        """Raise if the export was ended, or has ended by itself."""
        if self._failure is not None:
            raise self._failure
        if not backup_job.is_running(self._context.guest, self._export):
            raise self._explained('its export has ended.')

    def _watch(self) -> None:
        while not self._over.wait(progress_lib.POLL_INTERVAL):
            try:
                self._look()
            except exception.NovaSnapError as error:
                self._failure = error
            except OSError as error:
                self._failure = self._failed(error)
            if self._failure is not None:
                LOG.warning(
                    '%s',
                    self._failure,
                    instance_uuid=self._context.guest.uuid,
                )
                self._end()
                return

    def _look(self) -> None:
        self._require_space()
        try:
            is_paused = self._context.guest.is_paused_by_io_error(insist=False)
        except exception.HypervisorUnavailable:
            away = time.monotonic() - self._answered_at
            if away > host_lib.RECONNECT_TIMEOUT:
                raise
            return
        self._answered_at = time.monotonic()
        if is_paused and not self._was_paused:
            raise self._failed('QEMU paused it with an I/O error.')
        self._was_paused = is_paused

    def _require_space(self) -> None:
        self._looked_at = time.monotonic()
        self._context.space.require(self._context.folder)

    def _end(self) -> None:
        """End the export at once: whoever reads may be waiting.

        What fails is tried again, until the undo step of the export does so.
        """
        guest = self._context.guest
        while True:
            try:
                backup_job.end(guest, self._export)
            except exception.NovaSnapError as error:
                LOG.warning('%s', error, instance_uuid=guest.uuid)
            else:
                return
            if self._over.wait(progress_lib.POLL_INTERVAL):
                return

    def _explained(self, reason: object) -> exception.NovaSnapError:
        if self._failure is not None:
            return self._failure
        if self._has_stopped():
            return guest_stop.explained(
                self._context.guest, 'reading its disk'
            )
        return self._failed(reason)

    def _failed(self, reason: object) -> exception.ExportFailed:
        return exception.ExportFailed(
            server=self._context.guest.uuid, reason=reason
        )

    def _has_stopped(self) -> bool:
        """Return True if the guest stops, or has stopped.

        QEMU closes the export before its process ends; until then, libvirt
        reports that the guest and the job run.
        """
        guest = self._context.guest
        for _poll in waiting.polls(
            guest_stop.STOP_TIMEOUT, interval=guest_stop.STOP_INTERVAL
        ):
            if not guest.power_state().is_active:
                return True
            if not backup_job.is_running(guest, self._export):
                break
        return not guest.power_state().is_active
