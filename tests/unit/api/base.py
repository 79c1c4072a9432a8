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

"""What tests of the API share: the application, without a WSGI server.

The driver is the one in memory of ``tests/unit/compute/base.py``; image
service, journal and locks are real.
"""

from typing import Any

from oslo_config import cfg

from nova_snap.api import actions
from nova_snap.api import app
from nova_snap.api import auth
from nova_snap.api import context as context_lib
from nova_snap.api import deploy
from nova_snap.api import metrics
from nova_snap.api import policy
from nova_snap.api import power as power_lib
from nova_snap.api import rebuilds
from nova_snap.api import request as request_lib
from nova_snap.api import services as services_lib
from nova_snap.api import snapshots
from nova_snap.api.db import api as db_api
from nova_snap.compute import power
from tests.unit.compute import base

PROJECT = 'admin'


class ApiTestCase(base.ManagerTestCase):
    """The application over the doubles of the core."""

    #: Snapshots that may run and wait.
    LIMIT = 3

    def setUp(self) -> None:
        super().setUp()
        self.database_path = self.folder() / 'api.sqlite'
        self.database = db_api.Database(self.database_path)
        self.actions = actions.Actions(self.database, 'host')
        self.metrics = metrics.Metrics()
        running = snapshots.Snapshots(self.manager, self.LIMIT, self.metrics)
        self.metrics.observe(running)
        self.power = power.PowerManager(self.driver, self.manager)
        self.services = services_lib.Services(
            driver=self.driver,
            manager=self.manager,
            actions=self.actions,
            snapshots=running,
            metrics=self.metrics,
            power=power_lib.PowerActions(self.power),
            rebuilds=rebuilds.Rebuilds(self.driver, self.manager, self.images),
            images=self.images,
            policy=policy.Policy(self.policy_options()),
            options=services_lib.Options(
                default_project_id=PROJECT, hostname='host'
            ),
        )
        self.application = deploy.application(
            self.services, self.authentication()
        )

    def authentication(self) -> app.Authenticate:
        """Return what finds out who sends a request."""
        return auth.NoAuth(PROJECT)

    def policy_options(self) -> cfg.ConfigOpts:
        """Return the options of the policies."""
        options = cfg.ConfigOpts()
        options([], default_config_files=[], default_config_dirs=[])
        return options

    def context(self, request_id: str) -> context_lib.Context:
        """Return the context of a request."""
        return context_lib.Context(request_id, 'admin', PROJECT)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        version: str | None = None,
        **headers: str,
    ) -> Any:
        """Send a request; return the answer."""
        request = self.request(method, path)
        if body is not None:
            request.content_type = 'application/json'
            request.json_body = body
        if version is not None:
            request.headers['OpenStack-API-Version'] = f'compute {version}'
        for name, value in headers.items():
            request.headers[name.replace('_', '-')] = value
        return request.get_response(self.application)

    def request(self, method: str, path: str) -> request_lib.Request:
        """Make a request."""
        return request_lib.Request.blank(path, method=method)

    def get(self, path: str, **arguments: Any) -> Any:
        """Send a GET; return the answer."""
        return self.call('GET', path, **arguments)

    def assert_error(
        self, answer: Any, status: int, name: str, message: str
    ) -> None:
        """Check that an answer is an error of Nova's form."""
        self.assertEqual(status, answer.status_int, answer.text)
        self.assertEqual([name], list(answer.json))
        self.assertEqual(status, answer.json[name]['code'])
        self.assertIn(message, answer.json[name]['message'])
