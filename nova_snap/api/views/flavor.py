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
"""Nova's JSON of flavors, in every microversion.

https://docs.openstack.org/api-ref/compute/#flavors
"""

import dataclasses
from typing import Any

from nova_snap.api.views import server as server_view
from nova_snap.objects import instance as instance_lib


@dataclasses.dataclass(frozen=True)
class FlavorView:
    """A view of flavors; ``minor`` is that of the microversion.

    :ivar shows_extra_specs: the view has them, where the version does.
    """

    minor: int
    link: server_view.Link
    shows_extra_specs: bool = True

    def summary(
        self, identity: str, flavor: instance_lib.Flavor
    ) -> dict[str, Any]:
        """Return an item of ``GET /flavors``."""
        document: dict[str, Any] = {
            'id': identity,
            'name': flavor.name,
            'links': server_view.links(self.link, 'flavors', identity),
        }
        if self.minor >= 55:
            document['description'] = None
        return document

    def detailed(
        self, identity: str, flavor: instance_lib.Flavor
    ) -> dict[str, Any]:
        """Return an item of ``GET /flavors/detail``."""
        no_swap: int | str = 0 if self.minor >= 75 else ''
        document = {
            **self.summary(identity, flavor),
            'vcpus': flavor.vcpus,
            'ram': flavor.memory_mb,
            'disk': flavor.root_gb,
            'swap': flavor.swap_mb or no_swap,
            'OS-FLV-EXT-DATA:ephemeral': flavor.ephemeral_gb,
            'OS-FLV-DISABLED:disabled': False,
            'os-flavor-access:is_public': True,
            'rxtx_factor': 1.0,
        }
        if self.minor >= 61 and self.shows_extra_specs:
            document['extra_specs'] = dict(flavor.extra_specs)
        return document
