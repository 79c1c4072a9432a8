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
"""The time of changes that a list is asked for."""

import datetime

from nova_snap.api import errors
from nova_snap.api import request as request_lib

#: The earliest and the latest time; None is any.
Period = tuple[datetime.datetime | None, datetime.datetime | None]

#: Since then there is a latest time.
BEFORE = 66


def of_request(request: request_lib.Request) -> Period:
    """Return the period that a request asks for; without a zone it is UTC's.

    :raises BadRequest: a date is none, or the period ends before it begins.
    """
    since = _date(request, 'changes-since')
    if not request.supports(BEFORE):
        return since, None
    before = _date(request, 'changes-before')
    if since is not None and before is not None and before < since:
        raise errors.BadRequest(
            'The value of changes-since must be less than or equal to '
            'changes-before.'
        )
    return since, before


def _date(request: request_lib.Request, name: str) -> datetime.datetime | None:
    text = request.GET.get(name)
    if text is None:
        return None
    try:
        found = datetime.datetime.fromisoformat(text)
        if not found.tzinfo:
            found = found.replace(tzinfo=datetime.UTC)
        return found.astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        raise errors.BadRequest(
            f'Invalid input for query parameters {name}. Value: {text}. '
            f"{text!r} is not a 'date-time'"
        ) from None
