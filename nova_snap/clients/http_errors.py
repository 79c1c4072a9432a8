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

"""What a service of OpenStack says when it refuses a request.

Open this file when an answer leads to an unreadable message; what an answer
means is in ``glance_errors.py`` and ``cinder_errors.py``.  Pure functions.
"""

import html
import json
import re
from typing import Any

#: Answers that may be another one in a moment.
RETRIABLE = frozenset((429, 500, 502, 503, 504))

#: Characters of a body that are looked at.  Whoever answers may be no service
#: of OpenStack, and some patterns below take quadratic time: 8 s for 40,000
#: characters of "<", and less than 0.1 s for these.
_MAX_BODY = 4096

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


class HTTPError(Exception):
    """An answer of 300 and more; redirections that may be, are followed.

    :ivar status: of HTTP.
    :ivar reason: the service's own sentence, or nothing.
    """

    def __init__(self, status: int, body: str = '') -> None:
        self.status = status
        self.reason = sentence(body)
        super().__init__(f'HTTP {status}: {self.reason}')


def sentence(body: str) -> str:
    """What a person wants to read of a body in HTML, JSON or plain text.

    WebOb writes a page with the status as title and heading before the
    sentence; as JSON it is the field "message", with the same tags in it.
    Only the beginning of a long text counts.
    """
    text = _BREAK.sub('\n', _message(body)[:_MAX_BODY])
    lines = (
        html.unescape(line).strip() for line in _TAG.sub('', text).splitlines()
    )
    kept = [line for line in lines if line and not _HEADING.match(line)]
    text = ' '.join(' '.join(kept).split())
    return (_NOISE.sub('', text) or text)[:_MAX_SENTENCE]


def _message(body: str) -> str:
    try:
        found = _find_message(json.loads(body))
    except (ValueError, RecursionError):  # no JSON, or one nested too deep
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
