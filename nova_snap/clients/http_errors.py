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

"""Messages of OpenStack's services, read from their error responses.

Open this file when a response leads to an unreadable message; the translation
of a status to an exception is in ``glance_errors.py`` and
``cinder_errors.py``.  Pure functions.
"""

import html
import json
import re
from typing import Any

#: HTTP statuses of transient errors.
RETRIABLE = frozenset((429, 500, 502, 503, 504))

#: Characters of a body that are parsed; the server may be no service of
#: OpenStack.
_MAX_BODY = 4096

#: Characters of a body that is quoted in a message.
_MAX_SENTENCE = 500

_BREAK = re.compile(r'<br\s*/?>|</(?:h1|p|title)>', re.IGNORECASE)
#: A "<" ends an attempt, so a text of many takes linear time.
_TAG = re.compile(r'<[^<>]*>')
_HEADING = re.compile(r'\d{3} [A-Z][\w ]*$')
#: WebOb puts this before Glance's sentence in a 415, for example when the
#: content of an image does not match its disk_format.
_NOISE = re.compile(
    r'The request media type \S+ is not supported by this server\.\s*'
)


class HTTPError(Exception):
    """A response with a status of 300 or more, allowed redirections aside.

    :ivar status: the HTTP status.
    :ivar reason: the service's own sentence; empty if it has none.
    """

    def __init__(self, status: int, body: str = '') -> None:
        self.status = status
        self.reason = sentence(body)
        super().__init__(f'HTTP {status}: {self.reason}')


def sentence(body: str) -> str:
    """Return the readable sentence of a body in HTML, JSON or plain text.

    WebOb writes a page with the status as title and heading before the
    sentence; in JSON the sentence is the field "message", with the same tags
    in it.  Only the beginning of a long text is used.
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
    """Return the first "message" in nested objects, or None.

    Keystone nests it in "error".
    """
    if not isinstance(value, dict):
        return None
    if isinstance(value.get('message'), str):
        return str(value['message'])
    found = map(_find_message, value.values())
    return next((text for text in found if text is not None), None)
