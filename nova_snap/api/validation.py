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

"""Validation of request bodies against schemas (JSON Schema)."""

import base64
from collections.abc import Mapping
import functools
import ipaddress
from typing import Any

import jsonschema
from oslo_utils import uuidutils

from nova_snap.api import errors


def _is_name(value: object) -> bool:
    """Return True for a name as Nova wants it: printable, and trimmed."""
    return not isinstance(value, str) or (
        value.isprintable() and value == value.strip()
    )


def _is_uuid(value: object) -> bool:
    return not isinstance(value, str) or uuidutils.is_uuid_like(value)


def _is_base64(value: object) -> bool:
    try:
        if isinstance(value, str):
            base64.decodebytes(value.encode())
    except ValueError:
        return False
    return True


def _is_address(value: object, version: int) -> bool:
    try:
        return (
            not isinstance(value, str)
            or ipaddress.ip_address(value).version == version
        )
    except ValueError:
        return False


_FORMATS = jsonschema.FormatChecker(())
_FORMATS.checks('name')(_is_name)
_FORMATS.checks('uuid')(_is_uuid)
_FORMATS.checks('base64')(_is_base64)
_FORMATS.checks('ipv4')(functools.partial(_is_address, version=4))
_FORMATS.checks('ipv6')(functools.partial(_is_address, version=6))


def require(document: Any, schema: Mapping[str, Any]) -> None:
    """Raise BadRequest if a document does not match a schema."""
    validator = jsonschema.Draft7Validator(schema, format_checker=_FORMATS)
    error = jsonschema.exceptions.best_match(validator.iter_errors(document))
    if error is None:
        return
    message = error.message
    if error.path:
        place = '/'.join(map(str, error.path))
        message = f'Invalid input for field/attribute {place}. {message}'
    raise errors.BadRequest(message)
