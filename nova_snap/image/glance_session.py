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


"""The connection to Glance: session, login, endpoint, connection errors.

Open this file for the endpoint, or for the token of an upload.  Only this
module and ``glance.py`` know glanceclient; errors of glanceclient and of
keystoneauth are translated here.  The code for all services is in
``nova_snap/clients/keystone.py``.
"""

from collections.abc import Iterator
import contextlib
import copy
import dataclasses
from typing import Any
from typing import Self

from glanceclient import exc as glance_exc
from keystoneauth1 import exceptions as ks_exc
from keystoneauth1 import plugin as ks_plugin
from keystoneauth1 import service_token
from keystoneauth1 import session as ks_session
from keystoneauth1.identity import access as ks_access
from keystoneauth1.identity import base as ks_identity
from oslo_config import cfg

from nova_snap import exception
from nova_snap.clients import http_errors
from nova_snap.clients import keystone
from nova_snap.conf import glance as glance_conf
from nova_snap.image import glance_errors

#: Seconds that a token has to be valid when an upload begins.
MIN_TOKEN_LIFE = 1800

#: The role with which Glance shows images of all projects.
ADMIN = 'admin'


@dataclasses.dataclass(frozen=True)
class Connection:
    """A connection to Glance.

    :ivar adapter: region, interfaces and the like, for glanceclient.
    """

    session: ks_session.Session
    adapter: dict[str, Any]

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> Self:
        """Make the connection from the options of [glance], [service_user].

        :raises InvalidConfiguration: the options are not complete.
        """
        glance_conf.register_opts(conf)
        with keystone.configured(glance_conf.GROUP):
            session = keystone.load_session(
                conf, glance_conf.GROUP, _auth(conf)
            )
            return cls(session, _adapter(conf))

    def as_user(self, access: Any) -> Self:
        """Return the connection with a user's token in place of the login.

        If the login has a service token, so does the user's: Glance then
        takes the user's token after it has expired.

        :param access: what Keystone knows of the token (AccessInfo).
        """
        login: ks_plugin.BaseAuthPlugin = ks_access.AccessInfoPlugin(access)
        own = self.session.auth
        if isinstance(own, service_token.ServiceTokenAuthWrapper):
            login = service_token.ServiceTokenAuthWrapper(
                user_auth=login, service_auth=own.service_auth
            )
        # The connections are shared.
        session = copy.copy(self.session)
        session.auth = login
        return dataclasses.replace(self, session=session)

    @property
    def endpoint(self) -> str:
        """Glance's endpoint, for messages."""
        return keystone.endpoint(self.adapter)

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

    def sees(self, owner: str | None) -> bool:
        """Return True if the login surely sees private images of a project.

        An endpoint without Keystone knows no projects.
        """
        auth = self.session.auth
        if isinstance(auth, service_token.ServiceTokenAuthWrapper):
            auth = auth.user_auth
        if not isinstance(auth, ks_identity.BaseIdentityPlugin):
            return True
        access = auth.get_access(self.session)
        return ADMIN in (access.role_names or ()) or (
            owner is not None and access.project_id == owner
        )

    def invalidate(self) -> bool:
        """Forget the token; return True if another can be requested."""
        return self.session.invalidate()

    @contextlib.contextmanager
    def translated(self, image_id: str | None) -> Iterator[None]:
        """Translate the errors of a request to this project's exceptions.

        :param image_id: of the image that the request is about, if any.
        """
        try:
            yield
        except http_errors.HTTPError as error:
            raise glance_errors.translate(
                error, image_id, self.endpoint
            ) from error
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
            keystone.Unreachable,
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
    if keystone.is_broken(error):
        return 'check that it runs and can be reached from this host.'
    return 'check [glance] and the log of Glance.'


def _auth(conf: cfg.ConfigOpts) -> ks_plugin.BaseAuthPlugin:
    auth = keystone.load_auth(conf, glance_conf.GROUP)
    if not conf.service_user.send_service_user_token:
        return auth
    with keystone.configured(glance_conf.SERVICE_USER_GROUP):
        return service_token.ServiceTokenAuthWrapper(
            user_auth=auth,
            service_auth=keystone.load_auth(
                conf, glance_conf.SERVICE_USER_GROUP
            ),
        )


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
