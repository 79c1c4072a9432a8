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

"""A filter for Glance's paste configuration: all requests are a service's.

Open this file when a Glance without a login refuses what it lets a service do
only, such as a location in an rbd store.
"""

from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]

#: What Keystone's middleware says of who sends a request.
HEADERS = {
    'HTTP_X_IDENTITY_STATUS': 'Confirmed',
    'HTTP_X_USER_ID': 'service',
    'HTTP_X_PROJECT_ID': 'service',
    'HTTP_X_ROLES': 'service,admin,member,reader',
}


def factory(
    _settings: dict[str, str], **_local: str
) -> Callable[[Application], Application]:
    """Return the filter, as paste.filter_factory has it."""

    def wrapped(application: Application) -> Application:
        def answer(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
            return application({**environ, **HEADERS}, start)

        return answer

    return wrapped
