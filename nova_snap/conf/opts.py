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

"""All options for oslo-config-generator and the documentation."""

import itertools
from typing import Any

from nova_snap.conf import api
from nova_snap.conf import base
from nova_snap.conf import cinder
from nova_snap.conf import glance
from nova_snap.conf import libvirt
from nova_snap.conf import snapshot


def list_opts() -> list[tuple[str, list[Any]]]:
    """Return (group, options) pairs, in the order of the sample file."""
    return list(
        itertools.chain.from_iterable(
            module.list_opts()
            for module in (base, snapshot, libvirt, glance, cinder, api)
        )
    )
