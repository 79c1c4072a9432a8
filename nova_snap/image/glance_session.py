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


"""How Glance is reached: session, login, address, and errors on the way.

Open this file for a login, a token, TLS or an endpoint.  With ``glance.py``
it is the one place that knows keystoneauth and glanceclient; errors of theirs
do not leave it.  No token and no password is logged: keystoneauth replaces
the headers by their hashes and does not log requests for a token.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import types
from typing import Any
from typing import Self

from glanceclient import exc as glance_exc
from keystoneauth1 import exceptions as ks_exc
from keystoneauth1 import loading
from keystoneauth1 import plugin as ks_plugin
from keystoneauth1 import service_token
from keystoneauth1 import session as ks_session
from keystoneauth1.identity import base as ks_identity
from keystoneauth1.loading import session as ks_loading
from oslo_config import cfg

from nova_snap import exception
from nova_snap.conf import glance as glance_conf
from nova_snap.image import refusal

#: Seconds that a token has to be valid when an upload begins.
MIN_TOKEN_LIFE = 1800

_BROKEN = (
    ks_exc.ConnectTimeout,
    ks_exc.ConnectFailure,
    ks_exc.UnknownConnectionError,
)


class Unreachable(Exception):
    """There was no connection to Glance, or it broke, or nothing came."""

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

        Glanceclient's come through an adapter and have an endpoint filter;
        those of a login have none and stay as they are.

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
            answer = super().request(url, method, **kwargs)
        except _BROKEN as error:
            raise Unreachable(error) from error
        if answer.status_code >= 300:
            raise refusal.Refused(answer.status_code, answer.text)
        return answer


class _SessionLoader(ks_loading.Session):
    @property
    def plugin_class(self) -> type[ks_session.Session]:
        return Session


@dataclasses.dataclass(frozen=True)
class Connection:
    """How Glance is reached.

    :ivar adapter: region, interfaces and the like, for glanceclient.
    """

    session: ks_session.Session
    adapter: dict[str, Any]

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> Self:
        """As [glance] and [service_user] say.

        :raises InvalidConfiguration: they are not complete.
        """
        with _configured(glance_conf.GROUP):
            session = _SessionLoader().load_from_conf_options(
                conf, glance_conf.GROUP, auth=_auth(conf)
            )
            return cls(session, _adapter(conf))

    @property
    def endpoint(self) -> str:
        """Where Glance is, for messages."""
        override: str | None = self.adapter['endpoint_override']
        region = self.adapter['region_name']
        return override or (
            f'the catalog entry {self.adapter["service_type"]!r}'
            + (f' of region {region}' if region else '')
        )

    def renew_login(self) -> None:
        """Get a new token unless the one in use is valid for long enough."""
        auth = self.session.auth
        logins = (
            [auth.user_auth, auth.service_auth]
            if isinstance(auth, service_token.ServiceTokenAuthWrapper)
            else [auth]
        )
        for login in logins:
            if not isinstance(login, ks_identity.BaseIdentityPlugin):
                continue
            token = login.get_access(self.session)
            if token.will_expire_soon(MIN_TOKEN_LIFE):
                login.invalidate()

    def invalidate(self) -> bool:
        """Forget the token; whether another can be had."""
        return self.session.invalidate()

    @staticmethod
    def is_passing(error: BaseException) -> bool:
        """Whether the same request may succeed in a moment."""
        if isinstance(error, refusal.Refused):
            return error.status in refusal.PASSING
        if isinstance(error, ks_exc.HttpError):
            return error.http_status in refusal.PASSING
        return isinstance(error, _CONNECTION_ERRORS) and not isinstance(
            error, ks_exc.SSLError
        )

    @contextlib.contextmanager
    def translated(self, image_id: str | None) -> Iterator[None]:
        """Turn the errors of a request into this project's.

        :param image_id: of the image that the request is about, if any.
        """
        try:
            yield
        except refusal.Refused as error:
            raise refusal.translate(error, image_id, self.endpoint) from error
        except (ks_exc.Unauthorized, ks_exc.Forbidden) as error:
            raise exception.ImageNotPermitted(
                reason=f'Keystone does not accept the login ({error}); '
                f'check the credentials in [glance].'
            ) from error
        except ks_exc.MissingAuthPlugin as error:
            raise exception.InvalidConfiguration(
                option='[glance] auth_type', reason=str(error)
            ) from error
        except (
            Unreachable,
            ks_exc.ClientException,
            glance_exc.BaseException,
            glance_exc.ClientException,
        ) as error:
            raise exception.ImageServiceUnavailable(
                endpoint=self.endpoint,
                reason=f'{error}; {_advice(error)}',
            ) from error


def _advice(error: Exception) -> str:
    if isinstance(error, ks_exc.SSLError):
        return 'check its certificate and [glance] cafile.'
    if isinstance(error, ks_exc.CatalogException):
        return (
            'check [glance] region_name, valid_interfaces and '
            'service_type, or set endpoint_override.'
        )
    if isinstance(error, _CONNECTION_ERRORS):
        return 'check that it runs and can be reached from this host.'
    return 'check [glance] and the log of Glance.'


def _auth(conf: cfg.ConfigOpts) -> ks_plugin.BaseAuthPlugin:
    auth = _load_auth(conf, glance_conf.GROUP)
    if not conf.service_user.send_service_user_token:
        return auth
    with _configured(glance_conf.SERVICE_USER_GROUP):
        return service_token.ServiceTokenAuthWrapper(
            user_auth=auth,
            service_auth=_load_auth(conf, glance_conf.SERVICE_USER_GROUP),
        )


def _load_auth(conf: cfg.ConfigOpts, group: str) -> ks_plugin.BaseAuthPlugin:
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


def _adapter(conf: cfg.ConfigOpts) -> dict[str, Any]:
    group = conf.glance
    if group.auth_type == 'none' and not group.endpoint_override:
        raise exception.InvalidConfiguration(
            option='[glance] endpoint_override',
            reason='is needed where auth_type is "none".',
        )
    return {
        'service_type': group.service_type,
        'service_name': group.service_name,
        'interface': group.valid_interfaces,
        'region_name': group.region_name,
        'endpoint_override': group.endpoint_override,
    }


@contextlib.contextmanager
def _configured(group: str) -> Iterator[None]:
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
