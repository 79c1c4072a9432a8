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

"""Glance with the login and the endpoint of nova-compute.

The tokens (the user's, with the service token if Nova sends one) and the
endpoint come from Nova's image API and options.  The requests are made by this
project's adapter: Nova's repeats an interrupted upload from the current
position of the file instead of its start, and does not compare the stored
image with the sent data (nova/image/glance.py of Nova 34).
"""

from collections.abc import Mapping
from typing import Any

from keystoneauth1 import loading as ks_loading
from keystoneauth1 import plugin as ks_plugin
from keystoneauth1.identity import base as ks_identity
from nova import service_auth
import nova.conf
from nova.image import glance as nova_glance
from oslo_log import log as logging

from nova_snap import exception
from nova_snap.clients import keystone
from nova_snap.conf import glance as glance_conf
from nova_snap.image import api
from nova_snap.image import glance
from nova_snap.image import glance_session
from nova_snap.image import schema

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)

#: Groups of nova.conf that may have a login of a service, in the order in
#: which they are tried.
LOGIN_GROUPS = ('glance', 'service_user')

#: Fields of a record that Nova's image API does not rename or convert.
_FIELDS = (
    'id',
    'name',
    'owner',
    'status',
    'disk_format',
    'container_format',
    'visibility',
)

#: The role with which Glance shows and deletes images of all projects.
ADMIN = 'admin'


def image_of(record: Mapping[str, Any]) -> api.Image:
    """Return the image of a record as Nova's image API has it.

    It has those fields of ours that Nova calls by Glance's names.
    """
    return schema.from_fields(
        {
            **record['properties'],
            **{key: record.get(key) for key in _FIELDS},
        }
    )


class UserImages(glance.UserImageService):
    """Glance as the user of a request to Nova sees it.

    :param context: Nova's request context.
    :param nova_api: Nova's image API.
    :param image_id: the record that nova-api has made.
    :param metadata: the changes of that record just before its data is sent,
        in the form of Nova's image API.
    :param shared_with: the server's project, if it is not the user's.
    """

    def __init__(
        self,
        context: Any,
        nova_api: Any,
        image_id: str,
        metadata: Mapping[str, Any],
        shared_with: str | None = None,
    ) -> None:
        endpoint = next(nova_glance.get_api_servers(context))
        super().__init__(
            _connection(_user_login(context), endpoint),
            CONF.glance.num_retries,
            shared_with,
        )
        self._context = context
        self._nova_api = nova_api
        self._image_id = image_id
        self._metadata = dict(metadata)

    def may_hide(self, owner: str | None) -> bool:
        """Return True unless the user sees all images of a project.

        The session only has a token, which does not tell.
        """
        return (
            ADMIN not in self._context.roles
            and owner != self._context.project_id
        )

    def set_location(self, image_id: str, url: str) -> None:
        """Complete nova-api's record as Nova does, then add the location."""
        self._complete(image_id)
        super().set_location(image_id, url)

    def _before_upload(self, image_id: str) -> api.Image:
        """Complete nova-api's record as Nova does; return it as it is then."""
        record = self._complete(image_id)
        if record is None:
            return super()._before_upload(image_id)
        return image_of(record)

    def _complete(self, image_id: str) -> Any:
        """Change nova-api's record; leave those alone that are made here.

        Return it as Nova's image API has it; None for another one.
        """
        if image_id != self._image_id:
            return None
        return self._nova_api.update(
            self._context, image_id, self._metadata, purge_props=False
        )


class ServiceImages(glance.GlanceImageService):
    """Glance with a service's login of nova.conf, for recovery.

    :raises InvalidConfiguration: nova.conf has no such login, or one that
        can't be used.
    """

    def __init__(self) -> None:
        group = login_group()
        with keystone.configured(group):
            self._login = keystone.load_auth(CONF, group)
        servers = CONF.glance.api_servers
        connection = _connection(
            self._login,
            servers[0] if servers else CONF.glance.endpoint_override,
        )
        super().__init__(connection, CONF.glance.num_retries)
        self._group = group
        self._session = connection.session

    def get(self, image_id: str) -> api.Image:
        """Return the record; warn if it may only be hidden from the login."""
        try:
            return super().get(image_id)
        except exception.ImageNotFound:
            if not self._is_admin():
                LOG.warning(
                    'Image %(image)s, left by a snapshot that was killed, '
                    'does not exist, or is hidden from the login of '
                    '[%(group)s], which is no admin. If it exists and is not '
                    'active, or is not what the log says was sent, delete it.',
                    {'image': image_id, 'group': self._group},
                )
            raise

    def _is_admin(self) -> bool:
        if not isinstance(self._login, ks_identity.BaseIdentityPlugin):
            return False
        roles = self._login.get_access(self._session).role_names
        return ADMIN in (roles or ())


class NoImages(ServiceImages):
    """Stands in without a login in nova.conf; names the images to delete."""

    def __init__(self, reason: exception.InvalidConfiguration) -> None:
        self._reason = reason

    def get(self, image_id: str) -> api.Image:
        """Fail, and name the image."""
        raise exception.ImageNotPermitted(
            reason=f'image {image_id}, left by a snapshot that was killed, '
            f'could not be read ({self._reason}). If it exists and is not '
            'active, or is not what the journal says was sent, delete it.'
        )


def of_the_service() -> ServiceImages:
    """Return the image service for recovery."""
    try:
        return ServiceImages()
    except exception.InvalidConfiguration as error:
        return NoImages(error)


def _user_login(context: Any) -> ks_plugin.BaseAuthPlugin:
    """Return the login with the user's token, and Nova's service token."""
    # In Nova 32 the function has another name.
    make = getattr(
        service_auth, 'get_service_user_token_auth_plugin', None
    ) or getattr(service_auth, 'get_auth_plugin')  # noqa: B009
    login: ks_plugin.BaseAuthPlugin = make(context)
    return login


def login_group() -> str:
    """Return the group of nova.conf with a login that recovery can use.

    :raises InvalidConfiguration: no group has a login.
    """
    for group in LOGIN_GROUPS:
        ks_loading.register_auth_conf_options(CONF, group)
        if CONF[group].auth_type or CONF[group].auth_section:
            return group
    raise exception.InvalidConfiguration(
        option='[service_user] auth_type',
        reason='is not set, nor is that of [glance].',
    )


def _connection(
    login: ks_plugin.BaseAuthPlugin, endpoint: str | None
) -> glance_session.Connection:
    """Make a connection by Nova's options for Glance, but with a timeout.

    :param endpoint: None if the endpoint is in the catalog.
    """
    group = CONF.glance
    session = keystone.load_session(CONF, glance_conf.GROUP, login)
    session.timeout = session.timeout or glance_conf.DEFAULT_TIMEOUT
    return glance_session.Connection(
        session,
        {
            'service_type': group.service_type,
            'service_name': group.service_name,
            'interface': group.valid_interfaces,
            'region_name': group.region_name,
            'endpoint_override': endpoint,
        },
    )
