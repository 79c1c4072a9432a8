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

"""Recovery of interrupted snapshots inside nova-compute.

When nova-compute starts, snapshots of a nova-compute that was killed are
undone.  Later, the recovery repeats undo steps that failed at the end of a
snapshot, such as removing an image record while Glance did not answer.
"""

import threading
import time

from oslo_log import log as logging

from nova_snap import concurrency
from nova_snap.nova import snapshots as snapshots_lib

LOG = logging.getLogger(__name__)

#: Seconds between two recoveries; and at most, while undo steps keep failing.
INTERVAL = 60
LONGEST_INTERVAL = 3600

#: Seconds that nova-compute waits for the first recovery when it starts.
START_TIMEOUT = 60


def run(snapshots: snapshots_lib.Snapshots) -> None:
    """Recover now, and then regularly, in the background.

    Return when the first recovery has ended, or after START_TIMEOUT.  Errors
    are logged, so that they do not keep nova-compute from starting.
    """
    first = threading.Event()
    concurrency.start_thread(
        'nova-snap-recovery', lambda: _repeat(snapshots, first)
    )
    if not first.wait(START_TIMEOUT):
        LOG.warning(
            'The recovery of interrupted snapshots has not ended within '
            '%d s, and goes on while nova-compute starts.',
            START_TIMEOUT,
        )


def recover(snapshots: snapshots_lib.Snapshots) -> bool:
    """Recover once; return True if nothing is left to undo."""
    try:
        return snapshots.recover()
    except Exception:
        LOG.exception('Interrupted snapshots could not be recovered.')
        return False


def next_pause(pause: float, done: bool) -> float:
    """Return the seconds until the next recovery.

    The pause is doubled as long as something is left to undo.
    """
    return INTERVAL if done else min(2 * pause, LONGEST_INTERVAL)


def _repeat(
    snapshots: snapshots_lib.Snapshots, first: threading.Event
) -> None:
    recover(snapshots)
    first.set()
    pause: float = INTERVAL
    while True:
        time.sleep(pause)
        pause = next_pause(pause, recover(snapshots))
