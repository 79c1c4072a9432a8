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

"""Journal of the undo steps of running operations, on disk.

A running operation has changes to undo: a definition that has to be put back,
a guest that has to be started, a folder that has to be removed.  Each is an
undo step (``undo.py``).  An entry of the journal lists the steps that one
operation has to undo at this moment; a step is in it before the change is
made.

The same step is undone in the running process, when the ``with`` block ends
(:meth:`Entry.undoing`), and in a later process that finds the entry after a
crash (:meth:`Entry.undo_all`).  Open this file for the format of an entry.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
import json
import os
import pathlib
import stat
import threading
from typing import Any
import uuid

from oslo_log import log as logging
from oslo_utils import timeutils

from nova_snap import durable
from nova_snap import exception
from nova_snap import state_folder
from nova_snap import this_host
from nova_snap import undo

LOG = logging.getLogger(__name__)

#: Format of the entries that are written.
VERSION = 2

#: The key of the steps in each format that can be read.  An entry of the
#: first format has no field "version".
_STEPS = {1: 'duties', VERSION: 'steps'}


class Entry:
    """The undo steps of one operation.

    Attributes: ``id``, ``instance_uuid``, ``instance_name``, ``begun_at``
    (ISO 8601, UTC), ``origin`` and ``steps``, in the order in which they were
    begun.  Threads may share an entry.

    :param resources: what the steps work on in this process.
    """

    def __init__(
        self,
        path: pathlib.Path,
        content: Mapping[str, Any],
        resources: undo.Resources | None = None,
    ) -> None:
        self.path = path
        self.id = path.stem
        self.instance_uuid: str = content['instance_uuid']
        self.instance_name: str = content['instance_name']
        self.begun_at: str = content['begun_at']
        self.origin = this_host.Origin.from_data(content.get('origin', {}))
        self.steps = [
            undo.load(step['kind'], step['data'])
            for step in content[_STEPS[content.get('version', 1)]]
        ]
        self._resources = resources or undo.Resources()
        self._is_written = False
        #: True in the process that began the operation.
        self._is_own = True
        #: Guards the steps and the file; not held while a step is undone.
        self._lock = threading.Lock()

    @classmethod
    def read(cls, path: pathlib.Path) -> 'Entry':
        """Read an entry from disk.

        :raises FileNotFoundError: its operation has ended.
        :raises OSError, ValueError, KeyError, TypeError: the entry is
            unreadable.
        """
        content = json.loads(_text(path))
        if not isinstance(content, dict):
            raise TypeError('it holds no entry')
        version = content.get('version', 1)
        if version not in _STEPS:
            raise ValueError(
                f'a later release has written it (format {version}); recover '
                'with that release'
            )
        entry = cls(path, content)
        entry._is_written = True
        entry._is_own = False
        return entry

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the steps, in their order."""
        return tuple(step.kind for step in self.steps)

    @contextlib.contextmanager
    def undoing(self, step: undo.Step) -> Iterator[None]:
        """Register a step for the length of the block, then undo it.

        The step is on disk before the block begins.  A step that can't be
        undone is logged and stays in the journal; its error neither hides
        the error of the block nor keeps the steps around it from being
        undone.

        :raises SnapshotFailed: the journal can't be written; the block was
            not begun.
        """
        try:
            self._add(step)
        except OSError as error:
            raise self._not_written(error) from error
        try:
            yield
        finally:
            if self._has(step):
                self._undo(step, self._resources)

    def _add(self, step: undo.Step) -> None:
        with self._lock:
            self.steps.append(step)
            try:
                self._write()
            except OSError:
                self.steps.remove(step)  # not begun
                raise

    def _has(self, step: undo.Step) -> bool:
        # Another thread that removes a step meanwhile would hide this one.
        with self._lock:
            return step in self.steps

    def undo_now(self, step: undo.Step) -> None:
        """Undo a step before its block ends.

        A step that can't be undone is logged; the end of its block tries
        again.
        """
        self._undo(step, self._resources)

    @contextlib.contextmanager
    def replacing(self, step: undo.Step, other: undo.Step) -> Iterator[None]:
        """Put another step in the place of one, and undo it after the block.

        A recovery finds one of them, and never both.

        :raises SnapshotFailed: the journal can't be written; the step is still
            there, and the block was not begun.
        """
        try:
            self._replace(step, other)
        except OSError as error:
            raise self._not_written(error) from error
        try:
            yield
        finally:
            if self._has(other):
                self._undo(other, self._resources)

    def _replace(self, step: undo.Step, other: undo.Step) -> None:
        with self._lock:
            before = list(self.steps)
            self.steps[self.steps.index(step)] = other
            try:
                self._write()
            except OSError:
                self.steps = before
                raise

    def _not_written(self, error: OSError) -> exception.SnapshotFailed:
        return exception.SnapshotFailed(
            f'The journal in {self.path.parent} cannot be written '
            f'({error.strerror}), and no operation is begun without it; '
            'make room there.'
        )

    def drop(self, step: undo.Step) -> None:
        """Remove a step before its block ends: what it undoes is to stay.

        A step that can't be removed from the file is logged; a recovery then
        undoes it, and has to find out the same.
        """
        self._remove(step)

    def undo_all(
        self, resources: undo.Resources, blocking: bool | None = None
    ) -> None:
        """Undo every step, the last first; steps that fail stay.

        :param resources: what the steps work on.
        :param blocking: True for only the steps that a guest may wait for,
            False for only the others.
        """
        for step in reversed(list(self.steps)):
            if blocking in (None, step.is_blocking):
                self._undo(step, resources)

    def close(self) -> bool:
        """Remove the entry if nothing is left to undo; return True if so."""
        if self.steps:
            LOG.error(
                'An operation on server %(server)s left undone: %(kinds)s. '
                'Recovery tries again; the journal entry is %(path)s.',
                {
                    'server': self.instance_uuid,
                    'kinds': ', '.join(self.kinds),
                    'path': self.path,
                },
                instance_uuid=self.instance_uuid,
            )
            return False
        if self._is_written:
            self._unlink()
        return True

    def _undo(self, step: undo.Step, resources: undo.Resources) -> None:
        try:
            step.undo(resources)
        except Exception as error:
            LOG.error(
                'Failed to %(kind)s for server %(server)s: %(error)s',
                {
                    'kind': step.kind,
                    'server': self.instance_uuid,
                    'error': error,
                },
                instance_uuid=self.instance_uuid,
            )
            LOG.debug(
                'Traceback of the failed undo step:',
                exc_info=True,
                instance_uuid=self.instance_uuid,
            )
            return
        self._remove(step)

    def _remove(self, step: undo.Step) -> None:
        try:
            with self._lock:
                self.steps.remove(step)
                if self.steps or not self._is_own:
                    self._write()
                else:
                    self._unlink()
        except OSError as error:
            # The step is undone.  The next recovery finds it in the journal
            # and undoes it once more, which does no harm.
            LOG.warning(
                'The journal entry %(path)s cannot be written: %(error)s',
                {'path': self.path, 'error': error},
                instance_uuid=self.instance_uuid,
            )

    def _unlink(self) -> None:
        self.path.unlink(missing_ok=True)
        durable.sync_directory(self.path.parent)
        self._is_written = False

    def _write(self) -> None:
        content = {
            'version': VERSION,
            'instance_uuid': self.instance_uuid,
            'instance_name': self.instance_name,
            'begun_at': self.begun_at,
            'origin': self.origin.data(),
            'steps': [
                {'kind': step.kind, 'data': step.data()} for step in self.steps
            ],
        }
        durable.write(self.path, json.dumps(content, indent=1))
        self._is_written = True


