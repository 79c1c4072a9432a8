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

"""Tests of nova_snap.clients.shared_login, with keystoneauth's own logins."""

import sys
import threading

from keystoneauth1 import access
from keystoneauth1 import fixture
from keystoneauth1 import noauth
from keystoneauth1 import service_token
from keystoneauth1.identity import access as identity_access
from keystoneauth1.identity import v3
import testtools

from nova_snap.clients import shared_login

THREADS = 4

#: Tokens that each thread gets and drops.  Without the lock, one of them in
#: about 2000 is not there when it is returned.
ROUNDS = 10000


class Login(v3.Password):
    """A login that needs no Keystone."""

    made = 0

    def get_auth_ref(self, session, **kwargs):
        self.made += 1
        token = f'token {self.made}'
        return access.AccessInfoV3(fixture.V3Token(), auth_token=token)


def login():
    return shared_login.shared(Login('http://keystone/v3', 'me', 'word'))


class SharedLoginTest(testtools.TestCase):
    def test_a_token_is_kept_until_it_is_dropped(self):
        own = login()
        self.assertEqual('token 1', own.get_token(None))
        self.assertEqual('token 1', own.get_token(None))
        self.assertTrue(own.invalidate())
        self.assertEqual('token 2', own.get_token(None))

    def test_it_is_still_what_it_was(self):
        self.assertIsInstance(login(), Login)
        other = noauth.NoAuth()
        self.assertIs(other, shared_login.shared(other))

    def test_dropped_by_two_threads(self):
        """The second one, too, is told that there is another token."""
        own = login()
        own.get_token(None)
        self.assertTrue(own.invalidate())
        self.assertTrue(own.invalidate())

    def test_each_has_its_own_lock(self):
        self.assertIsNot(login().token_lock, login().token_lock)

    def test_dropped_while_another_thread_gets_it(self):
        """As when the token of a user is refused, in each of its threads."""
        own = login()
        errors = []

        def work():
            user = identity_access.AccessInfoPlugin(own.get_access(None))
            wrapped = service_token.ServiceTokenAuthWrapper(user, own)
            try:
                for _ in range(ROUNDS):
                    self.assertIn('X-Service-Token', wrapped.get_headers(None))
                    wrapped.invalidate()
            except BaseException as error:
                errors.append(error)

        interval = sys.getswitchinterval()
        self.addCleanup(sys.setswitchinterval, interval)
        sys.setswitchinterval(1e-6)
        threads = [threading.Thread(target=work) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([], errors)
