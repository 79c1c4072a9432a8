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


"""What Glance says when it refuses a request, and what that means here.

Open this file when an answer of Glance leads to the wrong error or to an
unreadable one.  Pure functions; the requests are made in ``glance.py``.
"""

import html
import json
import re
from typing import Any

from nova_snap import exception

#: Answers that may be another one in a moment.
PASSING = frozenset((429, 500, 502, 503, 504))

#: Characters of a body that is quoted in a message.
_MAX_SENTENCE = 500

_BREAK = re.compile(r'<br\s*/?>|</(?:h1|p|title)>', re.IGNORECASE)
_TAG = re.compile(r'<[^>]*>')
_HEADING = re.compile(r'\d{3} [A-Z][\w ]*$')
#: WebOb puts this before whatever Glance says with a 415, as when the content
#: of an image is not what its disk_format says.
_NOISE = re.compile(
    r'The request media type \S+ is not supported by this server\.\s*'
)


class Refused(Exception):
    """An answer of 300 and more; redirections that may be, are followed.

    :ivar status: of HTTP.
    :ivar reason: Glance's own sentence, or nothing.
    """

    def __init__(self, status: int, body: str = '') -> None:
        self.status = status
        self.reason = sentence(body)
        super().__init__(f'HTTP {status}: {self.reason}')


def sentence(body: str) -> str:
    """What a person wants to read of a body in HTML, JSON or plain text.

    WebOb writes a page with the status as title and heading before the
    sentence; as JSON it is the field "message", with the same tags in it.
    """
    text = _BREAK.sub('\n', _message(body))
    lines = (
        html.unescape(line).strip() for line in _TAG.sub('', text).splitlines()
    )
    kept = [line for line in lines if line and not _HEADING.match(line)]
    text = ' '.join(' '.join(kept).split())
    return (_NOISE.sub('', text) or text)[:_MAX_SENTENCE]


def _message(body: str) -> str:
    try:
        found = _find_message(json.loads(body))
    except ValueError:
        return body
    return body if found is None else found


def _find_message(value: Any) -> str | None:
    """The first "message" in nested objects; keystone nests it in "error"."""
    if not isinstance(value, dict):
        return None
    if isinstance(value.get('message'), str):
        return str(value['message'])
    found = map(_find_message, value.values())
    return next((text for text in found if text is not None), None)


def translate(
    refused: Refused, image_id: str | None, endpoint: str
) -> exception.NovaSnapError:
    """The error of this project that an answer of Glance stands for.

    :param image_id: the image of the request; None where the request was
        about none, so that a 404 means a wrong address.
    """
    reason = refused.reason or f'HTTP {refused.status}'
    match refused.status:
        case 401:
            return exception.ImageNotPermitted(
                reason=f'the login is not accepted (401: {reason}); check '
                f'the credentials in [glance].'
            )
        case 403:
            return exception.ImageNotPermitted(
                reason=f'{reason}; ask for the role that this needs, or '
                f'log in as another user in [glance].'
            )
        case 404 if image_id is not None:
            return exception.ImageNotFound(image_id=image_id)
        case 409 | 410:
            return exception.ImageConflict(image_id=image_id, reason=reason)
        case 413:
            return exception.ImageTooLarge(
                image_id=image_id,
                reason=f'{reason}; delete images, or have the limit raised',
            )
        case status if status == 404 or status < 400:
            return _unavailable(
                endpoint,
                f'there is no image API v2 there (HTTP {refused.status}); '
                f'check the endpoint in [glance] or in the catalog.',
            )
        case status if status < 500 and status not in PASSING:
            return exception.ImageRejected(image_id=image_id, reason=reason)
        case status:
            return _unavailable(
                endpoint,
                f'it fails with HTTP {status} ({reason}); see the log of '
                f'Glance, and try again when it is well.',
            )


def _unavailable(
    endpoint: str, reason: str
) -> exception.ImageServiceUnavailable:
    return exception.ImageServiceUnavailable(endpoint=endpoint, reason=reason)
