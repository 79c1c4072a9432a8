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

"""Ending what snapshots left behind: when nova-compute starts, and later.

At the start it is what a nova-compute that was killed had begun.  Later it is
what a snapshot could not undo itself, such as a record in a Glance that did
not answer.
"""

import time

from oslo_log import log as logging

from nova_snap import concurrency
from nova_snap.nova import snapshots as snapshots_lib

LOG = logging.getLogger(__name__)

#: Seconds between two looks, and at most while the same is left each time.
INTERVAL = 60
LONGEST_INTERVAL = 3600


def run(snapshots: snapshots_lib.Snapshots) -> None:
    """Recover now, and go on looking in the background.

    Whatever happens, nova-compute starts: its servers need it.
    """
    recover(snapshots)
    concurrency.start_thread('nova-snap-recovery', lambda: _repeat(snapshots))


def recover(snapshots: snapshots_lib.Snapshots) -> bool:
    """Try it once; whether nothing is left."""
    try:
        return snapshots.recover()
    except Exception:
        LOG.exception('Interrupted snapshots could not be recovered.')
        return False


def next_pause(pause: float, done: bool) -> float:
    """Seconds until the next look; longer and longer while it is in vain."""
    return INTERVAL if done else min(2 * pause, LONGEST_INTERVAL)


def _repeat(snapshots: snapshots_lib.Snapshots) -> None:
    pause: float = INTERVAL
    while True:
        time.sleep(pause)
        pause = next_pause(pause, recover(snapshots))
