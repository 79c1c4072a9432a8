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
"""Nova's JSON of hypervisors, in every microversion; there is one.

https://docs.openstack.org/api-ref/compute/#hypervisors-os-hypervisors
"""

from collections.abc import Sequence
import dataclasses
from typing import Any
import uuid

from nova_snap.api.views import server as server_view
from nova_snap.objects import host_details

Json = dict[str, Any]

#: The id of the only hypervisor, before ids were uuids.
FIRST = 1


@dataclasses.dataclass(frozen=True)
class HypervisorView:
    """A view of the hypervisor of a host and its servers.

    :ivar minor: the second number of the microversion.
    """

    minor: int
    host: host_details.HostDetails
    servers: Sequence[server_view.Server]
    shows_servers: bool = False

    @property
    def identity(self) -> int | str:
        """The id: a number, and since 2.53 a uuid."""
        if self.minor < 53:
            return FIRST
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, self.host.hostname))

    def summary(self) -> Json:
        """Return an item of ``GET /os-hypervisors``."""
        document: Json = {
            'id': self.identity,
            'hypervisor_hostname': self.host.hostname,
            'state': 'up',
            'status': 'enabled',
        }
        # Before 2.75 an empty list was left out.
        if self.shows_servers and (self.servers or self.minor >= 75):
            document['servers'] = [
                {
                    'name': server.details.domain_name,
                    'uuid': server.details.instance.uuid,
                }
                for server in self.servers
            ]
        return document

    def detailed(self) -> Json:
        """Return an item of ``GET /os-hypervisors/detail``."""
        document = {
            **self.summary(),
            'hypervisor_type': self.host.hypervisor,
            'hypervisor_version': self.host.version,
            'host_ip': None,
            'service': {
                'id': self.identity,
                'host': self.host.hostname,
                'disabled_reason': None,
            },
        }
        if self.minor >= 88:
            return {**document, 'uptime': None}
        return {**document, **self._resources()}

    def _resources(self) -> Json:
        """Return the resources, which 2.88 has removed.

        Disk space belongs to no place that is known here: Nova's unknown
        value of what is required is 0.  Nova's schemas allow null for some of
        it; clients that know the API by its reference do not.
        """
        flavors = [
            server.details.flavor
            for server in self.servers
            if server.details.power_state.is_active
        ]
        memory_used = sum(flavor.memory_mb for flavor in flavors)
        return {
            'vcpus': self.host.cpus,
            'vcpus_used': sum(flavor.vcpus for flavor in flavors),
            'memory_mb': self.host.memory_mb,
            'memory_mb_used': memory_used,
            'free_ram_mb': self.host.memory_mb - memory_used,
            'local_gb': 0,
            'local_gb_used': 0,
            'free_disk_gb': 0,
            'disk_available_least': None,
            'running_vms': len(flavors),
            'current_workload': 0,
            'cpu_info': {} if self.minor >= 28 else '',
        }
