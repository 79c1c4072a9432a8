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

"""Keystone, and a Glance that asks it: two projects and their users.

One lab serves a process; it starts with the first test that asks for it.
"""

from concurrent import futures
import functools
import pathlib
import shutil
from typing import Any

import glanceclient
from keystoneauth1 import session
from keystoneauth1.identity import v3

from tests.lab import daemon
from tests.lab import glance as glance_lib
from tests.lab import keystone as keystone_lib

#: A project with a user of the same name, a plain member, and another one.
OWN = 'own'
OTHER = 'other'

#: A user who may only read what the project OWN has.
READER = 'reader-of-own'

#: What services log in as, in the project "admin".
SERVICE = 'nova-snap'

#: Seconds for which some tokens are valid.
EXPIRATION = 4

AUTHENTICATION = """\
[keystone_authtoken]
{login}
service_token_roles = service
service_token_roles_required = true
# Seconds for which a token is taken that was revoked.
token_cache_time = 3
"""


class Glance(glance_lib.Glance):
    """A Glance that wants tokens, also from its services."""

    IDENTITY = 'authtoken context'
    POLICY = ''

    def _may_answer(self, status: int) -> bool:
        return status == 401


class Tenants:
    """The servers, and what a user does with them.

    :ivar projects: the IDs of the projects by their names.
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.keystone = keystone_lib.Keystone(directory / 'keystone')
        # Its tokens are valid for EXPIRATION seconds.
        self._hasty = keystone_lib.Keystone(directory / 'hasty')
        self._starting: futures.Future[None] | None = None
        self.glance = Glance(directory / 'glance')
        self.projects: dict[str, str] = {}

    def start(self) -> None:
        """Return once all answer."""
        self.directory.mkdir(parents=True)
        self.keystone.begin()
        self.glance = Glance(
            self.directory / 'glance',
            extra=AUTHENTICATION.format(login=self.login_lines()),
        )
        with futures.ThreadPoolExecutor() as pool:
            starting = pool.submit(self.glance.start)
            self.keystone.wait()
            self._add_users()
            starting.result()
        self.keystone.add_service('image', 'glance', self.glance.url)
        # Few tests need it; those before need not wait.
        self._starting = futures.ThreadPoolExecutor(1).submit(
            self._hasty.start_beside, self.keystone, EXPIRATION
        )

    def hasty(self) -> keystone_lib.Keystone:
        """Return a Keystone whose tokens are valid for EXPIRATION seconds."""
        assert self._starting is not None
        self._starting.result()
        return self._hasty

    def stop(self) -> None:
        """End all, and delete what they had."""
        self.glance.kill()
        if self._starting is not None:
            futures.wait([self._starting])
        self._hasty.stop()
        self.keystone.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def login(self, user: str = SERVICE, project: str = 'admin') -> Any:
        """Return keystoneauth's options for the login of a user."""
        return {
            'auth_type': 'password',
            **self.keystone.credentials(user, project),
        }

    def login_lines(self) -> str:
        """Return the login of services, as lines of a configuration."""
        options = self.login()
        return '\n'.join(f'{key} = {value}' for key, value in options.items())

    def token(self, user: str, project: str = OWN, hasty: bool = False) -> str:
        """Return a new token of a user."""
        keystone = self.hasty() if hasty else self.keystone
        token: str = keystone.login(user, project).get_token()
        return token

    def token_without_project(self, user: str) -> str:
        """Return a token of a user that is for no project."""
        login = self.keystone.credentials(user, '')
        for name in ('project_name', 'project_domain_id'):
            del login[name]
        token: str = session.Session(auth=v3.Password(**login)).get_token()
        return token

    def is_valid(self, token: str) -> bool:
        """Return True if Keystone takes a token."""
        return self.keystone.accepts(token)

    def is_taken_by_glance(self, token: str) -> bool:
        """Return True if Glance takes a token."""
        glance = glanceclient.Client(
            '2', endpoint=self.glance.url, token=token
        )
        try:
            list(glance.images.list(limit=1))
        except glanceclient.exc.HTTPUnauthorized:
            return False
        return True

    def members(self, image_id: str) -> list[str]:
        """Return the projects that an image is shared with."""
        client = glanceclient.Client(
            '2', session=self.keystone.login('admin', 'admin')
        )
        found = client.image_members.list(image_id)
        return [member['member_id'] for member in found]

    def images(self, user: str = 'admin', project: str = 'admin') -> Any:
        """Return glanceclient's images, as a user sees them."""
        login = self.keystone.login(user, project)
        return glanceclient.Client('2', session=login).images

    def _add_users(self) -> None:
        for name in (OWN, OTHER):
            self.projects[name] = self.keystone.add_project(name)
        self.keystone.add_user(READER, self.projects[OWN], 'reader')
        (admin,) = self.keystone.get('/projects?name=admin')['projects']
        self.projects['admin'] = admin['id']
        self.keystone.add_user(SERVICE, admin['id'], 'admin', 'service')


@functools.cache
def shared_lab() -> Tenants:
    """Return the lab of this process; start it if need be."""
    return daemon.started_for_process('k', Tenants)
