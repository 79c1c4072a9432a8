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

"""The same snapshots in a whole Nova: ``tools/bench.sh --nova``.

Open this file to see what is measured there.  The cloud is that of
``tests/openstack``, nothing in it is stood in for: a request goes by way of
nova-api and RabbitMQ to nova-compute, which has unmodified Nova's driver or
this project's; its restart with the other one is all that differs.

What is counted is nova-compute with the programs that it runs, its privsep
helper and qemu-img, from just before the request until its log says that the
snapshot is over.  After each restart one snapshot is taken that is not
counted, since the first one has modules to load, a helper to start and a token
to get.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import datetime
import os

from tests.lab import guest as guest_lib
from tests.openstack import cloud as cloud_lib
from tests.openstack import layout as layout_lib
from tests.openstack import mode as mode_lib
from tests.openstack import seed
from tests.openstack import server as server_lib
from tools.bench import bench
from tools.bench import disks
from tools.bench import glance_options
from tools.bench import methods
from tools.bench import nova_log
from tools.bench import report
from tools.bench import usage

#: Seconds until a snapshot is over, at the very most.
TIMEOUT = 1800.0

#: For the kernel of a server: as in the tests, but with a tick every 10 ms.
COMMAND_LINE = seed.PROPERTIES['os_command_line'] + ' tick=10'

#: The event of the action ``createImage`` that nova-compute is asked for.
EVENT = 'compute_snapshot_instance'


@dataclasses.dataclass(frozen=True, kw_only=True)
class NovaRow(bench.Row):
    """What one snapshot took of nova-compute.

    ``wall_s`` is the time between two lines of nova-compute's log; see
    ``nova_log.py``.

    :ivar request_s: seconds from the user's request to the second of them.
    :ivar event_s: from start to finish of the event in the server's diary, in
        whole seconds.  Nova 34 finishes it when it has given the snapshot to
        a thread, so it says how long a request waits, not a snapshot.
    :ivar idle_rss_bytes: what nova-compute and its helper have before it.
    """

    request_s: float
    event_s: float
    idle_rss_bytes: int


#: What the table has besides.
COLUMNS: list[report.Column] = [
    ('request s', 'request_s', '{:.1f}'.format),
    ('event s', 'event_s', '{:.0f}'.format),
    (
        'idle RSS MB',
        'idle_rss_bytes',
        lambda value: f'{value / report.MB:.0f}',
    ),
]


@contextlib.contextmanager
def running() -> Iterator['NovaCloud']:
    """Start a cloud for the block."""
    cloud_lib.remove_abandoned_clouds()
    cloud = cloud_lib.Cloud(layout_lib.process_state())
    try:
        # The tests wrap functions of nova-compute to stop in them; here it
        # has to be as it is.
        (cloud.compute.gates.folder / 'steps.json').write_text('{}')
        bench.say('starting a cloud')
        cloud.start(mode_lib.UNMODIFIED)
        yield NovaCloud(cloud)
    finally:
        cloud.remove()


class NovaCloud:
    """A cloud to measure with; it has one server at a time."""

    def __init__(self, cloud: cloud_lib.Cloud) -> None:
        self._cloud = cloud
        self._compute = cloud.compute
        self._connection = cloud.connection
        #: Those that it runs with.
        self._glance = glance_options.DEFAULT

    # A server -------------------------------------------------------------

    @contextlib.contextmanager
    def guests(
        self, disk: disks.Disk, count: int = 1
    ) -> Iterator[list[guest_lib.Guest]]:
        """Make a server that ticks on such a disk."""
        if count != 1:
            raise ValueError('there is one server at a time')
        pieces = disk.pieces()
        name = disk.name.replace(' ', '-')
        base = disk.make_base(self._cloud.layout.folder('bench'), name, pieces)
        seed.upload(
            self._connection,
            name,
            base,
            'raw',
            kernel_id=self._image_id('kernel'),
            ramdisk_id=self._image_id('ramdisk'),
            **seed.PROPERTIES | {'os_command_line': COMMAND_LINE},
        )
        base.unlink()
        server = self._boot(name, disk)
        try:
            self._wait_until_up(server)
            # As if the guest had written it, but in seconds.
            server.act('stop', 'SHUTOFF')
            disk.fill(server.disk, pieces)
            server.act('start', 'ACTIVE')
            self._wait_until_up(server)
            yield [server]
        finally:
            server.delete()

    def _boot(self, image: str, disk: disks.Disk) -> server_lib.Server:
        compute = self._connection.compute
        flavor = compute.create_flavor(
            name=image, ram=160, vcpus=1, disk=disk.virtual_size // disks.GIB
        )
        answer = compute.create_server(
            name='bench',
            image_id=self._image_id(image),
            flavor_id=flavor.id,
            networks='none',
        )
        return server_lib.Server(self._cloud, answer.id)

    def _image_id(self, name: str) -> str:
        image = self._connection.image.find_image(name, ignore_missing=False)
        return str(image.id)

    @staticmethod
    def _wait_until_up(server: server_lib.Server) -> None:
        server.wait_for_status('ACTIVE')
        # Its numbers begin anew with each boot.
        server.wait_for(server.is_ticking, 'tick', server_lib.TIMEOUT)

    # A snapshot -----------------------------------------------------------

    def measure(
        self,
        method: methods.Method,
        disk: disks.Disk,
        guests: list[guest_lib.Guest],
        run: int,
    ) -> list[NovaRow]:
        """Take a snapshot of the server, and delete the image."""
        (server,) = guests
        assert isinstance(server, server_lib.Server)
        mode = self._mode(method)
        if self._glance != method.glance or self._compute.mode != mode:
            self._run_glance(method.glance)
            self._compute.run(mode)
            self._snapshot(server)
        # What the run before has left to be written is not this one's.
        os.sync()
        row = self._watched(server)
        return [
            dataclasses.replace(
                row,
                method=method.name,
                disk=disk.name,
                run=run,
                glance=method.glance,
            )
        ]

    def _run_glance(self, name: str) -> None:
        """Let Glance run with these options; restart it if need be."""
        if self._glance != name:
            options, glance = glance_options.ALL[name], self._cloud.glance
            glance.options = {
                'DEFAULT': dict(options.main),
                'file': dict(options.store),
            }
            glance.restart()
            self._glance = name

    def _mode(self, method: methods.Method) -> mode_lib.Mode:
        options = {
            # Not by way of the proxy, by which tests break uploads.
            'glance.endpoint_override': self._cloud.layout.url('glance'),
            'libvirt.snapshot_compression': str(bool(method.compression)),
        }
        if method.live_method is None:
            return mode_lib.UNMODIFIED.with_options(options)
        options['nova_snap.compression'] = 'off'
        if method.compression:
            options['nova_snap.compression_type'] = method.compression
        return mode_lib.Mode(method=method.live_method).with_options(options)

    def _watched(self, server: server_lib.Server) -> NovaRow:
        pids = usage.session(self._compute_pid())
        snapshots = self._cloud.layout.instances / 'snapshots'
        idle = usage.resident_bytes(pids)
        before = self._cpu(server)
        with (
            server.gap_watch() as gap,
            usage.Watch(pids, snapshots) as watch,
        ):
            requested = datetime.datetime.now()
            image_id, times = self._take(server)
        cpu = self._cpu(server) - before
        return NovaRow(
            method='',
            disk='',
            run=0,
            wall_s=times.seconds,
            cpu_s=cpu.workers,
            peak_rss_bytes=watch.peak_rss,
            temp_disk_bytes=watch.peak_disk,
            bytes_to_image_service=self._taken(server, image_id),
            guest_gap_ms=gap.result.longest_ms,
            qemu_cpu_s=cpu.qemu,
            glance_cpu_s=cpu.glance,
            other_cpu_s=cpu.host - cpu.workers - cpu.qemu - cpu.glance,
            request_s=(times.end - requested).total_seconds(),
            event_s=self._event_seconds(server),
            idle_rss_bytes=idle,
        )

    def _snapshot(self, server: server_lib.Server) -> None:
        """Take one that is not counted."""
        image_id, _ = self._take(server)
        self._taken(server, image_id)

    def _take(self, server: server_lib.Server) -> tuple[str, nova_log.Times]:
        """Ask for one and wait for its end, without asking any API for it."""
        begin = self._compute.log_size()
        image = self._connection.compute.create_server_image(
            server.id, 'bench'
        )
        found: list[nova_log.Times] = []

        def ended() -> bool:
            log = self._compute.log_since(begin)
            times = nova_log.times(log, server.id)
            found.extend([times] if times else [])
            return bool(found)

        self._compute.daemon.wait_until(ended, TIMEOUT)
        return str(image.id), found[0]

    def _taken(self, server: server_lib.Server, image_id: str) -> int:
        """Delete the image, and return its size."""
        server.wait_until(lambda: server.task_state() is None, 'idleness')
        image = self._connection.image.get_image(image_id)
        if image.status != 'active':
            raise nova_log.SnapshotFailed(f'{image_id} is {image.status}')
        self._connection.image.delete_image(image_id)
        return int(image.size)

    def _event_seconds(self, server: server_lib.Server) -> float:
        compute = self._connection.compute
        # The newest comes first.
        action = next(
            each
            for each in compute.server_actions(server.id)
            if each.action == 'createImage'
        )
        whole = compute.get_server_action(action.request_id, server.id)
        (event,) = (each for each in whole.events if each['event'] == EVENT)
        start, finish = (
            datetime.datetime.fromisoformat(event[name])
            for name in ('start_time', 'finish_time')
        )
        return (finish - start).total_seconds()

    # What it costs --------------------------------------------------------

    def _cpu(self, server: server_lib.Server) -> bench.Cpu:
        with server.domain() as dom:
            qemu = bench.qemu_pid(self._cloud.libvirtd, dom.name())
        glance = self._cloud.glance.api.daemon.pid
        assert glance is not None
        return bench.Cpu(
            usage.session_cpu_seconds(self._compute_pid()),
            usage.cpu_seconds(qemu),
            usage.session_cpu_seconds(glance),
            usage.host_cpu_seconds(),
        )

    def _compute_pid(self) -> int:
        pid = self._compute.daemon.pid
        assert pid is not None
        return pid
