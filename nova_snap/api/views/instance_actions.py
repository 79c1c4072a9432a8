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

"""The JSON of instance actions, in each microversion."""

import dataclasses
import datetime
import hashlib
from typing import Any

import microversion_parse

from nova_snap.api.db import models

Version = microversion_parse.Version


def time(moment: datetime.datetime | None) -> str | None:
    """Return a moment as Nova writes it: UTC, without a zone."""
    if moment is None:
        return None
    return moment.strftime('%Y-%m-%dT%H:%M:%S.%f')


def summary(action: models.Action, version: Version) -> dict[str, Any]:
    """Return an action as in a list."""
    found = {
        'action': action.action,
        'instance_uuid': action.instance_uuid,
        'request_id': action.request_id,
        'user_id': action.user_id,
        'project_id': action.project_id,
        'start_time': time(action.start_time),
        'message': action.message,
    }
    if version >= (2, 58):
        found['updated_at'] = time(action.updated_at)
    return found


@dataclasses.dataclass(frozen=True)
class DetailView:
    """A view of an action with its events.

    :ivar shows_events: the view has all of the events; others have them since
        2.51, without the host.
    :ivar shows_details: the view has the reason of a failure.
    """

    version: Version
    shows_events: bool
    shows_details: bool

    def shown(self, action: models.Action) -> dict[str, Any]:
        """Return what ``GET .../os-instance-actions/{request_id}`` has."""
        found = summary(action, self.version)
        if self.version >= (2, 51) or self.shows_events:
            found['events'] = [
                self._event(event, action.project_id or '')
                for event in action.events
            ]
        return found

    def _event(self, event: models.Event, project_id: str) -> dict[str, Any]:
        found = {
            'event': event.event,
            'start_time': time(event.start_time),
            'finish_time': time(event.finish_time),
            'result': event.result,
        }
        if self.shows_events:
            found['traceback'] = None
        if self.version >= (2, 62):
            found['hostId'] = hashlib.sha224(
                f'{project_id}{event.host}'.encode()
            ).hexdigest()
            if self.shows_events:
                found['host'] = event.host
        if self.version >= (2, 84) and self.shows_details:
            found['details'] = event.details
        return found
