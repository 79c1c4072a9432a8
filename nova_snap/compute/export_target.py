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

"""Targets of an export: a stream, a new file, a device or a FIFO.

:func:`at` checks a file name, as far as that is possible before anything
begins.  A file gets its name when it is whole.  Until then the data is in an
unfinished file beside it, which is in the journal, so that recovery removes it
after a crash.  A device or a FIFO is opened and written to.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import os
import pathlib
import re
import stat
from typing import BinaryIO
from typing import Protocol
import uuid

from nova_snap import concurrency
from nova_snap import durable
from nova_snap import exception
from nova_snap import undo
from nova_snap import waiting
from nova_snap.virt import driver as driver_lib

#: Seconds for which a reader of a FIFO is waited for.
READER_TIMEOUT = 60

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC

_PREFIX = '.nova-snap-export-'
_UNFINISHED = re.compile(
    re.escape(_PREFIX) + r'[0-9a-f]{16}-[0-9a-f]{8}(-[0-9a-f]{4}){3}-'
    r'[0-9a-f]{12}'
)


class Target(Protocol):
    """Something that an export can be written to, from its start to its end.

    ``opened()`` yields a stream for one operation; after a block that did not
    fail, the target has all data that was written to the stream.
    """

    def opened(
        self, operation: driver_lib.Operation
    ) -> contextlib.AbstractContextManager[BinaryIO]: ...


class Stream:
    """A stream that is open already."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    @contextlib.contextmanager
    def opened(self, operation: driver_lib.Operation) -> Iterator[BinaryIO]:
        """Yield the stream, and flush it after the block."""
        yield self._stream
        with _translated('the output'):
            self._stream.flush()


def at(output: str) -> Target:
    """Return the target that has this name.

    :raises Invalid: no image can be written there; the message says why.
    """
    path = pathlib.Path(os.path.abspath(output))
    try:
        if not output or output.endswith('/') or path.is_dir():
            raise _refused(path, 'it is a folder; name a file in it.')
        if not path.parent.is_dir():
            raise _refused(path, f'there is no folder {path.parent}.')
        mode = _mode(path)
        if mode is not None and _is_special(mode):
            special = Special(path)
            special.require_usable(mode)
            return special
        file = File(path)
        file.require_usable()
    except OSError as error:
        raise _refused(path, f'{error.strerror}.') from error
    return file


