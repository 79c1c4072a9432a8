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

"""Keystone sessions: login, error responses, broken connections.

Open this file for a login or a token that works for no service.  The endpoint
of a service and the meaning of its responses are in the module of the service
(``image/glance_session.py``, ``volume/cinder_session.py``).  No token and no
password is logged: keystoneauth replaces the headers by their hashes and does
not log requests for a token.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import types
from typing import Any

from keystoneauth1 import exceptions as ks_exc
from keystoneauth1 import loading
from keystoneauth1 import plugin as ks_plugin
from keystoneauth1 import session as ks_session
from keystoneauth1.loading import session as ks_loading
from oslo_config import cfg

from nova_snap import exception
from nova_snap.clients import http_errors
from nova_snap.clients import shared_login

_BROKEN = (
    ks_exc.ConnectTimeout,
    ks_exc.ConnectFailure,
    ks_exc.UnknownConnectionError,
)


class Unreachable(Exception):
    """No connection to a service, or no response on the connection."""

    def __init__(self, error: BaseException) -> None:
        # The innermost of five nested exceptions has the cause; the others
        # repeat it with the URL.
        while error.__context__ is not None:
            error = error.__context__
        super().__init__(str(error))


_CONNECTION_ERRORS = (
    Unreachable,
    ks_exc.ConnectionError,
    ks_exc.DiscoveryFailure,
)


class Session(ks_session.Session):
    """keystoneauth's session, with errors and uploads as we need them."""

    def request(self, url: str, method: str, **kwargs: Any) -> Any:  # type: ignore[override]
        """Make a request.

        Requests of a client come through an adapter and have an endpoint
        filter; requests of a login have none and are passed on unchanged.

        :raises HTTPError: the status is 300 or more.  glanceclient has no
            class for 410, 415 or 504, and would lose the status.
        :raises Unreachable: there is no response.
        """
        if 'endpoint_filter' not in kwargs:
            return super().request(url, method, **kwargs)
        if isinstance(kwargs.get('data'), types.GeneratorType):
            # A generator can be read once: keystoneauth would send an empty
            # body after a 401 or a redirect, and Glance would make an image
            # of that.
            kwargs |= {'allow_reauth': False, 'redirect': False}
        # No response is large; one that is cut off then raises here.
        kwargs['stream'] = False
        try:
            response = super().request(url, method, **kwargs)
        except _BROKEN as error:
            raise Unreachable(error) from error
        if response.status_code >= 300:
            # Without an encoding, requests would guess: 0.3 s for 60 kB.
            response.encoding = response.encoding or 'utf-8'
            raise http_errors.HTTPError(response.status_code, response.text)
        return response


class _SessionLoader(ks_loading.Session):
    @property
    def plugin_class(self) -> type[ks_session.Session]:
        return Session


def load_auth(conf: cfg.ConfigOpts, group: str) -> ks_plugin.BaseAuthPlugin:
    """Load the authentication plugin that the options of a group describe.

    Threads may share it.

    :raises InvalidConfiguration: the group names no plugin.
    """
    # Registers auth_type in the group that auth_section names, too.
    loading.register_auth_conf_options(conf, group)
    auth = loading.load_auth_from_conf_options(conf, group)
    if auth is None:
        raise exception.InvalidConfiguration(
            option=f'[{group}] auth_type',
            reason='is not set; "password" logs in to Keystone, "none" '
            'with an endpoint_override needs no login.',
        )
    return shared_login.shared(auth)


def is_retriable(error: BaseException) -> bool:
    """Return True if the error is transient and the request can be retried."""
    if isinstance(error, http_errors.HTTPError):
        return error.status in http_errors.RETRIABLE
    if isinstance(error, ks_exc.HttpError):
        return error.http_status in http_errors.RETRIABLE
    return is_broken(error) and not isinstance(error, ks_exc.SSLError)


def is_broken(error: BaseException) -> bool:
    """Return True if there was no connection, or no response on it."""
    return isinstance(error, _CONNECTION_ERRORS)


def load_session(
    conf: cfg.ConfigOpts, group: str, auth: ks_plugin.BaseAuthPlugin
) -> ks_session.Session:
    """Make a session from the options of a group."""
    return _SessionLoader().load_from_conf_options(conf, group, auth=auth)


def endpoint(adapter: Mapping[str, Any]) -> str:
    """Describe the endpoint of a service, from its adapter's options."""
    override: str | None = adapter['endpoint_override']
    region = adapter['region_name']
    return override or (
        f'the catalog entry {adapter["service_type"]!r}'
        + (f' of region {region}' if region else '')
    )


@contextlib.contextmanager
def configured(group: str) -> Iterator[None]:
    """Turn errors of reading a group of options into InvalidConfiguration."""
    try:
        yield
    except (
        ks_exc.AuthPluginException,
        cfg.Error,
        TypeError,
        ValueError,
    ) as error:
        raise exception.InvalidConfiguration(
            option=f'[{group}]', reason=str(error)
        ) from error
