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

"""What was begun and has to be ended, on disk before anything is touched.

A snapshot owes things while it runs: a definition that has to be put back, a
guest that has to be started, a folder that has to go.  Each is a *duty*: a
kind, and the data that its undoing needs.  An entry of the journal is the
list of duties that one snapshot owes at this moment.

The same function undoes a duty in the running process, when the ``with``
block ends, and in a later process that finds the entry after a crash
(:meth:`Entry.undo_all`).  Therefore every undoing must be right when it is
done twice, and when what it undoes never happened.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
import json
import pathlib
from typing import Any
import uuid

from oslo_log import log as logging
from oslo_utils import timeutils

from nova_snap import durable
from nova_snap import exception

LOG = logging.getLogger(__name__)

Data = Mapping[str, Any]
Undo = Callable[[Data], None]


@dataclasses.dataclass(frozen=True)
class Duty:
    """One thing that is owed; ``data`` is what JSON can hold."""

    kind: str
    data: Data


class Entry:
    """What one snapshot owes.

    Attributes: ``id``, ``instance_uuid``, ``instance_name``, ``begun_at``
    (ISO 8601, UTC) and ``duties``, in the order in which they arose.
    """

    def __init__(self, path: pathlib.Path, content: Data) -> None:
        self.path = path
        self.id = path.stem
        self.instance_uuid: str = content['instance_uuid']
        self.instance_name: str = content['instance_name']
        self.begun_at: str = content['begun_at']
        self.duties = [
            Duty(duty['kind'], duty['data']) for duty in content['duties']
        ]

    @classmethod
    def read(cls, path: pathlib.Path) -> 'Entry':
        """The entry as it is on disk.

        :raises FileNotFoundError: its snapshot has ended.
        :raises OSError, ValueError, KeyError, TypeError: it is unreadable.
        """
        return cls(path, json.loads(path.read_text()))

    @contextlib.contextmanager
    def owing(self, kind: str, undo: Undo, **data: Any) -> Iterator[None]:
        """Owe a duty for the length of the block, then undo it.

        The duty is on disk before the block begins.  An undoing that fails
        is logged and stays in the journal; it neither hides the error of the
        block nor keeps the duties around it from being undone.

        :param undo: called with ``data``, the way recovery would call it.
        :raises SnapshotFailed: the journal can't be written; the block was
            not begun.
        """
        duty = Duty(kind, data)
        self.duties.append(duty)
        try:
            self._write()
        except OSError as error:
            self.duties.remove(duty)  # not begun, so not owed
            raise exception.SnapshotFailed(
                f'The journal in {self.path.parent} cannot be written '
                f'({error.strerror}), and without it nothing is begun; make '
                'room there.'
            ) from error
        try:
            yield
        finally:
            self._undo(duty, undo)

    def undo_all(self, undoers: Mapping[str, Undo]) -> None:
        """Undo everything that is owed, the last first.

        :param undoers: the function for each kind.  A kind that is missing
            stays owed, as does a duty whose undoing fails.
        """
        for duty in reversed(list(self.duties)):
            if duty.kind in undoers:
                self._undo(duty, undoers[duty.kind])

    def close(self) -> bool:
        """Remove the entry if nothing is owed any more; say whether."""
        if self.duties:
            LOG.error(
                'Snapshot of server %(server)s left undone: %(kinds)s. '
                'Recovery tries again; the journal entry is %(path)s.',
                {
                    'server': self.instance_uuid,
                    'kinds': ', '.join(d.kind for d in self.duties),
                    'path': self.path,
                },
            )
            return False
        self.path.unlink(missing_ok=True)
        durable.sync_directory(self.path.parent)
        return True

    def _undo(self, duty: Duty, undo: Undo) -> None:
        try:
            undo(duty.data)
        except Exception as error:
            LOG.error(
                'Failed to %(kind)s for server %(server)s: %(error)s',
                {
                    'kind': duty.kind,
                    'server': self.instance_uuid,
                    'error': error,
                },
            )
            LOG.debug('Where it failed:', exc_info=True)
            return
        self.duties.remove(duty)
        try:
            self._write()
        except OSError as error:
            # What is owed is done; that it is still written down costs the
            # next recovery a look, no more.
            LOG.warning('Journal %s not written: %s', self.path, error)

    def _write(self) -> None:
        content = {
            'instance_uuid': self.instance_uuid,
            'instance_name': self.instance_name,
            'begun_at': self.begun_at,
            'duties': [dataclasses.asdict(duty) for duty in self.duties],
        }
        durable.write(self.path, json.dumps(content, indent=1))


@dataclasses.dataclass(frozen=True)
class Unreadable:
    """A file of the journal that can't be read: something is owed, but what?

    ``reason`` is a phrase.
    """

    path: pathlib.Path
    reason: str

    def __str__(self) -> str:
        return f'{self.path} is unreadable: {self.reason}'


@dataclasses.dataclass(frozen=True)
class Contents:
    """What is in a journal; the entries are in order, the oldest first."""

    entries: tuple[Entry, ...]
    unreadable: tuple[Unreadable, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing is owed, as far as one can know."""
        return not self.entries and not self.unreadable


class Journal:
    """The entries in one directory (0700; it holds passwords)."""

    def __init__(self, directory: pathlib.Path) -> None:
        self._directory = directory

    @contextlib.contextmanager
    def begun(self, instance_uuid: str, instance_name: str) -> Iterator[Entry]:
        """An entry for the length of a snapshot; kept if something is owed.

        :raises OSError: the journal's directory can't be made.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        entry = Entry(
            self._directory / f'{uuid.uuid4()}.json',
            {
                'instance_uuid': instance_uuid,
                'instance_name': instance_name,
                'begun_at': timeutils.utcnow().isoformat() + 'Z',
                'duties': [],
            },
        )
        try:
            yield entry
        finally:
            entry.close()

    def entries(self) -> Iterator[Entry]:
        """The entries on disk, oldest first.

        One that can't be read is logged by name and left where it is.

        :raises NotPermitted: this user may not look into the journal.
        """
        contents = self.contents()
        for file in contents.unreadable:
            LOG.error('Journal entry %s', file)
        yield from contents.entries

    def contents(self) -> Contents:
        """The entries on disk, and what could not be read of them.

        :raises NotPermitted: this user may not look into the journal.
        """
        found, unreadable = [], []
        for path in self._paths():
            try:
                found.append(Entry.read(path))
            except FileNotFoundError:
                continue  # its snapshot ended just now
            except OSError as error:
                unreadable.append(Unreadable(path, f'{error.strerror}.'))
            except (ValueError, KeyError, TypeError) as error:
                reason = f'{type(error).__name__}: {error}.'
                unreadable.append(Unreadable(path, reason))
        found.sort(key=lambda entry: entry.begun_at)
        return Contents(tuple(found), tuple(unreadable))

    def _paths(self) -> list[pathlib.Path]:
        # Not by glob(), to which a forbidden directory is an empty one.
        try:
            paths = list(self._directory.iterdir())
        except FileNotFoundError:
            return []
        except PermissionError as error:
            raise exception.NotPermitted(
                f'This user may not read the journal in {self._directory}; '
                'run as root, or as the user that takes snapshots.'
            ) from error
        return [path for path in paths if path.suffix == '.json']
