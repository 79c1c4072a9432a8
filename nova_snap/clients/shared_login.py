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

"""Logins to Keystone that threads share.

Open this file for a request that fails in one thread when a token is refused
in another one.
"""

import threading
from typing import Any

from keystoneauth1 import plugin as ks_plugin
from keystoneauth1 import session as ks_session
from keystoneauth1.access import access as ks_access
from keystoneauth1.identity import base as ks_identity


class _SharedLogin(ks_identity.BaseIdentityPlugin):
    """Base class of logins whose token is read and dropped under one lock.

    Without it, get_access() of keystoneauth (5.18) raises AssertionError when
    another thread drops the token just before it is returned, and
    invalidate() of the thread that comes second says that there is no other
    token to be had.
    """

    token_lock: threading.RLock

    def get_access(
        self, session: ks_session.Session, **kwargs: Any
    ) -> ks_access.AccessInfo:
        """Return the token; get one if there is none, or it expires soon."""
        with self.token_lock:
            return super().get_access(session, **kwargs)

    def invalidate(self) -> bool:
        """Drop the token; return True, since another can be requested."""
        with self.token_lock:
            super().invalidate()
        return True


def shared(login: ks_plugin.BaseAuthPlugin) -> ks_plugin.BaseAuthPlugin:
    """Make a login one that threads may share; return it.

    Its class becomes a subclass of its own, since a wrapper would hide what
    some classes add to requests.  A login without a token stays as it is.
    """
    if isinstance(login, ks_identity.BaseIdentityPlugin):
        kind = type(login)
        login.__class__ = type(
            kind.__name__,
            (_SharedLogin, kind),
            {'token_lock': threading.RLock()},
        )
    return login
