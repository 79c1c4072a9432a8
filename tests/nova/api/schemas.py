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
"""Nova's own schemas of its answers, as the oracle of ours."""

from collections.abc import Callable
import functools
from typing import Any

from nova.api.openstack import api_version_request
from nova.api.validation import validators

#: The second numbers of all microversions that are offered: 2.1 to 2.90.
MINORS = range(1, 91)


def selected(method: Callable[..., Any], minor: int) -> dict[str, Any]:
    """Return the schema by which Nova checks what a method has answered."""
    wanted = api_version_request.APIVersionRequest(f'2.{minor}')
    schemas = method.response_body_schemas._schemas  # type: ignore[attr-defined]
    (found,) = (
        schema
        for schema, first, last in schemas
        if (first.is_null() or first <= wanted)
        and (last.is_null() or wanted <= last)
    )
    result: dict[str, Any] = found
    return result


def validate(
    method: Callable[..., Any], minor: int, document: dict[str, Any]
) -> None:
    """Raise Nova's ValidationError if Nova would not answer so."""
    _validator(method, minor).validate(document)


@functools.cache
def _validator(method: Callable[..., Any], minor: int) -> Any:
    return validators._SchemaValidator(selected(method, minor))
