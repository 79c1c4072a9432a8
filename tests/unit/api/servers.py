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
"""Servers as the views get them."""

import datetime
from typing import Any

from nova_snap.api.views import server as server_view
from nova_snap.objects import instance as instance_lib
from nova_snap.objects import instance_details
from nova_snap.objects import power_state
from tests.unit import base

NOW = datetime.datetime(2026, 3, 4, 5, 6, 7, tzinfo=datetime.UTC)
CREATED = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)

IMAGE = '2f0c3bd5-1b7a-4f4e-9d0e-52f6a7f2f2a9'
VOLUME = '7d4a11c8-74ab-4a8c-a0d3-3c3f1b8a3a55'

#: Power states, and whether there is a file of saved memory.
STATES = {
    'running': (power_state.PowerState.RUNNING, False),
    'paused': (power_state.PowerState.PAUSED, False),
    'saved': (power_state.PowerState.SHUTDOWN, True),
    'asleep': (power_state.PowerState.SUSPENDED, False),
    'shut off': (power_state.PowerState.SHUTDOWN, False),
    'crashed': (power_state.PowerState.CRASHED, False),
    'unknown': (power_state.PowerState.NOSTATE, False),
}

PLAIN = instance_details.InstanceDetails(
    instance=instance_lib.Instance(uuid=base.SERVER, name='web_1 é漢'),
    domain_name='web_1 é漢',
    flavor=instance_lib.Flavor('2-cpus-256-mib', 256, 0, vcpus=2),
    power_state=power_state.PowerState.RUNNING,
)

NOVAS = instance_details.InstanceDetails(
    instance=instance_lib.Instance(
        uuid=base.SERVER,
        name='Büro-サーバ 1',
        project_id='9a1d',
        user_id='4fbe',
        image_ref=IMAGE,
    ),
    domain_name='instance-0000002a',
    flavor=instance_lib.Flavor(
        'm1.tiny',
        256,
        2,
        id='42',
        vcpus=1,
        swap_mb=64,
        ephemeral_gb=1,
        extra_specs={'hw:mem_page_size': 'any'},
    ),
    power_state=power_state.PowerState.RUNNING,
    created_at=CREATED,
    updated_at=NOW,
    description='an office',
    addresses=(
        instance_details.Address(
            'br-int', '10.0.0.5', 4, 'fa:16:3e:11:22:33', 'fixed'
        ),
        instance_details.Address(
            'br-int', 'fd00::5', 6, 'fa:16:3e:11:22:33', 'fixed'
        ),
        instance_details.Address(
            'br-ex', '192.0.2.7', 4, 'fa:16:3e:11:22:34', 'floating'
        ),
    ),
    volumes=(VOLUME,),
    root_device='/dev/vda',
    has_config_drive=True,
)


def server(
    details: instance_details.InstanceDetails = NOVAS, **fields: Any
) -> server_view.Server:
    """Return a server on a host."""
    project_id = details.instance.project_id or 'default'
    return server_view.Server(details, project_id, 'host-1', **fields)


def link(*parts: str) -> str:
    """Return a URL of a service at an address."""
    return '/'.join(('http://127.0.0.1:8774', *parts))


def view(minor: int, is_admin: bool = True) -> server_view.ServerView:
    """Return the view in version 2.``minor``."""
    return server_view.ServerView(minor, link, is_admin, is_admin, True, NOW)
