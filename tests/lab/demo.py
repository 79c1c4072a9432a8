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

"""The demo: a real guest, snapshots of it, and a guest from a snapshot.

    python -m tests.lab.demo [--down]

``tools/demo.sh`` sets up what this needs and runs it.  ``demo_api.py`` is the
demo of the service.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import urllib.request
import uuid

from tests.lab import daemon
from tests.lab import domain
from tests.lab import gap_watch
from tests.lab import glance as glance_lib
from tests.lab import guest as guest_lib
from tests.lab import libvirtd as libvirtd_lib
from tests.lab import paths
from tests.lab import root_disk

MIB = 1 << 20

CONFIGURATION = """\
[DEFAULT]
state_path = {state}/nova_snap
[libvirt]
connection_uri = {uri}
snapshot_compression = {compression}
[workarounds]
disable_libvirt_livesnapshot = {cold}
[snapshot]
image_service = glance
reserved_space_mb = 100
live_method = {method}
{glance}"""


@dataclasses.dataclass(frozen=True)
class Way:
    """One way of taking a snapshot; its name is the configuration's."""

    name: str
    title: str
    method: str = 'mirror'
    compression: bool = False
    cold: bool = False


WAYS = (
    Way('mirror', 'live, copied to a delta file (live_method = mirror)'),
    Way(
        'pull',
        'live, streamed and compressed in one pass (live_method = pull)',
        method='pull',
        compression=True,
    ),
    Way('cold', 'cold: the guest is suspended meanwhile', cold=True),
)


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the summary."""

    way: str
    image_id: str
    size: int
    gap: gap_watch.Result


class Demo:
    """Everything lies in one directory."""

    def __init__(self, state: pathlib.Path) -> None:
        self.state = state
        self.libvirtd = libvirtd_lib.Libvirtd(state)
        self.glance = glance_lib.Glance(state / 'glance')
        #: Of the demo of the service.
        self.service = daemon.Daemon(state / 'nova-snap-api.out')

    def start_libvirtd(self) -> None:
        """Start a libvirtd that no other program knows."""
        self.state.mkdir(parents=True, exist_ok=True)
        say('Starting a libvirtd of its own')
        self.libvirtd.start()

    def run(self) -> None:
        """From nothing to the summary."""
        self.start_libvirtd()
        say('Starting a Glance of its own, on loopback')
        if not self.glance.adopt():
            self.glance.start()
            self.glance.leave_running()
        guest = self.guest()
        rows = [self.snapshot(guest, way) for way in WAYS]
        self.boot(rows[0])
        self.summary(guest, rows)

    def down(self) -> None:
        """End and remove all of it."""
        self.service.stop()
        self.glance.end_left()
        self.libvirtd.remove()
        shutil.rmtree(self.state, ignore_errors=True)
        with contextlib.suppress(OSError):
            shutil.rmtree(paths.cache())
            paths.root().rmdir()
        print('The demo is gone.')

    def guest(self) -> guest_lib.Guest:
        """Start a guest that writes about a hundred times a second."""
        directory = guest_lib.disks_directory(self.libvirtd)
        disk = root_disk.overlay_paths(directory, 'demo')
        spec = domain.Spec(
            disk=disk,
            name='demo',
            uuid=self._kept_uuid('demo'),
            agent=True,
            tick_ms=10,
        )
        guest = guest_lib.Guest(self.libvirtd, spec)
        if not disk.path.exists():
            say('Making a disk with 64 MiB of data on it')
            files = {
                '/data': os.urandom(32 * MIB) + bytes(range(256)) * 131072
            }
            root_disk.make(
                directory, root_disk.Kind.OVERLAY, 'demo', files=files
            )
        if guest.state() in ('missing', 'shut off'):
            say('Booting a guest that writes all the time')
            guest.start()
        guest.wait_until_up()
        print(f'It has written {guest.ticks()} times.')
        return guest

    def snapshot(self, guest: guest_lib.Guest, way: Way) -> Row:
        """Take a snapshot by the command, and watch the guest meanwhile."""
        say(f'A snapshot, {way.title}')
        config = self.configure(way)
        with guest.gap_watch() as watch:
            command = (
                *('image-create', '--poll', guest.name, f'demo-{way.name}'),
                *('-f', 'json'),
            )
            image_id = json.loads(nova_snap(config, *command))['id']
        print(nova_snap(config, 'image-show', image_id, '--fit-width'))
        return Row(way.name, image_id, self.size(image_id), watch.result)

    def configure(self, way: Way) -> pathlib.Path:
        """Write the configuration for one way; return its path."""
        config = self.state / f'{way.name}.conf'
        config.write_text(
            CONFIGURATION.format(
                state=self.state,
                uri=self.libvirtd.uri,
                compression=way.compression,
                cold=way.cold,
                method=way.method,
                glance=self.glance.nova_snap_conf(),
            )
        )
        return config

    def size(self, image_id: str) -> int:
        """Return the size of an image in Glance, in bytes."""
        with urllib.request.urlopen(self.image_url(image_id)) as answer:
            size: int = json.load(answer)['size']
        return size

    def image_url(self, image_id: str) -> str:
        """Where Glance has an image."""
        return f'{self.glance.url}/v2/images/{image_id}'

    def _kept_uuid(self, name: str) -> str:
        """Return the UUID by which a second run finds the guest of the first.

        Not that of another demo on this host: the lock of a guest is by UUID.
        """
        file = self.state / f'{name}.uuid'
        if not file.exists():
            file.write_text(str(uuid.uuid4()))
        return file.read_text()

    def boot(self, row: Row) -> None:
        """Boot a second guest from an image that Glance has."""
        say(f'Booting a second guest from the image "demo-{row.way}"')
        path = guest_lib.disks_directory(self.libvirtd) / 'second.qcow2'
        disk = root_disk.RootDisk(root_disk.Kind.QCOW2, path, 'qcow2')
        second = guest_lib.Guest(
            self.libvirtd,
            domain.Spec(
                disk=disk,
                name='demo-second',
                uuid=self._kept_uuid('demo-second'),
            ),
        )
        second.remove()  # what an interrupted demo may have left
        url = f'{self.image_url(row.image_id)}/file'
        with urllib.request.urlopen(url) as data, path.open('wb') as file:
            shutil.copyfileobj(data, file)
        second.start()
        second.wait_until_up()
        for line in second.console().splitlines():
            if line.startswith('FOUND'):
                print(
                    f'It found what the first one had written: {line.strip()}'
                )
        second.remove()

    def summary(self, guest: guest_lib.Guest, rows: list[Row]) -> None:
        """Print a summary, and commands to try."""
        with guest.gap_watch() as watch:
            guest.wait_for_ticks(200)
        say('Summary')
        quiet = watch.result.longest_ms
        print('                      longest gap between two writes    image')
        print(f'no snapshot           {quiet:8.0f} ms')
        for row in rows:
            print(
                f'{row.way:<20}  {row.gap.longest_ms:8.0f} ms'
                f'            {row.size / MIB:18.1f} MiB'
            )
        config = shlex.quote(str(self.state / 'pull.conf'))
        print(f"""
