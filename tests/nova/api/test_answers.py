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
"""The answers of the application by Nova's schemas, in each microversion."""

from collections.abc import Callable
import itertools
from typing import Any

from nova.api.openstack.compute import extension_info
from nova.api.openstack.compute import flavors as nova_flavors
from nova.api.openstack.compute import hypervisors as nova_hypervisors
from nova.api.openstack.compute import limits as nova_limits
from nova.api.openstack.compute import servers as nova_servers

from tests.nova.api import schemas
from tests.unit.api import base
from tests.unit.api import servers

SERVER = servers.NOVAS.instance.uuid
Method = Callable[..., Any]

CALLS: tuple[tuple[str, Method], ...] = (
    ('/servers', nova_servers.ServersController.index),
    ('/servers?limit=1', nova_servers.ServersController.index),
    ('/servers/detail', nova_servers.ServersController.detail),
    ('/servers/detail?limit=1', nova_servers.ServersController.detail),
    (f'/servers/{SERVER}', nova_servers.ServersController.show),
    ('/flavors', nova_flavors.FlavorsController.index),
    ('/flavors?limit=1', nova_flavors.FlavorsController.index),
    ('/flavors/detail?is_public=None', nova_flavors.FlavorsController.detail),
    ('/flavors/42', nova_flavors.FlavorsController.show),
    ('/os-hypervisors', nova_hypervisors.HypervisorsController.index),
    (
        '/os-hypervisors/detail?with_servers=True',
        nova_hypervisors.HypervisorsController.detail,
    ),
    ('/limits', nova_limits.LimitsController.index),
    ('/extensions', extension_info.ExtensionInfoController.index),
    ('/extensions/servers', extension_info.ExtensionInfoController.show),
)


class AnswersTest(base.ApiTestCase):
    """Every call that reads, in every version that is offered."""

    def setUp(self) -> None:
        super().setUp()
        self.driver.known = [servers.NOVAS]

    def test_each_call_and_version(self) -> None:
        for (path, method), minor in itertools.product(CALLS, schemas.MINORS):
            answer = self.get(f'/v2.1{path}', version=f'2.{minor}')
            self.assertEqual(200, answer.status_int, answer.text)
            schemas.validate(method, minor, answer.json)

    def test_hypervisor_by_its_id(self) -> None:
        show = nova_hypervisors.HypervisorsController.show
        for minor in schemas.MINORS:
            version = f'2.{minor}'
            listed = self.get('/v2.1/os-hypervisors', version=version).json
            identity = listed['hypervisors'][0]['id']
            answer = self.get(
                f'/v2.1/os-hypervisors/{identity}', version=version
            )
            schemas.validate(show, minor, answer.json)

    def test_filters_and_keys_are_those_of_nova(self) -> None:
        """Nova would ignore, or refuse, any other."""
        from nova.api.openstack.compute.schemas import servers as schema

        from nova_snap.api import server_filters as ours
        from nova_snap.api import server_order

        known = set(schema.index_query_v275['properties'])
        known -= set(schema.JOINED_TABLE_QUERY_PARAMS_SERVERS)
        self.assertEqual(
            known,
            {*ours.EXACT, *ours.PATTERNS, *ours.UNKNOWN, *ours.OTHERS},
        )
        self.assertEqual(
            set(schema.VALID_SORT_KEYS_V273['enum'])
            - set(schema.SERVER_LIST_IGNORE_SORT_KEY_V273),
            {*server_order.KEYS, *server_order.UNKNOWN},
        )
