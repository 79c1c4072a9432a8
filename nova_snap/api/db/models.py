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

"""Tables of the service's database.

A change of this file needs a migration (``migrations/versions``), which a
test compares with it.
"""

import datetime

import sqlalchemy
from sqlalchemy import orm


class Base(orm.DeclarativeBase):
    """Base class of the tables."""


class Action(Base):
    """What a user has done to a server.

    Times are in UTC.
    """

    __tablename__ = 'instance_actions'
    __table_args__ = (
        sqlalchemy.Index(
            'instance_actions_by_request', 'instance_uuid', 'request_id'
        ),
    )

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    instance_uuid: orm.Mapped[str]
    request_id: orm.Mapped[str]
    action: orm.Mapped[str]
    user_id: orm.Mapped[str | None]
    project_id: orm.Mapped[str | None]
    image_id: orm.Mapped[str]
    start_time: orm.Mapped[datetime.datetime]
    updated_at: orm.Mapped[datetime.datetime]
    message: orm.Mapped[str | None]
    events: orm.Mapped[list['Event']] = orm.relationship(
        order_by='Event.id', cascade='all, delete-orphan', lazy='selectin'
    )


class Event(Base):
    """A step of an action; without a ``result`` it is under way."""

    __tablename__ = 'instance_actions_events'

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    action_id: orm.Mapped[int] = orm.mapped_column(
        sqlalchemy.ForeignKey('instance_actions.id', ondelete='CASCADE')
    )
    event: orm.Mapped[str]
    host: orm.Mapped[str]
    start_time: orm.Mapped[datetime.datetime]
    finish_time: orm.Mapped[datetime.datetime | None]
    result: orm.Mapped[str | None]
    details: orm.Mapped[str | None]
