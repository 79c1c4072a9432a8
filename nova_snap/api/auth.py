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

"""Identity of a request: who sends it.

Each value of ``[api] auth_strategy`` is a function that makes the context of
a request from what a middleware, or the request itself, says.
"""

from oslo_middleware import request_id

from nova_snap.api import context as context_lib
from nova_snap.api import request as request_lib

#: The user of requests that are not authenticated, as in Nova's noauth2.
NOAUTH_USER = 'admin'


class NoAuth:
    """Takes every request for one of the administrator."""

    def __init__(self, project_id: str) -> None:
        self._project_id = project_id

    def __call__(self, request: request_lib.Request) -> context_lib.Context:
        """Return the context of a request."""
        return context_lib.Context(
            request_id=request.environ.get(request_id.ENV_REQUEST_ID, ''),
            user_id=NOAUTH_USER,
            project_id=self._project_id,
            roles=('admin', 'member', 'reader'),
            is_admin=True,
        )
