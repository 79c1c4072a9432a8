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
import datetime
from typing import Any

import sqlalchemy
from sqlalchemy import orm

from nova_snap.api import context as context_lib
from nova_snap.api import snapshots
from nova_snap.api.db import api as db_api
from nova_snap.api.db import models

#: The results of an event, with Nova's words.
SUCCESS = 'Success'
ERROR = 'Error'

#: How long an action is kept after its last change.
KEPT = datetime.timedelta(days=90)

#: Why an action has failed that nobody has ended.
INTERRUPTED = (
    'The service ended while the image was being made; the image was removed.'
)


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

    def begin(
        self,
        context: context_lib.Context,
        instance_uuid: str,
        action: str,
        image_id: str,
    ) -> int:
        """Note an action that a request begins; return its number."""
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
        """Note the beginning of a step of an action."""
        now = _now()
        with self._database.writing() as session:
            action = session.get_one(models.Action, action_id)
            action.updated_at = now
            action.events.append(
                models.Event(event=event, host=self._host, start_time=now)
            )

    def end(self, action_id: int, event: str, error: str | None) -> None:
        """Note the end of an action and of its step.

        :param event: it is noted even if it has never begun, since it has the
            error.
        :param error: None is a success.
        """
        with self._database.writing() as session:
            action = session.get_one(models.Action, action_id)
            self._end(action, event, error)

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

    def _end(
        self, action: models.Action, event: str, error: str | None
    ) -> None:
        now = _now()
        action.updated_at = now
        action.message = None if error is None else ERROR
        found = next((e for e in action.events if e.event == event), None)
        if found is None:
            found = models.Event(event=event, host=self._host, start_time=now)
            action.events.append(found)
        found.finish_time = now
        found.result = SUCCESS if error is None else ERROR
        found.details = error


def _read(
    session: orm.Session, wanted: 'sqlalchemy.Select[Any]'
) -> Sequence[models.Action]:
    """Return rows that outlive their session."""
    found: Sequence[models.Action] = session.scalars(wanted).all()
    session.expunge_all()
    return found


class Watcher(snapshots.Watcher):
    """Notes what becomes of a snapshot.

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

    def accepted(self, snapshot: snapshots.Snapshot) -> None:
        """Note the action."""
        self._id = self._actions.begin(
            self._context,
            snapshot.instance.uuid,
            self._action,
            snapshot.image_id,
        )

    def began(self, snapshot: snapshots.Snapshot) -> None:
        """Note the event."""
        self._actions.begin_event(self._id, self._event)

    def ended(
        self, snapshot: snapshots.Snapshot, error: Exception | None
    ) -> None:
        """Note the result."""
        if self._id:
            message = None if error is None else str(error)
            self._actions.end(self._id, self._event, message)
