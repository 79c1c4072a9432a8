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
"""Which images a query asks for, and in which order, by Glance's rules.

https://docs.openstack.org/api-ref/image/v2/#list-images
"""

from collections.abc import Callable
from collections.abc import Iterable
import csv
import datetime
import functools
import operator
from typing import Any

from oslo_utils import timeutils

from nova_snap.api import errors
from nova_snap.api import request as request_lib

#: An image as the fields of Glance's schema.
Fields = dict[str, Any]

#: Parameters that are no fields.
_OTHERS = frozenset(('limit', 'marker', 'sort', 'sort_dir', 'sort_key'))

#: Fields of which a query may name several values, after "in:".
_LISTS = frozenset(('container_format', 'disk_format', 'id', 'name', 'status'))

#: Fields that are times, and how a query may compare them.
_TIMES = frozenset(('created_at', 'updated_at'))
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    'eq': operator.eq,
    'neq': operator.ne,
    'gt': operator.gt,
    'gte': operator.ge,
    'lt': operator.lt,
    'lte': operator.le,
}

_SORT_KEYS = frozenset(
    [
        "container_format",
        "created_at",
        "disk_format",
        "id",
        "name",
        "size",
        "status",
        "updated_at",
    ]
)


def wanted(request: request_lib.Request) -> Callable[[Fields], bool]:
    """Return a function that tells whether a request asks for an image."""
    filters = [
        (name, value)
        for name, value in request.GET.items()
        if name not in _OTHERS
    ]
    return lambda image: all(
        _matches(image, name, value) for name, value in filters
    )


def ordered(
    request: request_lib.Request, images: Iterable[Fields]
) -> list[Fields]:
    """Return images in the order that a request asks for.

    :raises BadRequest: there is no such key or direction.
    """
    found = sorted(images, key=lambda image: str(image['id']), reverse=True)
    for key, direction in reversed(_sort_pairs(request)):
        if key not in _SORT_KEYS or direction not in ('asc', 'desc'):
            raise errors.BadRequest(f'Cannot sort by {key}:{direction}')
        found.sort(
            key=functools.partial(_key, key), reverse=direction != 'asc'
        )
    return found


def _sort_pairs(request: request_lib.Request) -> list[tuple[str, str]]:
    if 'sort' in request.GET:
        words = request.GET['sort'].split(',')
        parts = [word.strip().partition(':') for word in words]
        return [(key, way or 'desc') for key, _colon, way in parts]
    keys = request.GET.getall('sort_key') or ['created_at']
    ways = request.GET.getall('sort_dir') or ['desc']
    ways += ways[:1] * len(keys)
    return list(zip(keys, ways, strict=False))


def _key(key: str, image: Fields) -> tuple[bool, Any]:
    value = image[key]
    return value is not None, value


def _matches(image: Fields, name: str, value: str) -> bool:
    if name == 'visibility' and value == 'all':
        return True
    if name == 'tag':
        return value in image['tags']
    if name in ('size_min', 'size_max'):
        return _is_of_size(image['size'], name, value)
    if name in _TIMES:
        return _is_of_time(image[name], name, value)
    found = image.get(name)
    if isinstance(found, bool):
        return str(found).lower() == value.lower()
    if name in _LISTS and value.startswith('in:'):
        return found in _listed(name, value.removeprefix('in:'))
    return found is not None and str(found) == value


def _listed(name: str, text: str) -> list[str]:
    """Return the values in a list; one with a comma is in double quotes."""
    try:
        return next(csv.reader([text]), [])
    except csv.Error:
        raise errors.BadRequest(f'Invalid list of values of {name}') from None


def _is_of_size(size: int | None, name: str, value: str) -> bool:
    if not (value.isascii() and value.isdecimal() and len(value) < 20):
        raise errors.BadRequest(f'Invalid value of {name}: {value}')
    if size is None:
        return False
    return size >= int(value) if name == 'size_min' else size <= int(value)


def _is_of_time(found: str | None, name: str, value: str) -> bool:
    """Compare a time with a value such as ``gte:2026-01-31T00:00:00Z``."""
    word, colon, text = value.partition(':')
    if not colon or word not in _OPERATORS:
        word, text = 'eq', value
    wanted = _time(text)
    if wanted is None:
        raise errors.BadRequest(f'Invalid value of {name}: {value}')
    known = None if found is None else _time(found)
    return known is not None and _OPERATORS[word](known, wanted)


def _time(text: str) -> datetime.datetime | None:
    try:
        return timeutils.normalize_time(timeutils.parse_isotime(text))
    except (ValueError, OverflowError):
        return None
