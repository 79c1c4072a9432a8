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

"""The connection to Cinder: sessions, login, endpoint, connection errors.

Open this file for the endpoint or a timeout.  Errors of keystoneauth are
translated here; the code for all services is in
``nova_snap/clients/keystone.py``.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
from typing import Any
from typing import Self

from keystoneauth1 import exceptions as ks_exc
from keystoneauth1 import session as ks_session
from oslo_config import cfg

from nova_snap import exception
from nova_snap.clients import http_errors
from nova_snap.clients import keystone
from nova_snap.conf import cinder as cinder_conf
from nova_snap.volume import cinder_errors

#: Seconds that a request may take at most while a guest is frozen.
URGENT_TIMEOUT = 15


@dataclasses.dataclass(frozen=True)
class Connection:
    """A connection to Cinder.

    :ivar session: with the configured timeout.
    :ivar urgent_session: with a short timeout; the login is the same.
    :ivar adapter: region, interface and the like, for cinderclient.
    """

    session: ks_session.Session
    urgent_session: ks_session.Session
    adapter: dict[str, Any]

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> Self:
        """Make the connection from the options of [cinder].

        :raises InvalidConfiguration: the options are not complete.
        """
        cinder_conf.register_opts(conf)
        with keystone.configured(cinder_conf.GROUP):
            auth = keystone.load_auth(conf, cinder_conf.GROUP)
            session = keystone.load_session(conf, cinder_conf.GROUP, auth)
            urgent = keystone.load_session(conf, cinder_conf.GROUP, auth)
            adapter = _adapter(conf)
        timeout = session.timeout or URGENT_TIMEOUT
        urgent.timeout = min(timeout, URGENT_TIMEOUT)
        return cls(session, urgent, adapter)

    @property
    def endpoint(self) -> str:
        """Cinder's endpoint, for messages."""
        return keystone.endpoint(self.adapter)

    @contextlib.contextmanager
    def translated(self, subject: cinder_errors.Subject) -> Iterator[None]:
        """Translate the errors of a request to this project's exceptions."""
        try:
            yield
        except http_errors.HTTPError as error:
            raise cinder_errors.translate(
                error, subject, self.endpoint
            ) from error
        except (ks_exc.Unauthorized, ks_exc.Forbidden) as error:
            raise exception.VolumeNotPermitted(
                reason=f'Keystone does not accept the login ({error}); check '
                'the credentials in [cinder].'
            ) from error
        except (keystone.Unreachable, ks_exc.ClientException) as error:
            raise exception.VolumeServiceUnavailable(
                endpoint=self.endpoint, reason=f'{error}; {_advice(error)}'
            ) from error


def _advice(error: Exception) -> str:
    if isinstance(error, ks_exc.SSLError):
        return 'check its certificate and [cinder] cafile.'
    if isinstance(error, ks_exc.CatalogException):
        return (
            'check [cinder] catalog_info and os_region_name, or set '
            'endpoint_template.'
        )
    if keystone.is_broken(error):
        return 'check that it runs and can be reached from this host.'
    return 'check [cinder] and the log of Cinder.'


def _adapter(conf: cfg.ConfigOpts) -> dict[str, Any]:
    group = conf.cinder
    if group.auth_type == 'none' and not group.endpoint_template:
        raise exception.InvalidConfiguration(
            option='[cinder] endpoint_template',
            reason='is needed where auth_type is "none".',
        )
    service_type, service_name, interface = group.catalog_info.split(':')
    return {
        'service_type': service_type,
        'service_name': service_name or None,
        'interface': interface,
        'region_name': group.os_region_name,
        'endpoint_override': group.endpoint_template,
    }
