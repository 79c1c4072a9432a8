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

"""The WSGI application: from a request to a handler, and to an answer.

Open this file for what happens to every request.  ``deploy.py`` puts the
application together with the middleware around it.
"""

from collections.abc import Callable
from collections.abc import Iterable
import dataclasses
from typing import Any

import microversion_parse
from oslo_middleware import request_id
import webob

from nova_snap.api import context as context_lib
from nova_snap.api import errors
from nova_snap.api import microversion
from nova_snap.api import request as request_lib
from nova_snap.api import routes
from nova_snap.api import services as services_lib

#: Finds out who sends a request.
Authenticate = Callable[[request_lib.Request], context_lib.Context]


@dataclasses.dataclass(frozen=True)
class Application:
    """Answers requests with the handlers of the table of routes.

    :ivar authenticate: raises Unauthorized if nobody known sends a request.
    """

    services: services_lib.Services
    authenticate: Authenticate

    def __call__(
        self, environ: dict[str, Any], start_response: Any
    ) -> Iterable[bytes]:
        """Answer a request, as WSGI has it."""
        request = request_lib.Request(environ)
        request.environ[request_lib.SERVICES] = self.services
        version = microversion.MIN
        context_lib.Context.anonymous(
            environ.get(request_id.ENV_REQUEST_ID, '')
        ).note()
        try:
            version = microversion.negotiated(request)
            _require_text(request)
            response = self._answer(request, version)
        except Exception as error:
            response = errors.response(error, _shows_details(request))
        microversion.announce(response, version)
        return response(environ, start_response)

    def _answer(
        self,
        request: request_lib.Request,
        version: microversion_parse.Version,
    ) -> webob.Response:
        request.environ[request_lib.MICROVERSION] = version
        method, path = request.method, request.path_info
        public = routes.match(routes.PUBLIC, method, path)
        if public is not None:
            return public(request)
        request.environ[request_lib.CONTEXT] = self.authenticate(request)
        request.context.note()
        found = routes.protected(method, path)
        if found is None:
            raise errors.NotFound('The resource could not be found.')
        return found(request)


def _shows_details(request: request_lib.Request) -> bool:
    """Return True if the client may know what an error says of the host."""
    return (
        request_lib.CONTEXT not in request.environ or request.context.is_admin
    )


def _require_text(request: request_lib.Request) -> None:
    """Raise BadRequest if path and query are not UTF-8.

    WebOb decodes them where a handler reads them, and would raise its error
    there.
    """
    try:
        _path, _query = request.path_info, request.GET
    except UnicodeDecodeError:
        raise errors.BadRequest(
            'Path or query string is not UTF-8 encoded'
        ) from None
