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

"""Sessions with OpenStack's services: login, answers, broken connections.

Open this file for a login or a token that does not work whatever the service;
where a service is and what its answers mean is said in the module of each
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

_BROKEN = (
    ks_exc.ConnectTimeout,
    ks_exc.ConnectFailure,
    ks_exc.UnknownConnectionError,
)


class Unreachable(Exception):
    """There was no connection to a service, or it broke, or nothing came."""

    def __init__(self, error: BaseException) -> None:
        # What was wrong is said by the innermost of five; those around it
        # repeat it and the URL.
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

        Those of a client come through an adapter and have an endpoint
        filter; those of a login have none and stay as they are.

        :raises Refused: the answer is 400 or more.  glanceclient has no
            class for 410, 415 or 504, and would lose the status.
        :raises Unreachable: there is no answer.
        """
        if 'endpoint_filter' not in kwargs:
            return super().request(url, method, **kwargs)
        if isinstance(kwargs.get('data'), types.GeneratorType):
            # A body that can be read once: what keystoneauth sends again
            # after a 401 or a redirect would be empty, and Glance would
            # make an image of it.
            kwargs |= {'allow_reauth': False, 'redirect': False}
        # No answer is large, and one that is cut is an error like others.
        kwargs['stream'] = False
        try:
            response = super().request(url, method, **kwargs)
        except _BROKEN as error:
            raise Unreachable(error) from error
        if response.status_code >= 300:
            raise http_errors.HTTPError(response.status_code, response.text)
        return response


class _SessionLoader(ks_loading.Session):
    @property
    def plugin_class(self) -> type[ks_session.Session]:
        return Session


def load_auth(conf: cfg.ConfigOpts, group: str) -> ks_plugin.BaseAuthPlugin:
    """The login that the options of a group describe.

    :raises InvalidConfiguration: there is none.
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
    return auth


def is_retriable(error: BaseException) -> bool:
    """Whether the same request may succeed in a moment."""
    if isinstance(error, http_errors.HTTPError):
        return error.status in http_errors.RETRIABLE
    if isinstance(error, ks_exc.HttpError):
        return error.http_status in http_errors.RETRIABLE
    return is_broken(error) and not isinstance(error, ks_exc.SSLError)


def is_broken(error: BaseException) -> bool:
    """Whether there was no connection, or no answer on it."""
    return isinstance(error, _CONNECTION_ERRORS)


def load_session(
    conf: cfg.ConfigOpts, group: str, auth: ks_plugin.BaseAuthPlugin
) -> ks_session.Session:
    """A session as the options of a group say."""
    return _SessionLoader().load_from_conf_options(conf, group, auth=auth)


def endpoint(adapter: Mapping[str, Any]) -> str:
    """Where a service is, for messages, by the options of its adapter."""
    override: str | None = adapter['endpoint_override']
    region = adapter['region_name']
    return override or (
        f'the catalog entry {adapter["service_type"]!r}'
        + (f' of region {region}' if region else '')
    )


@contextlib.contextmanager
def configured(group: str) -> Iterator[None]:
    """Blame the configuration for what goes wrong while it is read."""
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
