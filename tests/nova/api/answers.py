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

"""A check of every answer of the application, by Nova's schemas.

Open this file for how the method of Nova is found that would have answered a
request.
"""

from collections.abc import Callable
from collections.abc import Iterable
import re
from typing import Any

import jsonschema
from nova import exception as nova_exception
from nova.api.openstack import wsgi as nova_wsgi
from nova.api.openstack.compute import routes
from nova.api.openstack.compute import versions
import webob

from tests.nova.api import schemas

#: Where a request names its version.
PREFIX = '/v2.1'

#: What Nova has not.
BEYOND_NOVA = re.compile('/(servers/[^/]+/snapshots|v2)(/|$)')

#: The form of an error.
FAULT = {
    'type': 'object',
    'required': ['code', 'message'],
    'properties': {
        'code': {'type': 'integer'},
        'message': {'type': 'string'},
        'retryAfter': {'type': 'string'},
    },
    'additionalProperties': False,
}


class Checked:
    """A WSGI application whose answers are compared with Nova's.

    :param application: the one that answers.
    :ivar checked: how many answers had a schema.
    :ivar failures: what was wrong with the others.
    """

    def __init__(self, application: Any) -> None:
        self._application = application
        self.checked = 0
        self.failures: list[str] = []

    def __call__(
        self, environ: dict[str, Any], start_response: Any
    ) -> Iterable[bytes]:
        """Answer a request, and note what Nova would have answered else."""
        request = webob.Request(environ)
        # Not path_info, which need not be decoded.
        path, action = environ['PATH_INFO'], _action(request)
        answer = request.get_response(self._application)
        try:
            self._check(request.method, path, action, answer)
        except (
            AssertionError,
            jsonschema.ValidationError,
            nova_exception.ValidationError,
        ) as error:
            self.failures.append(f'{request.method} {path} {action}: {error}')
        found: Iterable[bytes] = answer(environ, start_response)
        return found

    def _check(
        self, method: str, path: str, action: str | None, answer: Any
    ) -> None:
        if method == 'OPTIONS':  # is answered before the application
            return
        is_public = path in ('/', PREFIX, f'{PREFIX}/')
        below = path.removeprefix(PREFIX)
        if not is_public and (below == path or BEYOND_NOVA.match(below)):
            return
        if answer.status_int >= 400:
            if method != 'HEAD' and answer.status_int != 406:
                _check_fault(answer)
                self.checked += 1
            return
        nova_s = method_of(method, path, action)
        assert nova_s is not None, 'Nova has no such call'
        schemas.validate(
            nova_s, _minor(answer), answer.json if answer.body else None
        )
        self.checked += 1


def _action(request: webob.Request) -> str | None:
    """Return the name of the action that a request wants, if it does."""
    path = request.environ['PATH_INFO']
    if request.method != 'POST' or not path.endswith('/action'):
        return None
    try:
        (name,) = request.json_body
    except (ValueError, TypeError, RecursionError):  # what is no request
        return None
    return str(name)


def _check_fault(answer: Any) -> None:
    """Raise an error if an answer has not the form of Nova's errors."""
    status = answer.status_int
    ((name, fault),) = answer.json.items()
    assert name == nova_wsgi.Fault._fault_names.get(status, 'computeFault')
    jsonschema.validate(fault, FAULT)
    assert fault['code'] == status


def _minor(answer: Any) -> int:
    """Return the second number of the version of an answer."""
    service, version = answer.headers['OpenStack-API-Version'].split()
    assert service == 'compute'
    return int(version.removeprefix('2.'))


def method_of(
    method: str, path: str, action: str | None = None
) -> Callable[..., Any] | None:
    """Return the method of Nova's controllers that answers a request."""
    if path == '/':
        return versions.Versions.index
    if path.rstrip('/') == PREFIX:
        return versions.VersionsV2.index
    below = path.removeprefix(PREFIX).rstrip('/')
    for pattern, *methods in routes.ROUTE_LIST:
        wanted = re.sub(r'\{[^}]+\}', '[^/]+', pattern)
        if re.fullmatch(wanted, below) and isinstance(methods[0], dict):
            if method not in methods[0]:
                return None
            making, name = methods[0][method]
            return _method(making.args, name, action)
    return None


def _method(
    controllers: tuple[Any, Any], name: str, action: str | None
) -> Callable[..., Any] | None:
    """Return a method of a controller, or of one of those of its actions."""
    main, others = controllers
    if name != 'action':
        found: Callable[..., Any] | None = getattr(main, name)
        return found
    found = None
    for controller in (main, *others):
        if action in controller.wsgi_actions:
            found = getattr(controller, controller.wsgi_actions[action])
    return found
