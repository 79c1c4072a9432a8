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

"""``python -m tests.lab``: a lab to try things in by hand.

``up`` starts a libvirtd and a guest that ticks, ``status`` shows them, and
``down`` removes both with all of their files.
"""

import argparse
import shutil
import sys

from tests.lab import base
from tests.lab import domain
from tests.lab import guest as guest_lib
from tests.lab import libvirtd as libvirtd_lib
from tests.lab import paths
from tests.lab import root_disk

NAME = 'lab-guest'
#: So that a second "up" finds the guest of the first.
UUID = '1ab00000-0000-4000-8000-000000000001'
IMAGE_ID = '1ab00000-0000-4000-8000-000000000002'


def _guest(libvirtd: libvirtd_lib.Libvirtd) -> guest_lib.Guest:
    """Return the guest of this lab, which need not exist yet."""
    disk = root_disk.overlay_paths(guest_lib.disks_directory(libvirtd), NAME)
    return base.new_guest(
        libvirtd,
        disk=disk,
        name=NAME,
        uuid=UUID,
        agent=True,
        metadata=domain.NovaMetadata(NAME, IMAGE_ID),
    )


def up(libvirtd: libvirtd_lib.Libvirtd) -> int:
    """Start what does not run."""
    libvirtd.state.mkdir(parents=True, exist_ok=True)
    print(f'Starting libvirtd in {libvirtd.state} ...', flush=True)
    libvirtd.start()
    guest = _guest(libvirtd)
    if not guest.spec.disk.path.exists():
        directory = guest_lib.disks_directory(libvirtd)
        root_disk.make(directory, root_disk.Kind.OVERLAY, NAME)
    if guest.state() in ('missing', 'shut off'):
        print('Booting a guest ...', flush=True)
        guest.start()
    guest.wait_until_up()
    return status(libvirtd)


def down(libvirtd: libvirtd_lib.Libvirtd) -> int:
    """End and remove everything, the cache too where nobody else has a lab."""
    libvirtd.remove()
    base.remove_abandoned_labs()
    root = paths.root()
    if root.exists() and not list(root.glob('t[0-9]*')):
        shutil.rmtree(root)
    print('The lab is gone.')
    return 0


def status(libvirtd: libvirtd_lib.Libvirtd) -> int:
    """Say what runs; the exit code is 3 where nothing does."""
    if not libvirtd.is_running():
        print(f'There is no lab in {libvirtd.state}.')
        return 3
    guest = _guest(libvirtd)
    state = guest.state()
    ticking = 'ticking' if guest.is_ticking() else 'not ticking'
    print(f'libvirt  {libvirtd.uri}')
    print(f'guest    {guest.name} ({guest.uuid}): {state}, {ticking}')
    print(f'console  {guest.serial_log}')
    return 0


COMMANDS = {'up': up, 'down': down, 'status': status}


def main() -> int:
    """Run the command that was asked for; return its exit status."""
    parser = argparse.ArgumentParser(
        prog='python -m tests.lab', description=__doc__
    )
    parser.add_argument('command', choices=COMMANDS)
    arguments = parser.parse_args()
    libvirtd = libvirtd_lib.Libvirtd(paths.main_lab())
    return COMMANDS[arguments.command](libvirtd)


if __name__ == '__main__':
    sys.exit(main())
