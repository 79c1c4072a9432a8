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

"""Ending what a nova-compute that was killed began, when the next starts."""

import time

from oslo_log import log as logging

from nova_snap import concurrency
from nova_snap.nova import snapshots as snapshots_lib

LOG = logging.getLogger(__name__)

#: Seconds between two tries, for as long as something is left to do.
INTERVAL = 60


def run(snapshots: snapshots_lib.Snapshots) -> None:
    """Recover now, and again in the background for as long as need be.

    Whatever happens, nova-compute starts: its servers need it.
    """
    if not _try(snapshots):
        concurrency.start_thread(
            'nova-snap-recovery', lambda: _repeat(snapshots)
        )


def _repeat(snapshots: snapshots_lib.Snapshots) -> None:
    while True:
        time.sleep(INTERVAL)
        if _try(snapshots):
            return


def _try(snapshots: snapshots_lib.Snapshots) -> bool:
    try:
        return snapshots.recover()
    except Exception:
        LOG.exception('Interrupted snapshots could not be recovered.')
        return False
