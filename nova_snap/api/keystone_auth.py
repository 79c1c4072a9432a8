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

"""Identity of a request by its Keystone token.

Open this file for a token that is not accepted.  keystonemiddleware validates
it by ``[keystone_authtoken]``; ``policies.py`` says what its roles allow.
"""

from collections.abc import Iterable
import dataclasses
from typing import Any

from keystonemiddleware import auth_token
from oslo_config import cfg
from oslo_middleware import request_id
import webob

from nova_snap import exception
from nova_snap.api import context as context_lib
from nova_snap.api import errors
from nova_snap.api import policies
from nova_snap.api import request as request_lib
from nova_snap.clients import keystone

GROUP = 'keystone_authtoken'

#: Seconds that Keystone may take; keystonemiddleware would wait for ever.
TIMEOUT = 30

CHALLENGE = 'WWW-Authenticate'


class Keystone:
    """Takes requests with a valid token for those of its user and project.

    :raises InvalidConfiguration: [keystone_authtoken] is not complete.
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        register_opts(conf)
        own = conf[GROUP]
        if not (own.auth_type or own.auth_section):
            raise exception.InvalidConfiguration(
                option=f'[{GROUP}] auth_type',
                reason='is not set; with [api] auth_strategy keystone, a '
                'login is needed by which tokens are validated.',
            )
        with keystone.configured(GROUP):
            self._middleware = auth_token.AuthProtocol(
                _accepted, {'oslo_config_config': conf}
            )

    def __call__(self, request: request_lib.Request) -> context_lib.Context:
        """Return the context of a request.

        :raises Unauthorized: its token is missing or not valid, or its
            service token is not valid.
        :raises Forbidden: the token is for no project.
        :raises Unavailable: Keystone does not answer.
        """
        # The middleware replaces the headers of the identity, whatever the
        # client has sent.
        answer = request.get_response(self._middleware)
        if answer.status_int == 401:
            raise errors.Unauthorized(
                'The request you have made requires authentication.',
                {CHALLENGE: answer.headers[CHALLENGE]},
            )
        if answer.status_int != 204:
            raise errors.Unavailable(
                'Keystone can not validate the token now; try again later.'
            )
        return _context(request)


def _context(request: request_lib.Request) -> context_lib.Context:
    headers = request.headers
    if not headers.get('X-Project-Id'):
        raise errors.Forbidden('The token is for no project.')
    found = context_lib.Context(
        request_id=request.environ.get(request_id.ENV_REQUEST_ID, ''),
        user_id=headers['X-User-Id'],
        project_id=headers['X-Project-Id'],
        roles=tuple(headers.get('X-Roles', '').split(',')),
        access=request.environ['keystone.token_auth'].user,
    )
    is_admin = request.services.policy.allows(
        found, policies.IS_ADMIN, found.project_id
    )
    return dataclasses.replace(found, is_admin=is_admin)


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the options of [keystone_authtoken], with our defaults."""
    for group, options in auth_token.list_opts():
        conf.register_opts(options, group=group)
    # Otherwise any token would do as a service token, and so an expired one
    # could be used again.
    conf.set_default('service_token_roles_required', True, group=GROUP)
    conf.set_default('http_connect_timeout', TIMEOUT, group=GROUP)


def _accepted(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer what the middleware lets pass."""
    return webob.Response(status=204)(environ, start_response)
