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

from collections.abc import Mapping
from typing import Any

import jsonschema

from nova_snap.api import errors


def _is_name(value: object) -> bool:
    """Return True for a name as Nova wants it: printable, and trimmed."""
    return not isinstance(value, str) or (
        value.isprintable() and value == value.strip()
    )


_FORMATS = jsonschema.FormatChecker(())
_FORMATS.checks('name')(_is_name)


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
