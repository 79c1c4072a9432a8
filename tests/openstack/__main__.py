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

"""``python -m tests.openstack``: a cloud to try things in by hand.

``up`` starts it and says how to use it, ``down`` removes it.
"""

import argparse
import dataclasses
import os
import sys
import time

from tests.openstack import catalog
from tests.openstack import cloud as cloud_lib
from tests.openstack import environment
from tests.openstack import layout as layout_lib
from tests.openstack import mode as mode_lib


def up(cloud: cloud_lib.Cloud, mode: mode_lib.Mode) -> int:
    """Start it, and stay as nova-compute's way to Glance until Ctrl-C."""
    begin = time.monotonic()
    cloud.start(mode)
    print(f'Up in {time.monotonic() - begin:.0f} s: {mode}')
    for name, value in catalog.client_options(cloud.layout).items():
        print(f'export OS_{name.upper()}={value}')
    print(f'export PATH={environment.root() / "bin"}:$PATH')
    print(f'logs: {cloud.layout.log}\nCtrl-C removes it.', flush=True)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return down(cloud)


def down(cloud: cloud_lib.Cloud) -> int:
    """Remove it."""
    cloud.remove()
    print('The cloud is gone.')
    return 0


def main() -> int:
    """Start or stop the cloud; return the exit status."""
    parser = argparse.ArgumentParser(
        prog='python -m tests.openstack', description=__doc__
    )
    parser.add_argument('command', choices=('up', 'down'))
    parser.add_argument('--driver', default=mode_lib.OURS)
    parser.add_argument('--method', default='mirror')
    parser.add_argument('--backend', default='threading')
    arguments = parser.parse_args()
    os.umask(0o022)
    cloud = cloud_lib.Cloud(layout_lib.main_state())
    if arguments.command == 'down':
        return down(cloud)
    fields = [field.name for field in dataclasses.fields(mode_lib.Mode)]
    chosen = {k: v for k, v in vars(arguments).items() if k in fields}
    return up(cloud, mode_lib.Mode(**chosen))


if __name__ == '__main__':
    sys.exit(main())
