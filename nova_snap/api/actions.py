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

"""Instance actions: what was done to a server, when, and how it ended.

https://docs.openstack.org/api-ref/compute/#servers-actions-servers-os-instance-actions
"""

from collections.abc import Sequence
import dataclasses
import datetime
import threading
import time
from typing import Any

from oslo_log import log as logging
import sqlalchemy
from sqlalchemy import orm

from nova_snap import concurrency
from nova_snap import waiting
from nova_snap.api import calls
from nova_snap.api import context as context_lib
from nova_snap.api.db import api as db_api
from nova_snap.api.db import models

LOG = logging.getLogger(__name__)

#: The results of an event, with Nova's words.
SUCCESS = 'Success'
ERROR = 'Error'

#: How long an action is kept after its last change.
KEPT = datetime.timedelta(days=90)

#: Why the making of an image has failed that nobody has ended.
INTERRUPTED = (
    'The service ended while the image was being made; the image was removed.'
)


#: Seconds between two attempts to write: at first, and at most.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0


class MarkerNotFound(Exception):
    """The action after which a list is to begin does not exist."""


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)


class Actions:
    """The instance actions in a database.

    :param host: the name of this host, for the events.
    """

    def __init__(self, database: db_api.Database, host: str) -> None:
        self._database = database
        self._host = host
        self._lock = threading.Lock()
        self._unwritten: list[_End] = []

    def begin(
        self,
        context: context_lib.Context,
        instance_uuid: str,
        action: str,
        image_id: str = '',
    ) -> int:
        """Note an action that a request begins; return its number.

        :param image_id: of the image that it makes; '' if it makes none.
        """
        now = _now()
        made = models.Action(
            instance_uuid=instance_uuid,
            request_id=context.request_id,
            action=action,
            user_id=context.user_id,
            project_id=context.project_id,
            image_id=image_id,
            start_time=now,
            updated_at=now,
        )
        with self._database.writing() as session:
            session.add(made)
            session.flush()
            return made.id

    def begin_event(self, action_id: int, event: str) -> None:
        """Note the beginning of a step of an action.

        If that can't be written, the step goes on: its end is noted with it.
        """
        now = _now()
        try:
            with self._database.writing() as session:
                action = session.get_one(models.Action, action_id)
                action.updated_at = now
                action.events.append(
                    models.Event(event=event, host=self._host, start_time=now)
                )
        except db_api.UNWRITABLE as error:
            LOG.warning('Cannot write that %s has begun: %s', event, error)

    def end(self, action_id: int, event: str, error: str | None) -> None:
        """Note the end of an action and of its step.

        If that can't be written now, a thread writes it later.

        :param event: it is noted even if it has never begun, since it has the
            error.
        :param error: None is a success.
        """
        end = _End(action_id, event, error, _now())
        try:
            self._write_end(end)
        except db_api.UNWRITABLE as failure:
            LOG.error(
                'Cannot write how action %(action)s ended, and try again: '
                '%(error)s',
                {'action': action_id, 'error': failure},
            )
            self._write_later(end)

    def list(
        self,
        instance_uuid: str,
        limit: int | None = None,
        marker: str | None = None,
        since: datetime.datetime | None = None,
        before: datetime.datetime | None = None,
    ) -> Sequence[models.Action]:
        """Return the actions on an instance, the latest first.

        :param marker: the request ID of the action before the first.
        :param since: the earliest last change.
        :param before: the latest last change.
        :raises MarkerNotFound: there is no such action.
        """
        wanted = sqlalchemy.select(models.Action).where(
            models.Action.instance_uuid == instance_uuid
        )
        if since is not None:
            wanted = wanted.where(models.Action.updated_at >= since)
        if before is not None:
            wanted = wanted.where(models.Action.updated_at <= before)
        if marker is not None:
            after = self.get(instance_uuid, marker)
            if after is None:
                raise MarkerNotFound(marker)
            wanted = wanted.where(models.Action.id < after.id)
        wanted = wanted.order_by(models.Action.id.desc()).limit(limit)
        with self._database.reading() as session:
            return _read(session, wanted)

    def get(self, instance_uuid: str, request_id: str) -> models.Action | None:
        """Return the action that a request has begun, None if it has not."""
        wanted = sqlalchemy.select(models.Action).where(
            models.Action.instance_uuid == instance_uuid,
            models.Action.request_id == request_id,
        )
        with self._database.reading() as session:
            return next(iter(_read(session, wanted)), None)

    def unfinished(self) -> Sequence[models.Action]:
        """Return the actions that have not ended."""
        wanted = sqlalchemy.select(models.Action).where(
            ~models.Action.events.any(models.Event.result.is_not(None))
        )
        with self._database.reading() as session:
            return _read(session, wanted)

    def forget_old(self) -> None:
        """Delete the actions that have not changed for long."""
        old = models.Action.updated_at < _now() - KEPT
        with self._database.writing() as session:
            session.execute(sqlalchemy.delete(models.Action).where(old))

    def _write_end(self, end: '_End') -> None:
        with self._database.writing() as session:
            action = session.get(models.Action, end.action_id)
            if action is None:
                return
            action.updated_at = end.time
            action.message = None if end.error is None else ERROR
            events = (e for e in action.events if e.event == end.event)
            found = next(events, None)
            if found is None:
                found = models.Event(
                    event=end.event, host=self._host, start_time=end.time
                )
                action.events.append(found)
            found.finish_time = end.time
            found.result = SUCCESS if end.error is None else ERROR
            found.details = end.error

    def _write_later(self, end: '_End') -> None:
        with self._lock:
            self._unwritten.append(end)
            is_first = len(self._unwritten) == 1
        if is_first:
            concurrency.start_thread('unwritten-actions', self._try_to_write)

    def _try_to_write(self) -> None:
        """Write what could not be written, one after the other."""
        for pause in waiting.pauses(FIRST_PAUSE, LONGEST_PAUSE):
            time.sleep(pause)
            try:
                while True:
                    self._write_end(self._unwritten[0])
                    with self._lock:
                        del self._unwritten[0]
                        if not self._unwritten:
                            return
            except db_api.UNWRITABLE as error:
                LOG.debug('Still cannot write: %s', error)


@dataclasses.dataclass(frozen=True)
class _End:
    """The end of an action, which is to be written."""

    action_id: int
    event: str
    error: str | None
    time: datetime.datetime


def _read(
    session: orm.Session, wanted: 'sqlalchemy.Select[Any]'
) -> Sequence[models.Action]:
    """Return rows that outlive their session."""
    found: Sequence[models.Action] = session.scalars(wanted).all()
    session.expunge_all()
    return found


class Recorder(calls.Watcher):
    """Notes what becomes of a work as an instance action.

    :param action: Nova's name of the action, such as ``createImage``.
    :param event: Nova's name of what the host does for it.
    """

    def __init__(
        self,
        actions: Actions,
        context: context_lib.Context,
        action: str,
        event: str,
    ) -> None:
        self._actions = actions
        self._context = context
        self._action = action
        self._event = event
        self._id = 0

    def accepted(self, instance_uuid: str, image_id: str = '') -> None:
        """Note the action."""
        self._id = self._actions.begin(
            self._context, instance_uuid, self._action, image_id
        )

    def began(self) -> None:
        """Note the event."""
        self._actions.begin_event(self._id, self._event)

    def ended(self, error: Exception | None) -> None:
        """Note the result."""
        if self._id:
            self._actions.end(self._id, self._event, _details(error))


def _details(error: Exception | None) -> str | None:
    """Return what is noted of an error: its class if it says nothing."""
    return None if error is None else str(error) or type(error).__name__