class Special:
    """A device or a FIFO, or a link to one."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path

    def require_usable(self, mode: int) -> None:
        """Check, before anything begins, that it can be written to.

        :param mode: the file mode of the device or FIFO.
        :raises Invalid: this user can't write there.
        :raises OSError: a block device is in use.
        """
        if not os.access(self._path, os.W_OK):
            raise _refused(self._path, 'this user may not write to it.')
        if stat.S_ISBLK(mode):
            os.close(self._open())

    @contextlib.contextmanager
    def opened(self, operation: driver_lib.Operation) -> Iterator[BinaryIO]:
        """Open it, and yield the stream; wait for a reader of a FIFO.

        :raises SnapshotFailed: nobody reads from the FIFO, or the device or
            FIFO can't be opened or flushed.
        :raises SnapshotCancelled: cancelled while waiting for a reader.
        """
        with _translated(self._path):
            descriptor = self._open_when_read(operation)
            os.set_blocking(descriptor, True)
        with _closed_after(open(descriptor, 'wb')) as stream:  # noqa: SIM115
            yield stream
            with _translated(self._path):
                stream.flush()
                if stat.S_ISBLK(os.fstat(descriptor).st_mode):
                    concurrency.run_blocking(os.fsync, descriptor)

    def _open_when_read(self, operation: driver_lib.Operation) -> int:
        for _poll in waiting.polls(READER_TIMEOUT, operation.progress):
            try:
                return self._open()
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                nobody_reads = error
        raise nobody_reads

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        if stat.S_ISBLK(self._path.stat().st_mode):
            # Linux then refuses a device that is mounted or is part of a
            # volume group.
            flags |= os.O_EXCL
        return os.open(self._path, flags)


class File:
    """A regular file, new or in place of an old one."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path

    def require_usable(self) -> None:
        """Check, before anything begins, that the file can be made.

        :raises Invalid: this user may not write there, or may not replace the
            file that is there.
        :raises OSError: a file can't be made there.
        """
        if not os.access(self._path.parent, os.R_OK | os.W_OK | os.X_OK):
            raise _refused(
                self._path,
                f'this user may not write to {self._path.parent}.',
            )
        if os.path.lexists(self._path):
            self._require_replaceable()
        part = self._part()
        os.close(os.open(part, _NEW, 0o600))
        part.unlink()

    def _require_replaceable(self) -> None:
        found = self._path.lstat()
        if stat.S_ISLNK(found.st_mode):
            target = os.path.realpath(self._path)
            raise _refused(self._path, f'it is a link to {target}; name that.')
        if not stat.S_ISREG(found.st_mode):
            raise _refused(self._path, 'it is no file that can be replaced.')
        if not os.access(self._path, os.W_OK) or self._is_guarded(found):
            raise _refused(self._path, 'this user may not replace it.')

    def _is_guarded(self, found: os.stat_result) -> bool:
        """Return True if only another user may replace the file.

        In a folder with the sticky bit, such as /tmp, only the owner of a file
        or of the folder, or root, may do that.
        """
        folder, user = self._path.parent.stat(), os.geteuid()
        owners = (found.st_uid, folder.st_uid)
        return bool(
            folder.st_mode & stat.S_ISVTX and user and user not in owners
        )

    @contextlib.contextmanager
    def opened(self, operation: driver_lib.Operation) -> Iterator[BinaryIO]:
        """Yield a new file; after the block, give it the name.

        A file that has the name already is replaced.

        :raises SnapshotFailed: the file can't be made, written or renamed.
        :raises Invalid: something that can't be replaced has the name by now.
        """
        with _translated(self._path):
            self._remove_unfinished()
        part = self._part()
        with (
            operation.entry.undoing(RemoveUnfinished(str(part))),
            _closed_after(self._made(part)) as stream,
        ):
            yield stream
            with _translated(self._path):
                stream.flush()
                concurrency.run_blocking(os.fsync, stream.fileno())
                if os.path.lexists(self._path):
                    self._require_replaceable()
                part.rename(self._path)
                durable.sync_directory(self._path.parent)

    @property
    def _prefix(self) -> str:
        # A hash, since the name itself may be as long as a file system allows.
        digest = hashlib.sha256(os.fsencode(self._path.name)).hexdigest()
        return f'{_PREFIX}{digest[:16]}-'

    def _part(self) -> pathlib.Path:
        return self._path.with_name(f'{self._prefix}{uuid.uuid4()}')

    def _made(self, part: pathlib.Path) -> BinaryIO:
        """Make the unfinished file, and lock it until it is closed."""
        with _translated(self._path):
            stream = open(os.open(part, _NEW, 0o600), 'wb')  # noqa: SIM115
            fcntl.flock(stream, fcntl.LOCK_EX)
            return stream

    def _remove_unfinished(self) -> None:
        """Remove the unfinished files of killed exports to this name."""
        for path in self._path.parent.iterdir():
            if path.name.startswith(self._prefix):
                with contextlib.suppress(FileNotFoundError):
                    _remove_unless_written(path)


@dataclasses.dataclass(frozen=True)
class RemoveUnfinished(undo.Step, kind='remove the unfinished export'):
    """Remove the unfinished file of an export."""

    path: str

    # A file that is left does not keep the next operation from running.
    is_blocking = False

    def undo(self, resources: undo.Resources) -> None:
        """Remove the file, if it is there.

        :raises SnapshotFailed: the path is not that of an unfinished export.
        """
        path = pathlib.Path(self.path)
        if not path.is_absolute() or not _UNFINISHED.fullmatch(path.name):
            raise exception.SnapshotFailed(
                f'{self.path!r} is no unfinished export, and stays.'
            )
        path.unlink(missing_ok=True)


def _remove_unless_written(path: pathlib.Path) -> None:
    """Remove an unfinished export of ours that no process writes."""
    found = path.lstat()
    if (
        not _UNFINISHED.fullmatch(path.name)
        or not stat.S_ISREG(found.st_mode)
        or found.st_uid != os.geteuid()
    ):
        return
    durable.remove_unless_locked(path)


def _mode(path: pathlib.Path) -> int | None:
    """Return the file mode, following links; None if nothing is there."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


def _is_special(mode: int) -> bool:
    return stat.S_ISFIFO(mode) or stat.S_ISBLK(mode) or stat.S_ISCHR(mode)


@contextlib.contextmanager
def _closed_after(stream: BinaryIO) -> Iterator[BinaryIO]:
    """Close a stream after the block, which has to flush it.

    Closing a stream that was not flushed may fail, too; that error would hide
    the one of the block, so it is ignored.
    """
    try:
        yield stream
    finally:
        with contextlib.suppress(OSError):
            stream.close()


@contextlib.contextmanager
def _translated(output: object) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror
        if error.errno == errno.ENXIO:
            reason = 'nobody reads from it'
        raise exception.SnapshotFailed(
            f'The image could not be written to {output}: {reason}.'
        ) from error


def _refused(path: pathlib.Path, reason: str) -> exception.Invalid:
    return exception.Invalid(
        f'The image cannot be written to {path}: {reason}'
    )
