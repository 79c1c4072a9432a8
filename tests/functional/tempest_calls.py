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

"""Calls of tempest's clients, which check each answer by tempest's schemas.

    python tempest_calls.py URL SERVER MICROVERSION...

Runs in the environment of tempest, as a process that
``test_api_contract_tempest.py`` starts; an answer that tempest does not know
ends it with an error.
"""

import sys
import time
from typing import Any

from tempest.lib.services.compute import base_compute_client
from tempest.lib.services.compute import extensions_client
from tempest.lib.services.compute import flavors_client
from tempest.lib.services.compute import hypervisor_client
from tempest.lib.services.compute import images_client
from tempest.lib.services.compute import limits_client
from tempest.lib.services.compute import servers_client
from tempest.lib.services.image.v2 import images_client as glance_client

#: Seconds that an action may take; only a hang takes longer.
PATIENCE = 300


class NoAuth:
    """Names the service where there is no Keystone, and adds no token."""

    def __init__(self, url: str) -> None:
        self._url = url

    def base_url(self, filters: Any = None, auth_data: Any = None) -> str:
        """Return what the paths of all calls are below."""
        return self._url

    def auth_request(
        self,
        method: str,
        url: str,
        headers: Any = None,
        body: Any = None,
        filters: Any = None,
    ) -> tuple[str, Any, Any]:
        """Return a request as it is sent."""
        return f'{self._url}/{url}', headers, body


class Calls:
    """The calls on one server."""

    def __init__(self, url: str, server: str) -> None:
        self.server = server
        arguments = (NoAuth(f'{url}/v2.1'), 'compute', None)
        self.servers = servers_client.ServersClient(*arguments)
        self.snapshots = images_client.ImagesClient(*arguments)
        self.flavors = flavors_client.FlavorsClient(*arguments)
        self.hypervisors = hypervisor_client.HypervisorClient(*arguments)
        self.limits = limits_client.LimitsClient(*arguments)
        self.extensions = extensions_client.ExtensionsClient(*arguments)
        self.images = glance_client.ImagesClient(
            NoAuth(f'{url}/image/v2'), 'image', None
        )

    def read(self, version: str) -> None:
        """Make each call that reads, in a microversion."""
        base_compute_client.COMPUTE_MICROVERSION = version
        (server,) = self.servers.list_servers()['servers']
        (detailed,) = self.servers.list_servers(detail=True)['servers']
        shown = self.servers.show_server(self.server)['server']
        assert self.server == server['id'] == detailed['id'] == shown['id']
        (flavor,) = self.flavors.list_flavors(detail=True)['flavors']
        self.flavors.show_flavor(flavor['id'])
        if int(version.partition('.')[2]) < 88:  # the last that tempest knows
            self.hypervisors.list_hypervisors(detail=True)
        self.limits.show_limits()
        self.extensions.list_extensions()
        listed = self.servers.list_instance_actions(self.server)
        for action in listed['instanceActions'][:1]:
            self.servers.show_instance_action(
                self.server, action['request_id']
            )

    def wait(self, status: str) -> None:
        """Wait until nothing is done to the server; check its status."""
        deadline = time.monotonic() + PATIENCE
        while True:
            shown = self.servers.show_server(self.server)['server']
            if shown['OS-EXT-STS:task_state'] is None:
                break
            assert time.monotonic() < deadline, shown
            time.sleep(0.2)
        assert shown['status'] == status, shown

    def make_images(self) -> None:
        """Make an image and a backup, read and delete them."""
        self.check_image(
            self.snapshots.create_image(self.server, name='image')
        )
        self.check_image(
            self.servers.create_backup(
                self.server, name='backup', backup_type='daily', rotation=1
            )
        )

    def check_image(self, answer: Any) -> None:
        """Wait for an image, read it, and delete it."""
        self.wait('ACTIVE')
        image_id = answer['image_id']
        assert self.images.show_image(image_id)['status'] == 'active'
        assert self.images.show_image_file(image_id).data
        self.images.delete_image(image_id)
        self.images.wait_for_resource_deletion(image_id)

    def switch(self) -> None:
        """Pause the server, suspend it, and bring it back."""
        self.servers.pause_server(self.server)
        self.wait('PAUSED')
        self.servers.unpause_server(self.server)
        self.wait('ACTIVE')
        self.servers.suspend_server(self.server)
        self.wait('SUSPENDED')
        self.servers.resume_server(self.server)
        self.wait('ACTIVE')


def main(url: str, server: str, *versions: str) -> None:
    """Make the calls: those that change something in the last version only.

    :param versions: microversions.
    """
    calls = Calls(url, server)
    for version in versions:
        calls.read(version)
    calls.make_images()
    calls.switch()


if __name__ == '__main__':
    main(*sys.argv[1:])
