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

"""The JSON of a snapshot that runs or waits; Nova has nothing like it."""

from typing import Any

from nova_snap.api import snapshots


def progress(snapshot: snapshots.Snapshot) -> dict[str, Any]:
    """Return how far a snapshot is.

    Bytes, per cent, rate and time are those of the current stage, null where
    they are not known.
    """
    report, rate = snapshot.report, snapshot.rate
    done = report.done if report is not None else 0
    total = report.total if report is not None else None
    left = None
    if rate and total is not None:
        left = round(max(0, total - done) / rate, 1)
    return {
        'image_id': snapshot.image_id,
        'server_id': snapshot.instance.uuid,
        'task_state': snapshot.task_state.value,
        'stage': report.stage.value if report is not None else None,
        'bytes_done': done,
        'bytes_total': total,
        'per_cent': snapshot.per_cent,
        'bytes_per_second': round(rate) if rate is not None else None,
        'seconds_left': left,
    }
