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

"""The snapshots of volumes at the moment that an image shows.

Open this file when a guest is held for too long while Cinder takes snapshots,
or not for long enough.
"""

import dataclasses
import time

from oslo_log import log as logging

from nova_snap import exception
from nova_snap.compute.volume_backed import requests as volume_requests
from nova_snap.compute.volume_backed import snapshots as volume_snapshots
from nova_snap.virt import driver as driver_lib

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of ``[cinder]``, named as there; in seconds."""

    snapshot_timeout: float = 600
    frozen_timeout: float = 10


class SnapshotMoment(driver_lib.Moment):
    """Requests the snapshots, and holds the guest until they are taken.

    Cinder answers a request with 202 and takes the snapshot later.  Nova keeps
    the guest frozen until then, too, but sends one request after the other and
    has no limit (unquiesce_instance, Nova 34).

    :param quiesce_required: the image property os_require_quiesce.
    :param reads_disks: other disks, which are read, show the same moment.
    """

    def __init__(
        self,
        snapshots: volume_snapshots.VolumeSnapshots,
        options: Options,
        quiesce_required: bool,
        operation: driver_lib.Operation,
        reads_disks: bool = False,
    ) -> None:
        self._snapshots = snapshots
        self._options = options
        self._quiesce_required = quiesce_required
        self._server = operation.instance.uuid
        self._progress = operation.progress
        self._reads_disks = reads_disks
        self.limit = options.frozen_timeout or volume_requests.ANSWER_TIMEOUT

    def take(self, stillness: driver_lib.Stillness) -> None:
        """Request the snapshots; return when the guest may go on.

        :raises QuiesceNotPossible: quiescing is required, and they are late.
        :raises VolumeSnapshotsLate: other disks are read, and they are late.
        :raises NovaSnapError: as the volume service does.
        """
        match stillness:
            case driver_lib.Stillness.HELD:
                self._take_held()
            case driver_lib.Stillness.OFF:
                # Nobody waits for this guest; a later check finds out whether
                # it was started meanwhile.
                limit = self._options.snapshot_timeout
                self._request_until_taken(limit)
            case _:
                # Waiting would not stop the guest, which fills scratch files.
                self._snapshots.send()

    def _take_held(self) -> None:
        limit = self._options.frozen_timeout
        if not limit:
            self._require_no_quiesce()
            self._snapshots.request(self._progress)
            return
        began = time.monotonic()
        if not self._request_until_taken(limit):
            self._let_go(time.monotonic() - began)

    def _request_until_taken(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        return self._snapshots.request_until_taken(deadline, self._progress)

    def _require_no_quiesce(self) -> None:
        """Raise if quiescing is required: the guest would be thawed early."""
        if self._quiesce_required:
            raise exception.QuiesceNotPossible(
                server=self._server,
                reason='[cinder] frozen_timeout is 0, so they would be '
                'thawed before Cinder takes the snapshots.',
            )

    def _let_go(self, seconds: float) -> None:
        """Raise or warn: the guest goes on before all snapshots are taken."""
        reason = (
            f'Cinder had not taken all snapshots when its file systems had '
            f'been frozen for {seconds:.1f} s ([cinder] frozen_timeout).'
        )
        if self._quiesce_required:
            raise exception.QuiesceNotPossible(
                server=self._server, reason=reason
            )
        if self._reads_disks:
            raise exception.VolumeSnapshotsLate(
                server=self._server, seconds=self._options.frozen_timeout
            )
        LOG.warning(
            'Server %(server)s is thawed early, so its volumes may show '
            'different moments: %(reason)s',
            {'server': self._server, 'reason': reason},
            instance_uuid=self._server,
        )
