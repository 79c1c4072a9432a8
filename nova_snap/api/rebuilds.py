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


"""The rebuilds that the service carries out, one for each server.

A request is answered as soon as it is known that the rebuild is possible; the
rest goes on in a thread of its own.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import functools
import threading

from oslo_log import log as logging

from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap.api import calls
from nova_snap.api import works
from nova_snap.compute import boot
from nova_snap.compute import manager as manager_lib
from nova_snap.compute import power
from nova_snap.compute import rebuild
from nova_snap.image import api as image_api
from nova_snap.objects import instance as instance_lib
from nova_snap.objects import task_state as task_states
from nova_snap.objects import vm_state as vm_states
from nova_snap.virt import driver as driver_lib
from nova_snap.virt import power as power_lib
from nova_snap.virt import rebuilding

LOG = logging.getLogger(__name__)

#: Nova's name of the action.
NAME = 'rebuild'

#: Nova's name of what the host does for it.
EVENT = 'compute_rebuild_instance'

#: The states in which Nova rebuilds a server.
VM_STATES = frozenset(
    (
        vm_states.VmState.ACTIVE,
        vm_states.VmState.STOPPED,
        vm_states.VmState.ERROR,
    )
)

#: Seconds for what was cancelled to be undone.
UNDO_TIMEOUT = 60


@dataclasses.dataclass(eq=False)
class Rebuild:
    """A rebuild from its request until its end.

    :ivar image_id: of the image that the server will be of.
    :ivar vm_state: the state in which it was begun.
    """

    instance: instance_lib.Instance
    image_id: str
    vm_state: vm_states.VmState | None = None
    task_state: task_states.TaskState = task_states.TaskState.REBUILDING
    per_cent: int = 0
    is_accepted: bool = False
    has_ended: threading.Event = dataclasses.field(
        default_factory=threading.Event
    )
    control: power_lib.Control = dataclasses.field(
        default_factory=power_lib.Control
    )
    progress: progress_lib.Progress = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        """Begin to listen to the progress."""
        self.progress = progress_lib.Progress(
            self.instance.uuid, self._reported
        )

    def enter(self, state: task_states.TaskState) -> None:
        """Note a new task state."""
        self.task_state = state

    def cancel(self, reason: str) -> None:
        """Have it ended, if the server is not being changed yet."""
        self.progress.cancel(reason)

    def _reported(self, report: progress_lib.Report) -> None:
        self.per_cent = report.per_cent


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What a request asks for.

    :ivar images: the image service as its user may use it.
    """

    instance: instance_lib.Instance
    chosen: boot.Source
    disks: rebuilding.Wanted
    images: image_api.ImageService


class Rebuilds:
    """The rebuilds of one service.

    :param images: of undo steps of earlier operations.
    :param includes_nova: the servers of Nova's, too.
    :param max_disk: bytes of a disk's virtual size, at most.
    """

    def __init__(
        self,
        driver: driver_lib.ComputeDriver,
        manager: manager_lib.SnapshotManager,
        images: image_api.ImageService,
        includes_nova: bool = False,
        max_disk: int = 1 << 41,
    ) -> None:
        self._driver = driver
        self._manager = manager
        self._images = images
        self._includes_nova = includes_nova
        self.max_disk = max_disk
        self._works: works.Works[Rebuild] = works.Works()

    def start(self, wanted: Wanted, watcher: calls.Watcher) -> None:
        """Begin a rebuild; return when it is accepted.

        :raises InvalidState: Nova would not do that in this state.
        :raises Stopping: the service is about to end.
        :raises NovaSnapError: as :func:`.rebuild.rebuild` does.
        """
        work = Rebuild(wanted.instance, wanted.disks.image)
        self._works.admit(work, functools.partial(_require_free, work))
        call = calls.Call('nothing was begun')
        calls.start_thread(
            f'rebuild-{work.instance.uuid}',
            lambda: self._run(work, wanted, watcher, call),
            lambda: self._works.remove(work),
        )
        call.wait()

    def of(self, instance_uuid: str) -> Rebuild | None:
        """Return the rebuild of an instance that is going on, if any."""
        return self._works.of(instance_uuid)

    def __iter__(self) -> Iterator[Rebuild]:
        """Yield the rebuilds that are going on."""
        return iter(self._works)

    def close(self) -> None:
        """Accept no more rebuilds."""
        self._works.close()

    def stop(self, timeout: float) -> None:
        """Accept no more, and return when all have ended.

        After ``timeout`` seconds those that are downloaded are cancelled, and
        guests that were asked to shut down are switched off.
        """
        reason = 'the service is being stopped.'
        self.close()
        if self._works.wait(timeout):
            return
        for work in self:
            work.cancel(reason)
            work.control.hurry(reason)
        if not self._works.wait(UNDO_TIMEOUT):
            for work in self:
                LOG.warning(
                    'The service ends during the rebuild of server %s; its '
                    'next start puts the server right.',
                    work.instance.uuid,
                    instance_uuid=work.instance.uuid,
                )

    def _run(
        self,
        work: Rebuild,
        wanted: Wanted,
        watcher: calls.Watcher,
        call: calls.Call,
    ) -> None:
        """Carry a rebuild out, in its own thread."""

        def accept() -> None:
            call.claim()
            watcher.accepted(work.instance.uuid)
            work.is_accepted = True
            watcher.began()
            call.answer(None)

        error: Exception | None = None
        try:
            self._require_state(work)
            rebuild.rebuild(
                self._manager,
                work.instance,
                self._driver.rebuild(work.instance, self._includes_nova),
                rebuild.Images(self._images, wanted.images),
                wanted.chosen,
                wanted.disks,
                work.progress,
                rebuild.Listener(accept, work.enter, work.control),
            )
        except Exception as failure:
            error = failure
        try:
            self._end(work, watcher, error)
        finally:
            self._works.remove(work)
        call.answer(error)

    def _require_state(self, work: Rebuild) -> None:
        details = self._driver.details(work.instance.uuid)
        power.require_vm_state(details, NAME, VM_STATES)
        work.vm_state = details.vm_state

    def _end(
        self, work: Rebuild, watcher: calls.Watcher, error: Exception | None
    ) -> None:
        """Note the end in the instance actions, and in the log."""
        if not work.is_accepted:
            return
        uuid = work.instance.uuid
        if error is None:
            LOG.info(
                'Server %(server)s has the disks of image %(image)s.',
                {'server': uuid, 'image': work.image_id},
                instance_uuid=uuid,
            )
        else:
            is_known = isinstance(error, exception.NovaSnapError)
            LOG.error(
                'The rebuild of server %(server)s failed: %(error)s',
                {'server': uuid, 'error': error},
                instance_uuid=uuid,
                exc_info=None if is_known else error,
            )
        watcher.ended(error)


def _require_free(work: Rebuild, table: Mapping[str, Rebuild]) -> None:
    """Raise InvalidState if the server is being rebuilt already."""
    before = table.get(work.instance.uuid)
    if before is not None:
        raise exception.InvalidState(
            server=work.instance.uuid,
            action=NAME,
            attr='task_state',
            state=before.task_state,
        )
