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
"""Our servers by Nova's schemas, in every microversion."""

import dataclasses
import itertools

from nova import utils
from nova.api.openstack import common
from nova.api.openstack.compute import servers as nova_servers

from tests.nova.api import schemas
from tests.unit import base
from tests.unit.api import servers

CONTROLLER = nova_servers.ServersController


class ServerViewTest(base.TestCase):
    """Summary, detail and show of all kinds of guests."""

    def test_each_version_state_and_guest(self) -> None:
        """Nova could give each of these answers."""
        cases = itertools.product(
            schemas.MINORS,
            servers.STATES.values(),
            (servers.PLAIN, servers.NOVAS),
            (True, False),
        )
        for minor, (state, is_saved), guest, is_admin in cases:
            details = dataclasses.replace(
                guest, power_state=state, is_saved=is_saved
            )
            server = servers.server(details)
            view = servers.view(minor, is_admin)
            for method, document in (
                (CONTROLLER.index, {'servers': [view.summary(server)]}),
                (CONTROLLER.detail, {'servers': [view.detailed(server)]}),
                (CONTROLLER.show, {'server': view.shown(server)}),
            ):
                schemas.validate(method, minor, document)

    def test_each_version_has_a_field_of_its_own(self) -> None:
        """The answer of one version is not good for another.

        So a view that ignores the version would fail the test above.
        """
        for minor, field in (
            (3, 'OS-EXT-SRV-ATTR:hostname'),
            (9, 'locked'),
            (16, 'host_status'),
            (19, 'description'),
            (26, 'tags'),
            (63, 'trusted_image_certificates'),
            (71, 'server_groups'),
            (73, 'locked_reason'),
        ):
            server = servers.server()
            self.assertIn(field, servers.view(minor).shown(server))
            self.assertNotIn(field, servers.view(minor - 1).shown(server))

    def test_statuses_are_those_of_nova(self) -> None:
        """Nova has the same status for the same vm state."""
        for state, is_saved in servers.STATES.values():
            details = dataclasses.replace(
                servers.NOVAS, power_state=state, is_saved=is_saved
            )
            document = servers.view(90).shown(servers.server(details))
            self.assertEqual(
                common.status_from_state(document['OS-EXT-STS:vm_state']),
                document['status'],
            )

    def test_host_id_is_that_of_nova(self) -> None:
        """A host has one id, whoever shows it."""
        self.assertEqual(
            utils.generate_hostid('host-1', '9a1d'),
            servers.view(1).shown(servers.server())['hostId'],
        )

    def test_hostname_is_that_of_nova(self) -> None:
        """The name of the server becomes the same host name."""
        for name in ('web_1', 'A b.c', '-x-', 'x' * 70, 'Büro 1'):
            instance = dataclasses.replace(servers.NOVAS.instance, name=name)
            details = dataclasses.replace(servers.NOVAS, instance=instance)
            self.assertEqual(
                utils.sanitize_hostname(name),
                servers.server(details).hostname,
            )
