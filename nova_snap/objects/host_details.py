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
"""A host of instances, as plain data."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class HostDetails:
    """What is known of a host.

    ``version`` is the hypervisor's, as Nova writes it: 7 002 022 is 7.2.22.
    ``memory_mb`` is in MiB.
    """

    hostname: str
    hypervisor: str
    version: int
    cpus: int
    memory_mb: int
