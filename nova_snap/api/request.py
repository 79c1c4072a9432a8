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

"""The request that each handler gets.

Open this file for what handlers find on a request besides what WebOb has.
"""

import json
from typing import Any
from typing import Final

import microversion_parse
import webob

from nova_snap.api import context as context_lib
from nova_snap.api import errors
from nova_snap.api import services as services_lib

CONTEXT: Final = 'nova_snap.context'
MICROVERSION: Final = 'nova_snap.microversion'
SERVICES: Final = 'nova_snap.services'


#: Bytes, as in Nova.
MAX_BODY: Final = 114_688


class Request(webob.Request):
    """A request with what the service has found out about it.

    These values are in the WSGI environment, as with other services, so that
    a middleware can set them.
    """

    @property
    def context(self) -> context_lib.Context:
        """The identity behind the request."""
        found: context_lib.Context = self.environ[CONTEXT]
        return found

    @property
    def microversion(self) -> microversion_parse.Version:
        """The version of the API in which the request is answered."""
        found: microversion_parse.Version = self.environ[MICROVERSION]
        return found

    @property
    def services(self) -> services_lib.Services:
        """The objects that do the work."""
        found: services_lib.Services = self.environ[SERVICES]
        return found

    def supports(self, minor: int) -> bool:
        """Return True if the request asks for version 2.``minor`` or later."""
        return self.microversion >= (2, minor)

    def allows(self, rule: str, project_id: str | None = None) -> bool:
        """Return True if the user may do something to what a project has.

        :param rule: the name of a policy.
        :param project_id: None stands for the user's own project.
        """
        return self.services.policy.allows(
            self.context, rule, project_id or self.context.project_id
        )

    def require(self, rule: str, project_id: str | None = None) -> None:
        """Raise Forbidden unless the user may do something.

        The parameters are those of :meth:`allows`.
        """
        if not self.allows(rule, project_id):
            raise errors.Forbidden(
                f"Policy doesn't allow {rule} to be performed."
            )

    def link(self, *parts: str) -> str:
        """Return a URL below the one by which the service was reached.

        An example: ``link('v2.1', 'servers', uuid)``.
        """
        return '/'.join((self.application_url.rstrip('/'), *parts))

    def document(self) -> dict[str, Any]:
        """Return the JSON object in the body.

        It has to be called JSON: without the service's consent, a web page can
        have a browser send bodies of a few other types only.

        :raises UnsupportedMediaType: it is called something else.
        :raises BadRequest: there is none.
        :raises TooLarge: the body is longer than any request needs.
        """
        if self.content_type.lower() != 'application/json':
            raise errors.UnsupportedMediaType('Unsupported Content-Type')
        body = self.body_file.read(MAX_BODY + 1)
        if len(body) > MAX_BODY:
            raise errors.TooLarge('Request is too large.')
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            raise errors.BadRequest('Malformed request body') from None
        if not isinstance(found, dict):
            raise errors.BadRequest('Malformed request body')
        return found
