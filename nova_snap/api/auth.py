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

Each value of ``[api] auth_strategy`` is a class; called with a request it
returns the context, or raises Unauthorized.  Open this file for who may reach
the service at all; ``instances.py`` says which servers a project has.
"""

import ipaddress

from oslo_middleware import basic_auth
from oslo_middleware import request_id
import webob.exc

from nova_snap import concurrency
from nova_snap import exception
from nova_snap.api import context as context_lib
from nova_snap.api import errors
from nova_snap.api import peer as peer_lib
from nova_snap.api import request as request_lib

#: The user of requests that are not authenticated, as in Nova's noauth2.
NOAUTH_USER = 'admin'

#: What WSGI servers say of the peer of a unix socket.
LOCAL_PEERS = (None, '', 'unix', 'unix:')

#: What whoever may reach the service is allowed to do without Keystone.
ALL_ROLES = ('admin', 'member', 'reader')

CHALLENGE = {'WWW-Authenticate': 'Basic realm="nova-snap"'}


#: Headers of a proxy, which has let the request in, whoever has sent it.
PROXY_HEADERS = (
    'HTTP_FORWARDED',
    'HTTP_X_FORWARDED_FOR',
    'HTTP_X_FORWARDED_HOST',
)


class NoAuth:
    """Takes requests of this host for requests of the administrator.

    On a loopback address, of programs of root and of this user only; on a unix
    socket, of everybody who may open it.
    """

    def __init__(self, project_id: str) -> None:
        self._project_id = project_id

    def __call__(self, request: request_lib.Request) -> context_lib.Context:
        """Return the context of a request.

        :raises Forbidden: it comes from somebody else, or through a proxy, or
            was sent to a name that anybody could have given to this host.
        """
        require_this_host(request, '[api] auth_strategy noauth2')
        if request.remote_addr not in LOCAL_PEERS and not peer_lib.is_trusted(
            request.environ
        ):
            raise errors.Forbidden(
                'With [api] auth_strategy noauth2, programs of root and of '
                "the service's own user only are answered on this address; "
                'use a unix socket or http_basic for others.'
            )
        return _administrator(request, NOAUTH_USER, self._project_id)


class HttpBasic:
    """Takes requests with a name and a password that a file knows.

    :param path: of the file, whose passwords have to be hashed by bcrypt, as
        ``htpasswd -B`` does.
    :raises InvalidConfiguration: the file can't be used.
    """

    def __init__(self, path: str, project_id: str) -> None:
        self._path = path
        self._project_id = project_id
        try:
            basic_auth.validate_auth_file(path)
        except (Exception, webob.exc.HTTPException) as error:
            raise exception.InvalidConfiguration(
                option='[api] http_basic_auth_user_file',
                reason=f'{path}: {error}',
            ) from error

    def __call__(self, request: request_lib.Request) -> context_lib.Context:
        """Return the context of a request.

        :raises Unauthorized: it has no name and password, or wrong ones.
        """
        try:
            header = basic_auth.parse_header(
                {'HTTP_AUTHORIZATION': request.headers['Authorization']}
            )
            name, password = basic_auth.parse_token(header)
            # It takes long, as it should, and would stop all green threads.
            concurrency.run_blocking(
                basic_auth.authenticate, self._path, name, password
            )
        # bcrypt 5 does not take more than 72 bytes.
        except (KeyError, ValueError, webob.exc.HTTPException):
            raise errors.Unauthorized(
                'The request you have made requires authentication.', CHALLENGE
            ) from None
        return _administrator(request, name, self._project_id)


def require_this_host(request: request_lib.Request, rule: str) -> None:
    """Raise Forbidden if a request may come from another host.

    Or through a proxy, or was sent to a name that anybody could have given to
    this host.

    :param rule: the option that says so, for the message.
    """
    if any(name in request.environ for name in PROXY_HEADERS):
        raise errors.Forbidden(
            f'With {rule}, no request is answered that came through a proxy.'
        )
    peer = request.remote_addr
    if peer in LOCAL_PEERS:
        return
    name = request.domain.strip('[]')
    # A web page could have a name that leads here, and a browser on this
    # host send its requests.
    is_named = name == 'localhost' or is_loopback(name)
    if not (is_loopback(peer) and is_named):
        raise errors.Forbidden(
            f'With {rule}, requests of this host only are answered, to '
            'localhost or a loopback address.'
        )


def require_safe(
    strategy: str, address: str, has_tls: bool, is_for_all: bool = False
) -> None:
    """Raise an error if it is not safe to listen on an address.

    :param address: an IP address, or the path of a unix socket.
    :param is_for_all: every user of this host may connect to the unix socket.
    :raises InvalidConfiguration: others could do, or read, what is only for
        the administrator.
    """
    if strategy == 'noauth2' and is_for_all:
        raise exception.InvalidConfiguration(
            option='SocketMode',
            reason=f'every user of this host may connect to {address}, and '
            'with auth_strategy noauth2 everybody is the administrator; set '
            '0660.',
        )
    if address.startswith('/') or is_loopback(address):
        return
    if strategy == 'noauth2':
        raise exception.InvalidConfiguration(
            option='[api] listen',
            reason=f'{address} can be reached from other hosts, and with '
            'auth_strategy noauth2 everybody is the administrator.',
        )
    if strategy == 'http_basic' and not has_tls:
        raise exception.InvalidConfiguration(
            option='[api] listen',
            reason=f'{address} can be reached from other hosts, and passwords '
            'would be sent in clear; set cert_file and key_file.',
        )


def is_loopback(address: str) -> bool:
    """Return True if an IP address can be reached from this host only."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, 'ipv4_mapped', None)
    return (mapped or found).is_loopback


def _administrator(
    request: request_lib.Request, user_id: str, project_id: str
) -> context_lib.Context:
    return context_lib.Context(
        request_id=request.environ.get(request_id.ENV_REQUEST_ID, ''),
        user_id=user_id,
        project_id=project_id,
        roles=ALL_ROLES,
        is_admin=True,
    )
