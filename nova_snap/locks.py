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

"""Host-wide instance locks, and concurrency limits of one state directory.

The lock of an instance is the name of an abstract unix socket (unix(7)), so
it is the same for nova-compute and the command: each runs as a user of its
own, with a state directory of its own, and could not share a lock file.  The
limits are file locks below ``[DEFAULT] state_path``.  The kernel releases
both when a process dies.
"""

from collections.abc import Iterator
import contextlib
import errno
import pathlib
import pwd
import socket
import struct
from typing import Any

from oslo_concurrency import lockutils

from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap import state_folder

#: Attempts that may look up the holder of an instance's lock.
_BACKLOG = 128

#: struct ucred of unix(7): process, user, group.
_CREDENTIALS = struct.Struct('iII')

_UNKNOWN = 'another process'


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
        """Hold the lock of an instance; one snapshot at a time on this host.

        A file lock is held, too: it keeps processes in other network
        namespaces, where the socket's name is not known, from working with
        the same state directory.

        :raises SnapshotInProgress: another snapshot holds it.
        """
        with host_wide(uuid), contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self._file_lock(f'instance-{uuid}'))
            except lockutils.AcquireLockFailedException:
                raise exception.SnapshotInProgress(
                    server=uuid, holder=_UNKNOWN
                ) from None
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


@contextlib.contextmanager
def host_wide(uuid: str) -> Iterator[None]:
    """Hold the lock of an instance among all programs of this host.

    :raises SnapshotInProgress: another process or thread holds it.
    """
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as held:
        try:
            held.bind(_address(uuid))
            held.listen(_BACKLOG)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise exception.SnapshotInProgress(
                server=uuid, holder=_holder(uuid)
            ) from None
        yield


def _address(uuid: str) -> str:
    # The uuid alone: two programs may name one libvirt by different URIs.
    return f'\0nova-snap/instance/{uuid}'


def _holder(uuid: str) -> str:
    """Return a phrase that names the process that holds a lock."""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as asking:
        asking.setblocking(False)
        try:
            asking.connect(_address(uuid))
            credentials = asking.getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
            )
        except OSError:
            return _UNKNOWN  # it ended just now, or was asked too often
    pid, uid, _gid = _CREDENTIALS.unpack(credentials)
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    # The kernel does not show processes of other PID namespaces.
    process = f'process {pid}' if pid else 'a process in another container'
    return f'{process} of user {user}'
