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
"""Regular expressions of clients, which may not keep the service busy.

A pattern such as ``(a+)+$`` takes Python's ``re`` longer than the universe
lasts.  RE2 needs a time that is proportional to the text, and its memory has
a limit; it has no back references and no lookaround.
"""

from collections.abc import Callable

import re2

from nova_snap.api import errors

#: Bytes that a compiled pattern may take, with what it needs to match.
MAX_MEMORY = 1 << 20


def matcher(parameter: str, pattern: str) -> Callable[[str], bool]:
    """Return a function that looks for a pattern in a text.

    The case does not matter, as in Nova with MariaDB, its usual database.

    :param parameter: the parameter of the query, for the message.
    :raises BadRequest: the pattern is none.
    """
    options = re2.Options()
    options.max_mem = MAX_MEMORY
    options.log_errors = False
    options.case_sensitive = False
    try:
        compiled = re2.compile(pattern, options)
    except re2.error:
        raise errors.BadRequest(
            f'Invalid input for query parameters {parameter}. '
            f"Value: {pattern}. {pattern!r} is not a 'regex'"
        ) from None
    return lambda text: compiled.search(text) is not None
