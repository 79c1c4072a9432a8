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

"""Snapshots of a disk in Ceph: ``tools/bench.sh --rbd``.

Open this file to see what is measured there.  Ceph, with logins, and two
Glances, with an rbd store and with a file store, are real, and run in a
network of their own; see ``network.py``.  The disk is a clone of an image in
Glance's pool, as those of Nova's servers are, and Nova's code makes the same
RBD snapshot, clone and flatten that nova-compute does.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import json
import os
import pathlib
import threading
import time
from typing import Self
import urllib.request

from tests.lab import base as lab_base
from tests.lab import ceph as ceph_lib
from tests.lab import domain
from tests.lab import glance as glance_lib
from tests.lab import guest as guest_lib
from tests.lab import libvirtd as libvirtd_lib
from tests.lab import rbd_images
from tests.lab import root_disk
from tools.bench import bench
from tools.bench import disks
from tools.bench import methods
from tools.bench import network
from tools.bench import rbd_methods
from tools.bench import report
from tools.bench import usage

GIB = disks.GIB

#: Bytes that Ceph may store.
CEPH_SIZE = 32 * GIB

_POOLS = (rbd_methods.DISKS, rbd_methods.IMAGES)

#: As in the tests, but Glance may read the disks: with ``rbd-later`` and
#: ``rbd-never`` its images depend on one.
USERS = {
    **{name: rbd_images.USERS[name] for name in ('nova', 'reader')},
    rbd_methods.GLANCE: {
        'mon': 'profile rbd',
        'osd': ', '.join(f'profile rbd pool={pool}' for pool in _POOLS),
    },
}

#: No hash of what is at a location: Glance would read all of the image, and
#: while the next one is measured.
NO_HASH = 'do_secure_hash = False\nshow_multiple_locations = True\n'

#: Zeros are not written, or a raw image would take its whole size.
RBD_STORE = f"""\
[DEFAULT]
enabled_backends = rbd:rbd
[glance_store]
default_backend = rbd
[rbd]
rbd_store_ceph_conf = {{ceph_conf}}
rbd_store_user = {rbd_methods.GLANCE}
rbd_store_pool = {rbd_methods.IMAGES}
rbd_thin_provisioning = True
"""

#: Seconds between two looks whether an image is active: at least, at most,
#: and as a part of what has passed.
LOOK_LEAST, LOOK_MOST, LOOK_PART = 0.02, 0.5, 0.02

#: Seconds until an image is active after its process has ended.
ACTIVE_TIMEOUT = 120.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class RbdRow(bench.Row):
    """What one snapshot of a disk in Ceph took.

    ``wall_s`` is the time until the image is active, and
    ``bytes_to_image_service`` is what passed between the program and Glance,
    both ways.

    :ivar process_s: seconds until the program has done all it does.
    :ivar ceph_bytes: what passed between Ceph and the program with those that
        it runs, both ways: librbd, qemu-img.
    :ivar qemu_bytes: the same of the guest's QEMU, with what the guest itself
        reads and writes.
    :ivar ceph_cpu_s: processor time of Ceph's daemons.
    """

    process_s: float
    ceph_bytes: int
    qemu_bytes: int
    ceph_cpu_s: float


def _megabytes(value: float) -> str:
    return f'{value / report.MB:.2f}'


#: What the table has besides.
COLUMNS: list[report.Column] = [
    ('process s', 'process_s', '{:.2f}'.format),
    ('Ceph MB', 'ceph_bytes', _megabytes),
    ('QEMU-Ceph MB', 'qemu_bytes', _megabytes),
    ('Ceph CPU s', 'ceph_cpu_s', '{:.1f}'.format),
]


@dataclasses.dataclass(frozen=True)
class RbdDisk(disks.Disk):
    """A disk in Ceph: a clone of an image that has the base's content."""

    def small(self) -> 'RbdDisk':
        """Return the disk with less content, and with less room for it."""
        return dataclasses.replace(
            self,
            base=self.base // 16,
            overlay=self.overlay // 16,
            virtual_size=GIB,
        )

    def make_in(self, ceph: ceph_lib.Ceph, directory: pathlib.Path) -> None:
        """Make the image and the clone, each named after the disk."""
        pieces = self.pieces()
        raw = self.make_base(directory, self.name, pieces)
        image = f'{rbd_methods.IMAGES}/{self.name}'
        clone = f'{rbd_methods.DISKS}/{self.name}'
        ceph.rbd('import', '--no-progress', raw, image)
        raw.unlink()
        ceph.rbd('snap', 'create', '--no-progress', f'{image}@snap')
        ceph.rbd('snap', 'protect', f'{image}@snap')
        ceph.rbd('clone', f'{image}@snap', clone)
        ceph.rbd('resize', '--no-progress', '--size', self._size(), clone)
        disks.write_at(
            disks.FILE_SYSTEM + self.base,
            self.overlay,
            pieces,
            raw,
            f'driver=raw,file.driver=rbd,file.pool={rbd_methods.DISKS},'
            f'file.image={self.name},file.conf={ceph.conf}',
        )

    def _size(self) -> str:
        return f'{self.virtual_size // disks.MIB}M'


#: 10 GiB with 2 GiB in use.
DISK = RbdDisk('rbd', content='os', base=GIB, overlay=GIB)


class RbdGlance(glance_lib.Glance):
    """A Glance with an rbd store, for which everybody is a service."""

    IDENTITY = 'service context'

    def __init__(self, directory: pathlib.Path, ceph: ceph_lib.Ceph) -> None:
        super().__init__(directory, extra=NO_HASH, address=network.GLANCE)
        self._ceph = ceph

    def _configure(self) -> None:
        super()._configure()
        with open(self.directory / 'glance-api.conf', 'a') as file:
            file.write(RBD_STORE.format(ceph_conf=self._ceph.conf))


