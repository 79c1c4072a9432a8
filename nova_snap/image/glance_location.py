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


"""Adding the location of existing data to an image record in Glance.

Open this file when Glance does not accept a location.  The call of API 2.17 is
for services: it answers at once, and a task of Glance adds the location.  The
older way changes the record's field "locations", where Glance shows it.
"""

from collections.abc import Callable
import json
from typing import Any

from nova_snap import exception
from nova_snap import waiting
from nova_snap.clients import http_errors
from nova_snap.image import api

#: Seconds in which Glance has to add a location that it has accepted.
TIMEOUT = 120

#: Seconds; nothing is moved, so this is a matter of a moment.
_INTERVAL = 0.1

#: Statuses that say that this user, or any, can't call this.
_NO_CALL = frozenset((403, 404, 405))

#: Statuses that say that the location is not accepted.
_REFUSED = frozenset((400, 403, 409))

_PATCH = 'application/openstack-images-v2.1-json-patch'


class AddLocation:
    """The request for a location; a retry finds what an earlier try did."""

    def __init__(self, client: Any, image_id: str, url: str) -> None:
        self._http = client.http_client
        self._path = f'/v2/images/{image_id}'
        self._url = url
        self._tried = False

    def __call__(self) -> None:
        """Make the request; Glance may add the location later.

        :raises MethodUnavailable: Glance does not accept it.
        """
        again, self._tried = self._tried, True
        try:
            self._post()
        except http_errors.HTTPError as error:
            if again and error.status == 409:
                return  # the try before has arrived
            if error.status not in _NO_CALL:
                self._raise(error)
            self._patch(error)

    def _post(self) -> None:
        self._http.post(f'{self._path}/locations', data={'url': self._url})

    def _patch(self, refused: http_errors.HTTPError) -> None:
        """Change the record, or say why neither way is open."""
        value = {'url': self._url, 'metadata': {}}
        change = [{'op': 'add', 'path': '/locations/-', 'value': value}]
        try:
            self._http.patch(
                self._path,
                headers={'Content-Type': _PATCH},
                data=json.dumps(change),
            )
        except http_errors.HTTPError as error:
            if refused.status == 403 and error.status == 403:
                self._raise(refused)
            self._raise(error)

    def _raise(self, error: http_errors.HTTPError) -> None:
        if error.status not in _REFUSED:
            raise error
        raise _unavailable(error.reason or f'HTTP {error.status}') from error


def wait_until_active(
    client: Any, image_id: str, get: Callable[[], api.Image]
) -> None:
    """Wait until Glance has added a location.

    :param get: returns the record.
    :raises MethodUnavailable: its task has failed, and the record is as
        before.
    :raises SnapshotFailed: the task has not ended in time.
    """
    for _poll in waiting.polls(TIMEOUT, interval=_INTERVAL):
        # The failure first: a task that fails later has not failed before.
        reason = _failure(client, image_id)
        if get().status == api.ImageStatus.ACTIVE:
            return
        if reason is not None:
            raise _unavailable(reason)
    raise exception.SnapshotFailed(
        f'Glance has not made image {image_id} active within {TIMEOUT} s of '
        'being told its location; see the log of Glance.'
    )


def _failure(client: Any, image_id: str) -> str | None:
    """Return why Glance's task has failed, or None if it has not."""
    try:
        _response, body = client.http_client.get(
            f'/v2/images/{image_id}/tasks'
        )
    except http_errors.HTTPError as error:
        if error.status in _NO_CALL:
            return None  # before API 2.12, or not for this user
        raise
    for task in body.get('tasks', ()):
        if task.get('type') == 'location_import' and (
            task.get('status') == 'failure'
        ):
            return str(task.get('message') or 'its task has failed.')
    return None


def _unavailable(reason: str) -> exception.MethodUnavailable:
    return exception.MethodUnavailable(
        method='a location in Glance', reason=reason
    )
