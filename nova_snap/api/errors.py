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

"""Errors as Nova's API reports them.

A handler raises one of these classes, or lets an exception of the core pass;
:func:`response` makes the answer.  The name of each body, such as
``itemNotFound``, is the one that Nova uses for the status.
"""

from collections.abc import Mapping
import json

from oslo_log import log as logging
import webob

from nova_snap import exception

LOG = logging.getLogger(__name__)

#: Nova's name of an error body, by status.  Clients show any name; some,
#: such as tempest, ask for it.
NAMES = {
    400: 'badRequest',
    401: 'unauthorized',
    403: 'forbidden',
    404: 'itemNotFound',
    405: 'badMethod',
    409: 'conflictingRequest',
    413: 'overLimit',
    415: 'badMediaType',
    429: 'overLimit',
    501: 'notImplemented',
    503: 'serviceUnavailable',
}

#: The name where Nova has none.
FAULT = 'computeFault'

#: Seconds after which a client may try again.
RETRY_AFTER = 5

#: The status of each category of errors of the core; others are a fault.
STATUS: dict[type[exception.NovaSnapError], int] = {
    exception.NotFound: 404,
    exception.Conflict: 409,
    exception.NotPermitted: 403,
    exception.Invalid: 400,
    exception.ImageRejected: 400,
    exception.Unavailable: 503,
}

#: Errors whose message is for every user.  That of others may have paths of
#: the host, so only an administrator gets it.
FOR_USERS = (
    exception.ImageNotFound,
    exception.ImageNotPermitted,
    exception.ImageConflict,
    exception.ImageRejected,
    exception.ImageTooLarge,
    exception.InvalidMetadata,
    exception.InvalidName,
    exception.InvalidState,
    exception.UnknownState,
)

HIDDEN = 'An administrator finds the reason in the log of the service.'

UNEXPECTED = (
    'Unexpected API Error. The log of nova-snap-api says more about it.'
)


class ApiError(Exception):
    """Base class of errors with a status of HTTP.

    :param headers: additional headers of the answer.
    """

    status = 500

    def __init__(
        self, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.headers = dict(headers or {})


class BadRequest(ApiError):
    """The request is not one of the API."""

    status = 400


class Unauthorized(ApiError):
    """The request has no identity."""

    status = 401


class Forbidden(ApiError):
    """The identity behind the request may not do this."""

    status = 403


class NotFound(ApiError):
    """There is no such thing, or the user may not know of it."""

    status = 404


class MethodNotAllowed(ApiError):
    """The thing exists, and has no such method."""

    status = 405


class NotAcceptable(ApiError):
    """The version that is asked for is not offered."""

    status = 406


class Conflict(ApiError):
    """The thing is in a state in which this is not possible."""

    status = 409


class OverLimit(ApiError):
    """A limit of the user is reached."""

    status = 403


class TooLarge(ApiError):
    """The body of the request is too long."""

    status = 413


class UnsupportedMediaType(ApiError):
    """The body of the request is said to be no JSON."""

    status = 415


class Unavailable(ApiError):
    """The service can't do this now, and a client may try again."""

    status = 503


def response(error: Exception, shows_details: bool = True) -> webob.Response:
    """Return the answer to a request that ended with an exception.

    What is no error of a known kind is logged, and the client learns nothing
    about it.

    :param shows_details: the client may know of paths of the host.
    """
    if isinstance(error, ApiError):
        return body(error.status, str(error), error.headers)
    for category, status in STATUS.items():
        if isinstance(error, category):
            return body(status, message(error, category, shows_details))
    if isinstance(error, exception.NovaSnapError):
        category = exception.SnapshotFailed
        return body(500, message(error, category, shows_details))
    LOG.error('A request failed.', exc_info=error)
    return body(500, UNEXPECTED)


def message(
    error: exception.NovaSnapError,
    category: type[exception.NovaSnapError],
    shows_details: bool,
) -> str:
    """Return the message of an error of the core, as a user may see it."""
    if shows_details or isinstance(error, FOR_USERS):
        return str(error)
    LOG.warning('A request failed: %s', error)
    return f'{category.message} {HIDDEN}'


def body(
    status: int, message: str, headers: Mapping[str, str] | None = None
) -> webob.Response:
    """Return an answer in the form of Nova's errors."""
    found = webob.Response(
        status=status,
        content_type='application/json',
        charset='UTF-8',
        text=json.dumps(
            {NAMES.get(status, FAULT): {'code': status, 'message': message}}
        ),
    )
    if status == 503:
        found.headers['Retry-After'] = str(RETRY_AFTER)
    found.headers.update((headers or {}).items())
    return found
