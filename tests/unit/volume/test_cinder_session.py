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

from unittest import mock

from keystoneauth1 import exceptions as ks_exc
from oslo_config import cfg
import testtools

from nova_snap import conf as nova_snap_conf
from nova_snap import exception
from nova_snap import factory
from nova_snap.clients import http_errors
from nova_snap.clients import keystone
from nova_snap.conf import cinder as cinder_conf
from nova_snap.volume import cinder
from nova_snap.volume import cinder_errors
from nova_snap.volume import cinder_session


class CinderSessionTestCase(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.conf = cfg.ConfigOpts()
        nova_snap_conf.register_opts(self.conf)
        cinder_conf.register_opts(self.conf)
        self.conf([])

    def set(self, **options):
        for name, value in options.items():
            self.conf.set_override(name, value, group='cinder')

    def connection(self, **options):
        self.set(
            auth_type='none', endpoint_template='http://cinder/v3', **options
        )
        return cinder_session.Connection.from_conf(self.conf)


class ConfigurationTest(CinderSessionTestCase):
    def refused(self):
        return self.assertRaises(
            exception.InvalidConfiguration,
            cinder_session.Connection.from_conf,
            self.conf,
        )

    def test_there_need_be_no_cinder(self):
        self.assertIsNone(factory.volume_service(self.conf))

    def test_no_login_and_no_address(self):
        self.set(auth_type='none')
        self.assertEqual('[cinder] endpoint_template', self.refused().option)

    def test_incomplete_login(self):
        self.set(auth_type='password')
        self.assertIn('auth_url', str(self.refused()))

    def test_catalog_info(self):
        adapter = self.connection(
            catalog_info='block-storage:cinder:internalURL',
            os_region_name='one',
        ).adapter
        self.assertEqual('block-storage', adapter['service_type'])
        self.assertEqual('cinder', adapter['service_name'])
        self.assertEqual('internalURL', adapter['interface'])
        self.assertEqual('one', adapter['region_name'])

    def test_a_frozen_guest_waits_less_long(self):
        connection = self.connection()
        self.assertEqual(60, connection.session.timeout)
        self.assertEqual(15, connection.urgent_session.timeout)
        connection = self.connection(timeout=3)
        self.assertEqual(3, connection.urgent_session.timeout)

    def test_no_cinderclient(self):
        connection = self.connection()
        # Another test may have loaded it.
        absent = {'cinderclient': None, 'cinderclient.client': None}
        with mock.patch.dict('sys.modules', absent):
            error = self.assertRaises(
                exception.InvalidConfiguration,
                cinder.CinderVolumeService,
                connection,
                0,
            )
        self.assertIn('extra "cinder"', str(error))


class TranslatedTest(CinderSessionTestCase):
    def translate(self, error):
        def fail():
            with self.connection().translated(
                cinder_errors.Subject(volume_id='v')
            ):
                raise error

        return self.assertRaises(exception.NovaSnapError, fail)

    def test_refused(self):
        error = self.translate(http_errors.HTTPError(409, 'because'))
        self.assertIs(exception.VolumeConflict, type(error))

    def test_login(self):
        error = self.translate(ks_exc.Unauthorized('no'))
        self.assertIs(exception.VolumeNotPermitted, type(error))
        self.assertIn('[cinder]', str(error))

    def test_no_answer(self):
        for error, word in (
            (keystone.Unreachable(OSError('gone')), 'gone'),
            (ks_exc.SSLError('certificate'), 'cafile'),
            (ks_exc.EndpointNotFound('none'), 'catalog_info'),
            (ks_exc.ClientException('odd'), 'log of Cinder'),
        ):
            found = self.translate(error)
            self.assertIs(exception.VolumeServiceUnavailable, type(found))
            self.assertIn(word, str(found))
            self.assertIn('http://cinder/v3', str(found))