class RbdBench(bench.Bench):
    """A libvirtd, Ceph and two Glances to measure with."""

    def __init__(self, libvirtd: libvirtd_lib.Libvirtd) -> None:
        super().__init__(libvirtd, glances=())
        self._networks = network.Networks(self._state)
        self._ceph = ceph_lib.Ceph(
            self._state / 'ceph', USERS, network.CEPH, CEPH_SIZE
        )
        self._glances = {
            'rbd': RbdGlance(self._state / 'glance-rbd', self._ceph),
            'file': glance_lib.Glance(
                self._state / 'glance-file',
                extra=NO_HASH,
                address=network.GLANCE,
            ),
        }
        self._stack = contextlib.ExitStack()
        self._more: dict[str, float] = {}

    def __enter__(self) -> Self:
        # Proxies that the host needs for the rest of the world.
        os.environ['no_proxy'] = os.environ['NO_PROXY'] = '*'
        bench.say('starting Ceph and Glance')
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._networks)
            stack.callback(self._ceph.stop)
            self._networks.storage.call(lambda: self._ceph.start([*_POOLS]))
            for glance in self._glances.values():
                stack.callback(glance.kill)
                self._networks.storage.call(glance.start)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def guests(
        self, disk: disks.Disk, count: int = 1
    ) -> Iterator[list[guest_lib.Guest]]:
        """Make a guest that ticks on such a disk."""
        if count != 1 or not isinstance(disk, RbdDisk):
            raise ValueError('there is one guest, on RBD')
        disk.make_in(self._ceph, self._state)
        nova = rbd_methods.NOVA
        login = rbd_images.LoginDisk(
            kind=root_disk.Kind.RAW,
            path=pathlib.Path(rbd_methods.DISKS, disk.name),
            format='raw',
            source_type='network',
            host=self._ceph.address,
            port=self._ceph.port,
            user=nova,
            secret=rbd_images.define_secret(self._libvirtd, self._ceph, nova),
        )
        guest = lab_base.new_guest(
            self._libvirtd,
            disk=login,
            tick_ms=10,
            metadata=domain.NovaMetadata(disk.name),
        )
        guest.start()
        try:
            guest.wait_until_up()
            yield [guest]
        finally:
            guest.remove()

    def measure(
        self,
        method: methods.Method,
        disk: disks.Disk,
        guests: list[guest_lib.Guest],
        run: int,
    ) -> list[bench.Row]:
        """Take a snapshot of the guest, and delete the image."""
        (row,) = super().measure(method, disk, guests, run)
        more = self._more
        values = {
            **dataclasses.asdict(row),
            'process_s': row.wall_s,
            'wall_s': more['active_s'],
            'bytes_to_image_service': more[network.TO_GLANCE.name],
            'ceph_bytes': more[network.TO_CEPH.name],
            'qemu_bytes': more[network.TO_QEMU.name],
            'ceph_cpu_s': more['ceph_cpu_s'],
            'other_cpu_s': row.other_cpu_s - more['ceph_cpu_s'],
        }
        return [RbdRow(**values)]

    def _write_config(
        self, method: methods.Method, state: pathlib.Path
    ) -> pathlib.Path:
        return method.write_config(
            state,
            self._libvirtd,
            self._glance_of(method),
            ceph_conf=self._ceph.conf,
        )

    def _glance_of(self, method: methods.Method) -> glance_lib.Glance:
        assert isinstance(method, rbd_methods.RbdMethod)
        return self._glances[method.store]

    def _worker(
        self, argv: list[str], state: pathlib.Path, number: int
    ) -> bench.Worker:
        start = super()._worker
        return self._networks.program.call(lambda: start(argv, state, number))

    @contextlib.contextmanager
    def _watched_besides(self, method: methods.Method) -> Iterator[None]:
        """Count what only these rows have, until the image is active."""
        before, cpu = self._networks.counted(), self._ceph_cpu()
        with ActiveWatch(self._glance_of(method).url) as watch:
            yield
            watch.wait()
        self._more = {
            'active_s': watch.seconds,
            'ceph_cpu_s': self._ceph_cpu() - cpu,
            **{
                name: count - before[name]
                for name, count in self._networks.counted().items()
            },
        }

    def _ceph_cpu(self) -> float:
        ceph = self._ceph
        pids = [d.pid for d in (ceph.monitor, ceph.manager, ceph.osd)]
        return sum(usage.cpu_seconds(pid) for pid in pids if pid)


class ActiveWatch:
    """Notes when the image is active while its block runs.

    A program may end earlier, or have more to do.  Glance is asked for it,
    ever more seldom: what that costs is the same for each method.

    :ivar seconds: from the begin of the block.
    """

    def __init__(self, url: str) -> None:
        self._url = f'{url}/v2/images?status=active&name={bench.IMAGE}'
        self._over = threading.Event()
        self._active = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.seconds = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._thread.join()

    def wait(self) -> None:
        """Wait until it is active.

        :raises WorkerFailed: it is not in time.
        """
        if not self._active.wait(ACTIVE_TIMEOUT):
            raise bench.WorkerFailed('the image is not active')

    def _watch(self) -> None:
        begin = time.monotonic()
        pause = LOOK_LEAST
        while not self._over.wait(pause):
            with urllib.request.urlopen(self._url) as answer:
                found = json.load(answer)['images']
            self.seconds = time.monotonic() - begin
            if found:
                self._active.set()
                return
            pause = LOOK_PART * self.seconds
            pause = min(max(pause, LOOK_LEAST), LOOK_MOST)
