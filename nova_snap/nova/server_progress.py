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

"""The ``progress`` of a server in Nova while an image is made of it.

``openstack server show`` has it.  Open this file for how often, and by whom,
it is written.
"""

from collections.abc import Iterator
import contextlib
import threading
import time
from typing import Any

from nova import context as nova_context
from nova import exception as nova_exception
from nova import objects
from oslo_log import log as logging

from nova_snap import concurrency
from nova_snap import progress as progress_lib

LOG = logging.getLogger(__name__)

#: Seconds between two writes, each of which is a call of nova-conductor.  A
#: shorter snapshot writes nothing.
INTERVAL = 5

#: Seconds that the end of a snapshot waits for the last write.
END_TIMEOUT = 5


class _Follower:
    """Writes the per cent of the last report, in a thread of its own.

    Nova's conductor may answer late, and a guest or an upload waits for the
    thread that reports.  It follows until all data was read: what Glance and
    the guest need after that is not worth a wait for the last write.
    """

    def __init__(self, instance_uuid: str) -> None:
        self._record = _Record(instance_uuid)
        self._latest = 0
        self._written = 0
        self._ended = threading.Event()
        self._thread = concurrency.start_thread(
            'nova-snap-progress', self._follow
        )

    def note(self, report: progress_lib.Report) -> None:
        """Remember a report."""
        self._latest = report.per_cent
        if (
            report.stage is progress_lib.Stage.UPLOADING
            and report.per_cent == 100
        ):
            self._ended.set()

    def end(self) -> None:
        """Write that nothing is under way any more."""
        self._ended.set()
        self._thread.join(END_TIMEOUT)

    def _follow(self) -> None:
        while not self._ended.wait(INTERVAL):
            self._write(self._latest)
        self._write(0)

    def _write(self, per_cent: int) -> None:
        if per_cent != self._written and self._record.write(per_cent):
            self._written = per_cent


@contextlib.contextmanager
def followed(instance_uuid: str) -> Iterator[progress_lib.Progress]:
    """Make the progress of a snapshot, which a server's ``progress`` follows.

    Under eventlet, its reports yield to the hub.
    """
    follower = _Follower(instance_uuid)
    is_eventlet = concurrency.is_eventlet()

    def note(report: progress_lib.Report) -> None:
        follower.note(report)
        if is_eventlet:
            time.sleep(0)

    try:
        yield progress_lib.Progress(instance_uuid, note)
    finally:
        follower.end()


def write(instance_uuid: str, per_cent: int) -> bool:
    """Write a server's ``progress``; return False if that failed."""
    return _Record(instance_uuid).write(per_cent)


class _Record:
    """A server's record in Nova's database, which is loaded once.

    It is not the object of the request, which nova-compute writes meanwhile.
    """

    def __init__(self, instance_uuid: str) -> None:
        self._uuid = instance_uuid
        self._instance: Any = None

    def write(self, per_cent: int) -> bool:
        """Write ``progress``; return False if that failed.

        The snapshot does not depend on it, so an error is logged only.
        """
        try:
            self._save(per_cent)
        except nova_exception.InstanceNotFound:  # deleted meanwhile
            return False
        except Exception as error:
            LOG.warning(
                'Cannot write the progress of server %(server)s: %(error)s',
                {'server': self._uuid, 'error': error},
                instance_uuid=self._uuid,
            )
            self._instance = None
            return False
        return True

    def _save(self, per_cent: int) -> None:
        if self._instance is None:
            self._instance = objects.Instance.get_by_uuid(
                nova_context.get_admin_context(), self._uuid, expected_attrs=[]
            )
        if self._instance.progress != per_cent:
            self._instance.progress = per_cent
            self._instance.save()
