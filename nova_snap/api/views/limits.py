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
"""Nova's JSON of limits, in every microversion.

There are no quotas here, so all limits are Nova's -1: unlimited.
https://docs.openstack.org/api-ref/compute/#limits-limits
"""

from collections.abc import Sequence
from typing import Any

from nova_snap.api.views import server as server_view

_UNLIMITED = -1

#: Names of limits; the microversion that has removed them, if one has.
_MAXIMA = {
    'maxImageMeta': 39,
    'maxPersonality': 57,
    'maxPersonalitySize': 57,
    'maxSecurityGroups': 36,
    'maxSecurityGroupRules': 36,
    'maxServerMeta': None,
    'maxServerGroups': None,
    'maxServerGroupMembers': None,
    'maxTotalCores': None,
    'maxTotalFloatingIps': 36,
    'maxTotalInstances': None,
    'maxTotalKeypairs': None,
    'maxTotalRAMSize': None,
}

#: What there is none of here.
_UNUSED = {
    'totalFloatingIpsUsed': 36,
    'totalSecurityGroupsUsed': 36,
    'totalServerGroupsUsed': None,
}


def shown(minor: int, servers: Sequence[server_view.Server]) -> dict[str, Any]:
    """Return what ``GET /limits`` has for a project with these servers."""
    flavors = [server.details.flavor for server in servers]
    values = [(_MAXIMA, _UNLIMITED), (_UNUSED, 0)]
    absolute = {
        name: value
        for names, value in values
        for name, removed in names.items()
        if removed is None or minor < removed
    }
    absolute |= {
        'totalInstancesUsed': len(flavors),
        'totalCoresUsed': sum(flavor.vcpus for flavor in flavors),
        'totalRAMUsed': sum(flavor.memory_mb for flavor in flavors),
    }
    return {'limits': {'rate': [], 'absolute': absolute}}
