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


from keystoneauth1 import access
from keystoneauth1 import fixture as ks_fixture
from keystoneauth1 import noauth
from keystoneauth1 import session as ks_session
from keystoneauth1.identity import access as ks_access
from oslo_config import cfg
import testtools

from nova_snap import conf as nova_snap_conf
from nova_snap import exception
from nova_snap.conf import glance as glance_conf
from nova_snap.image import api
from nova_snap.image import glance_session


class ConfigurationTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.conf = cfg.ConfigOpts()
        nova_snap_conf.register_opts(self.conf)
        glance_conf.register_opts(self.conf)
        self.conf([])

    def set(self, group='glance', **options):
        for name, value in options.items():
            self.conf.set_override(name, value, group=group)

    def refused(self):
        return self.assertRaises(
            exception.InvalidConfiguration,
            glance_session.Connection.from_conf,
            self.conf,
        )

    def test_no_login(self):
        self.assertEqual('[glance] auth_type', self.refused().option)

    def test_unknown_login(self):
        self.set(auth_type='magic')
        self.assertIn('magic', str(self.refused()))

    def test_incomplete_login(self):
        self.set(auth_type='password')
        self.assertIn('auth_url', str(self.refused()))

    def test_no_login_and_no_address(self):
        self.set(auth_type='none')
        self.assertEqual('[glance] endpoint_override', self.refused().option)

    def test_service_user_without_a_login(self):
        self.set(auth_type='none', endpoint_override='http://glance')
        self.set('service_user', send_service_user_token=True)
        self.assertEqual('[service_user] auth_type', self.refused().option)

    def test_defaults(self):
        self.set(auth_type='none', endpoint_override='http://glance')
        connection = glance_session.Connection.from_conf(self.conf)
        self.assertEqual(300, connection.session.timeout)
        self.assertEqual(
            ['internal', 'public'], connection.adapter['interface']
        )
        self.assertEqual('image', connection.adapter['service_type'])

    def test_tls_options(self):
        self.set(
            auth_type='none',
            endpoint_override='https://glance',
            cafile='/etc/ca.pem',
            region_name='one',
        )
        connection = glance_session.Connection.from_conf(self.conf)
        self.assertEqual('/etc/ca.pem', connection.session.verify)
        self.assertEqual('one', connection.adapter['region_name'])
        self.set(insecure=True)
        connection = glance_session.Connection.from_conf(self.conf)
        self.assertIs(False, connection.session.verify)

    def test_by_its_entry_point(self):
        self.set(auth_type='none', endpoint_override='http://glance')
        self.set('snapshot', image_service='glance')
        self.assertIsInstance(api.from_conf(self.conf), api.ImageService)


class SeesTest(testtools.TestCase):
    """Whether a private image of a project may be hidden from a login."""

    def connection(self, *roles):
        token = ks_fixture.V3Token(project_id='one')
        for role in roles:
            token.add_role(name=role)
        login = ks_access.AccessInfoPlugin(access.AccessInfoV3(token))
        return glance_session.Connection(ks_session.Session(login), {})

    def test_of_its_own_project(self):
        self.assertTrue(self.connection('member').sees('one'))

    def test_of_another_project(self):
        self.assertFalse(self.connection('member').sees('two'))
        self.assertFalse(self.connection('member').sees(None))

    def test_administrator(self):
        self.assertTrue(self.connection('member', 'admin').sees('two'))
        self.assertTrue(self.connection('admin').sees(None))

    def test_without_keystone(self):
        login = noauth.NoAuth()
        connection = glance_session.Connection(ks_session.Session(login), {})
        self.assertTrue(connection.sees(None))