@dataclasses.dataclass(frozen=True)
class Unreadable:
    """A file of the journal that can't be read, so its steps are unknown.

    ``reason`` is a phrase.
    """

    path: pathlib.Path
    reason: str

    def __str__(self) -> str:
        return f'{self.path} is unreadable: {self.reason}'


@dataclasses.dataclass(frozen=True)
class Contents:
    """Content of a journal; the entries are in order, the oldest first.

    ``elsewhere`` are the entries of other hosts, or of another libvirt on this
    host: they are left to those.
    """

    entries: tuple[Entry, ...]
    unreadable: tuple[Unreadable, ...]
    elsewhere: tuple[Entry, ...] = ()

    @property
    def is_empty(self) -> bool:
        """True if nothing is left to undo here, as far as can be known."""
        return not self.entries and not self.unreadable


class Journal:
    """The entries in one directory (0700; it holds passwords).

    :param origin: of the operations that are begun and recovered.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        origin: this_host.Origin = this_host.UNKNOWN,
    ) -> None:
        self._directory = directory
        self._origin = origin

    @contextlib.contextmanager
    def begun(
        self,
        instance_uuid: str,
        instance_name: str,
        resources: undo.Resources | None = None,
    ) -> Iterator[Entry]:
        """Begin an entry; remove it after the block if everything is undone.

        :param resources: what the steps of the entry work on.
        :raises OSError: the journal's directory can't be made.
        :raises NotPermitted: others can write to that directory.
        """
        state_folder.make(self._directory)
        durable.remove_stale(self._directory)
        entry = Entry(
            self._directory / f'{uuid.uuid4()}.json',
            {
                'instance_uuid': instance_uuid,
                'instance_name': instance_name,
                'begun_at': timeutils.utcnow().isoformat() + 'Z',
                'origin': self._origin.data(),
                'version': VERSION,
                'steps': [],
            },
            resources,
        )
        try:
            yield entry
        finally:
            entry.close()

    def tidy(self) -> None:
        """Remove what processes left that were killed while they wrote.

        :raises NotPermitted: others can write to the journal's directory.
        """
        with contextlib.suppress(FileNotFoundError):
            state_folder.require_own(self._directory)
            durable.remove_stale(self._directory)

    def entries(self) -> Iterator[Entry]:
        """Yield the entries of this host, the oldest first.

        An entry that can't be read is logged by name and left where it is.

        :raises NotPermitted: see :meth:`contents`.
        """
        contents = self.contents()
        for file in contents.unreadable:
            LOG.error('Journal entry %s', file)
        yield from contents.entries

    def contents(self) -> Contents:
        """Return the entries on disk, and the files that can't be read.

        :raises NotPermitted: this user may not look into the journal, or
            others can write to it.
        """
        found, unreadable = [], []
        for path in self._paths():
            try:
                found.append(Entry.read(path))
            except FileNotFoundError:
                continue  # its operation ended just now
            except OSError as error:
                unreadable.append(Unreadable(path, f'{error.strerror}.'))
            except (ValueError, KeyError, TypeError) as error:
                reason = f'{type(error).__name__}: {error}.'
                unreadable.append(Unreadable(path, reason))
        found.sort(key=lambda entry: entry.begun_at)
        own: list[Entry] = []
        elsewhere: list[Entry] = []
        for entry in found:
            is_elsewhere = entry.origin.is_elsewhere(self._origin)
            (elsewhere if is_elsewhere else own).append(entry)
        return Contents(tuple(own), tuple(unreadable), tuple(elsewhere))

    def _paths(self) -> list[pathlib.Path]:
        # Not by glob(), which finds nothing in a forbidden directory.
        try:
            state_folder.require_own(self._directory)
            paths = list(self._directory.iterdir())
        except FileNotFoundError:
            return []
        except PermissionError as error:
            raise exception.NotPermitted(
                f'This user may not read the journal in {self._directory}; '
                'run as root, or as the user that takes snapshots.'
            ) from error
        return [path for path in paths if path.suffix == '.json']


def _text(path: pathlib.Path) -> str:
    """Read a file that only this user or root can have written.

    :raises ValueError: it is no such file.
    """
    # A FIFO of this name would keep whoever opens it waiting.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError('it is no regular file')
        if not state_folder.is_own(found):
            raise ValueError(f'it belongs to user {found.st_uid}')
        with open(descriptor, encoding='utf-8', closefd=False) as stream:
            return stream.read()
    finally:
        os.close(descriptor)
