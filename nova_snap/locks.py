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

"""Host-wide instance locks and concurrency limits, as file locks.

Every ``nova-snap`` command is a process of its own, so the limits of Nova's
options hold for the host, not for one process.  The locks are files below
``[DEFAULT] state_path``; the kernel lets go of them when a process dies.
"""

from collections.abc import Iterator
import contextlib
import pathlib
from typing import Any

from oslo_concurrency import lockutils

from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap import state_folder


class Locks:
    """The locks of one state directory.

    :param directory: made when it is missing.
    :param snapshots: how many snapshots may run at once; 0: any number.
    :param disk_operations: how many conversions of disk images may run at
        once; 0: any number.
    """

    def __init__(
        self, directory: pathlib.Path, snapshots: int, disk_operations: int
    ) -> None:
        self._directory = directory
        self._snapshots = snapshots
        self._disk_operations = disk_operations

    @contextlib.contextmanager
    def instance(self, uuid: str) -> Iterator[None]:
        """Hold the lock of an instance; one snapshot at a time.

        :raises SnapshotInProgress: another snapshot holds it.
        """
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self._file_lock(f'instance-{uuid}'))
            except lockutils.AcquireLockFailedException:
                raise exception.SnapshotInProgress(server=uuid) from None
            yield

    @contextlib.contextmanager
    def snapshot_slot(self, progress: progress_lib.Progress) -> Iterator[None]:
        """Wait for a place among the snapshots that may run at once."""
        with self._slot('snapshot', self._snapshots, progress):
            yield

    @contextlib.contextmanager
    def disk_operation_slot(
        self, progress: progress_lib.Progress
    ) -> Iterator[None]:
        """Wait for a place among the disk operations that may run at once."""
        with self._slot('disk-operation', self._disk_operations, progress):
            yield

    @contextlib.contextmanager
    def _slot(
        self, name: str, count: int, progress: progress_lib.Progress
    ) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            while count and not self._take_slot(stack, name, count):
                progress.wait()
            yield

    def _take_slot(
        self, stack: contextlib.ExitStack, name: str, count: int
    ) -> bool:
        for number in range(count):
            with contextlib.suppress(lockutils.AcquireLockFailedException):
                stack.enter_context(self._file_lock(f'{name}-{number}'))
                return True
        return False

    def _file_lock(self, name: str) -> contextlib.AbstractContextManager[Any]:
        state_folder.make(self._directory)
        # external: a file lock, between processes.  The semaphore inside
        # locks between threads, which a file lock does not do.
        return lockutils.lock(
            name,
            lock_file_prefix='nova-snap-',
            external=True,
            lock_path=str(self._directory),
            do_log=False,
            blocking=False,
        )
