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

"""When a snapshot began and ended, as nova-compute's own log says it.

Open this file when a release of Nova logs it in other words.  Those here are
those of ``ComputeManager._snapshot_instance`` in Nova 34, which are the same
whatever driver works below it.
"""

import dataclasses
import datetime

#: Logged when the request has come to a thread of its own.
BEGIN = 'instance snapshotting'
#: Logged when the driver's ``snapshot()`` has returned: the image is active.
END = 'seconds to snapshot the instance on the hypervisor.'

#: What oslo.log begins each line with: ``2026-11-24 12:30:18.123``.
_TIME = len('YYYY-MM-DD hh:mm:ss.mmm')


class SnapshotFailed(Exception):
    """nova-compute logged an error; the message has the line."""


@dataclasses.dataclass(frozen=True)
class Times:
    """Of one snapshot, in the host's time zone."""

    begin: datetime.datetime
    end: datetime.datetime

    @property
    def seconds(self) -> float:
        """From the one to the other."""
        return (self.end - self.begin).total_seconds()


def times(log: str, server_id: str) -> Times | None:
    """Return the times of the only snapshot of a server in a log.

    :raises SnapshotFailed: it never will.
    """
    begin = None
    # The last line may not be whole yet.
    for line in log.splitlines(keepends=True):
        if server_id not in line or not line.endswith('\n'):
            continue
        if ' ERROR ' in line:
            raise SnapshotFailed(line)
        if BEGIN in line:
            begin = _time(line)
        elif END in line and begin is not None:
            return Times(begin, _time(line))
    return None


def _time(line: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(line[:_TIME])