Live snapshots do not stop the guest; the cold one has to. Try next:

  .venv/bin/nova-snap --config-file {config} explain demo
  .venv/bin/nova-snap --config-file {config} image-create --poll demo mine
  .venv/bin/nova-snap --config-file {config} export demo -o /tmp/demo.qcow2
  .venv/bin/nova-snap --config-file {config} image-list
  tail -f {guest.serial_log}
  tools/demo.sh --down""")


def say(text: str) -> None:
    """Print a heading."""
    print(f'\n==> {text}', flush=True)


def nova_snap(config: pathlib.Path, *arguments: str) -> str:
    """Run the command; what it shows on standard error is seen."""
    program = pathlib.Path(sys.executable).with_name('nova-snap')
    print(f'$ nova-snap {shlex.join(arguments)}', flush=True)
    argv = [str(program), '--config-file', str(config), *arguments]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def main() -> int:
    """Run the demo, or remove it; return the exit status."""
    parser = argparse.ArgumentParser(prog='tools/demo.sh')
    parser.add_argument(
        '--down', action='store_true', help='end and remove all of the demo'
    )
    demo = Demo(paths.root() / 'demo')
    if parser.parse_args().down:
        demo.down()
        return 0
    try:
        demo.run()
    except subprocess.CalledProcessError as error:
        print(f'It failed with status {error.returncode}.', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
