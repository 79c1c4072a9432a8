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
"""Pages of lists: ``limit``, ``marker``, and the link to the next page."""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
from typing import Any
from typing import TypeVar
from urllib import parse

from nova_snap.api import errors
from nova_snap.api import request as request_lib

T = TypeVar('T')

#: Items of a page at most, as in Nova and Glance.
MAX_LIMIT = 1000


@dataclasses.dataclass(frozen=True)
class Page:
    """The part of a list that a request is about."""

    limit: int
    marker: str | None

    def cut(
        self,
        items: Sequence[T],
        identity: Callable[[T], str],
        is_wanted: Callable[[T], bool] = lambda _item: True,
    ) -> list[T]:
        """Return the items of the page.

        The marker is looked for among all items: what it stands for may not
        be wanted any more.

        :raises BadRequest: the marker is none of the items.
        """
        after = 0
        if self.marker is not None:
            ids = [identity(item) for item in items]
            if self.marker not in ids:
                raise errors.BadRequest(f'marker [{self.marker}] not found')
            after = ids.index(self.marker) + 1
        return list(filter(is_wanted, items[after:]))[: self.limit]


#: All that one answer can have.
WHOLE = Page(MAX_LIMIT, None)


def of_request(
    request: request_lib.Request, default_limit: int = MAX_LIMIT
) -> Page:
    """Return the page that a request asks for.

    :raises BadRequest: the limit is no number.
    """
    text = request.GET.get('limit', str(default_limit))
    if not (text.isascii() and text.isdecimal()):
        raise errors.BadRequest(
            f'Invalid input for query parameters limit. Value: {text}. '
            f"{text!r} does not match '^[0-9]*$'"
        )
    # Longer numbers are not worth converting.
    limit = int(text) if len(text) < 10 else MAX_LIMIT
    return Page(min(limit, MAX_LIMIT), request.GET.get('marker'))


def next_query(request: request_lib.Request, marker: str) -> str:
    """Return the query of the next page."""
    parameters = [
        item for item in sorted(request.GET.items()) if item[0] != 'marker'
    ]
    return parse.urlencode([*parameters, ('marker', marker)])


def next_links(
    request: request_lib.Request, page: Page, ids: Sequence[str], *path: str
) -> list[dict[str, Any]]:
    """Return the link to the next page, if there may be one.

    :param ids: of the items of this page.
    :param path: of the list, below the version.
    """
    if not ids or len(ids) < page.limit:
        return []
    url = request.link('v2.1', *path)
    return [{'rel': 'next', 'href': f'{url}?{next_query(request, ids[-1])}'}]
