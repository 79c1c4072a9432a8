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

"""Requests of web pages, through oslo.middleware as it is."""

from typing import Any

from oslo_config import cfg

from nova_snap.api import deploy
from tests.unit.api import base

PAGE = 'https://dashboard.example.com'


class TestCrossOrigin(base.ApiTestCase):
    """Which pages may use the service, and with which headers."""

    def allow(self, *origins: str) -> None:
        """Set ``[cors] allowed_origin``, or leave the default."""
        file = self.folder() / 'api.conf'
        lines = [f'allowed_origin = {origin}' for origin in origins]
        file.write_text('\n'.join(['[cors]', *lines]))
        conf = cfg.ConfigOpts()
        conf(['--config-file', str(file)], project='nova_snap')
        self.application = deploy.application(
            self.services, self.authentication(), conf
        )

    def preflight(self, origin: str, *headers: str) -> Any:
        """Ask as a browser does before it sends what a page wants."""
        return self.call(
            'OPTIONS',
            '/v2.1/servers',
            Origin=origin,
            Access_Control_Request_Method='POST',
            Access_Control_Request_Headers=', '.join(headers),
        )

    def test_nobody_by_default(self) -> None:
        self.allow()
        answer = self.get('/', Origin=PAGE)
        self.assertNotIn('Access-Control-Allow-Origin', answer.headers)
        self.assertEqual(405, self.preflight(PAGE).status_int)

    def test_a_page(self) -> None:
        self.allow(PAGE)
        answer = self.get('/', Origin=PAGE)
        self.assertEqual(PAGE, answer.headers['Access-Control-Allow-Origin'])
        exposed = answer.headers['Access-Control-Expose-Headers']
        for name in ('OpenStack-API-Version', 'X-OpenStack-Request-ID'):
            self.assertIn(name, exposed)
        self.assertIn('x-openstack-request-id', answer.headers)

    def test_preflight(self) -> None:
        self.allow(PAGE)
        answer = self.preflight(PAGE, 'X-Auth-Token', 'OpenStack-API-Version')
        self.assertEqual(200, answer.status_int)
        self.assertEqual(PAGE, answer.headers['Access-Control-Allow-Origin'])
        refused = self.preflight(PAGE, 'X-Other')
        self.assertNotIn('Access-Control-Allow-Origin', refused.headers)

    def test_another_page(self) -> None:
        self.allow(PAGE)
        for answer in (
            self.get('/', Origin='https://evil.example'),
            self.preflight('https://evil.example'),
        ):
            self.assertNotIn('Access-Control-Allow-Origin', answer.headers)
