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

"""One measured snapshot: a worker is started, told to begin, and watched."""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
from typing import Self
import urllib.request

from tests.lab import base as lab_base
from tests.lab import domain
from tests.lab import glance as glance_lib
from tests.lab import guest as guest_lib
from tests.lab import libvirtd as libvirtd_lib
from tools.bench import disks
from tools.bench import glance_options
from tools.bench import methods
from tools.bench import profile
from tools.bench import usage

#: The name of the images.
IMAGE = 'bench'


class WorkerFailed(Exception):
    """A worker ended without an image; the message has what it said."""


@dataclasses.dataclass(frozen=True)
class Row:
    """What one snapshot took: seconds, bytes, milliseconds.

    ``cpu_s``, ``peak_rss_bytes`` and ``temp_disk_bytes`` are those of the
    program that takes the snapshot with the programs that it runs.
    ``qemu_cpu_s`` includes what the emulated guest itself needs, and
    ``other_cpu_s`` is what the host did besides: the noise.  ``at_once`` is
    how many snapshots ran at the same time; ``glance`` is a name of
    ``glance_options.ALL``.
    """

    method: str
    disk: str
    run: int
    wall_s: float
    cpu_s: float
    peak_rss_bytes: int
    temp_disk_bytes: int
    bytes_to_image_service: int
    guest_gap_ms: float
    qemu_cpu_s: float
    glance_cpu_s: float
    other_cpu_s: float
    at_once: int = 1
    glance: str = glance_options.DEFAULT


class Worker:
    """A process that takes one snapshot when it is told to."""

    def __init__(
        self, argv: list[str], state: pathlib.Path, number: int
    ) -> None:
        self._log = state / f'worker-{number}.log'
        with self._log.open('wb') as log:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=methods.TOP,
                # As a package's service would have it.
                env={**os.environ, 'PYTHONPATH': ''},
                text=True,
            )
        self._hear()

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def begin(self, guest: guest_lib.Guest, name: str) -> None:
        """Let it take the snapshot."""
        assert self._process.stdin is not None
        order = {'server': guest.uuid, 'domain': guest.name, 'name': name}
        self._process.stdin.write(json.dumps(order) + '\n')
        self._process.stdin.flush()

    def made(self) -> str:
        """Wait until it is made: the id of an image, or a directory."""
        return self._hear()

    def end(self) -> None:
        """Let it end, or end it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.communicate(timeout=10)
        self._process.kill()
        self._process.wait()

    def _hear(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise WorkerFailed(self._said())
        return line.strip()

    def _said(self) -> str:
        logs = [self._log, *self._log.parent.glob('*.log')]
        return '\n'.join(
            path.read_text(errors='replace')[-6000:]
            for path in dict.fromkeys(logs)
        )


class Bench:
    """A libvirtd to measure with, and a Glance for each set of options.

    :param glances: names of ``glance_options.ALL``.
    :param busy: processes in each guest that use its processor all the time.
    :param is_profiling: print where the processor time goes.
    """

    def __init__(
        self,
        libvirtd: libvirtd_lib.Libvirtd,
        glances: Sequence[str],
        busy: int = 0,
        is_profiling: bool = False,
    ) -> None:
        self._busy = busy
        self._is_profiling = is_profiling
        self._state = libvirtd.state / 'bench'
        self._libvirtd = libvirtd
        self._glances = {name: self._new_glance(name) for name in glances}

    def _new_glance(self, name: str) -> glance_lib.Glance:
        options = glance_options.ALL[name]
        return glance_lib.Glance(
            self._state / f'glance-{name}',
            extra=glance_options.lines(options.main),
            store=glance_options.lines(options.store),
        )

    def __enter__(self) -> Self:
        for glance in self._glances.values():
            glance.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        for glance in self._glances.values():
            glance.stop()

    @contextlib.contextmanager
    def guests(
        self, disk: disks.Disk, count: int = 1
    ) -> Iterator[list[guest_lib.Guest]]:
        """Guests that tick on such a disk each."""
        directory = guest_lib.disks_directory(self._libvirtd)
        directory.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            guests = []
            for number in range(count):
                name = f'{disk.name}-{number}'
                guest = lab_base.new_guest(
                    self._libvirtd,
                    disk=disk.make(directory, name),
                    tick_ms=10,
                    busy=self._busy,
                    metadata=domain.NovaMetadata(name),
                )
                stack.callback(guest.remove)
                guest.start()
                guests.append(guest)
            for guest in guests:
                guest.wait_until_up()
            yield guests

    def measure(
        self,
        method: methods.Method,
        disk: disks.Disk,
        guests: list[guest_lib.Guest],
        run: int,
    ) -> list[Row]:
        """Take a snapshot of each guest, all at once, and delete the image."""
        with contextlib.ExitStack() as stack:
            state = self._state / 'worker'
            shutil.rmtree(state, ignore_errors=True)
            (state / 'snapshots').mkdir(parents=True)
            config = self._write_config(method, state)
            workers = [
                self._worker(method.command(config), state, number)
                for number in range(len(guests))
            ]
            for worker in workers:
                stack.callback(worker.end)
            # What the run before has left to be written is not this one's.
            os.sync()
            return [
                dataclasses.replace(
                    row,
                    method=method.name,
                    disk=disk.name,
                    run=run,
                    at_once=len(guests),
                    glance=method.glance,
                )
                for row in self._watched(method, workers, guests, state)
            ]

    def _write_config(
        self, method: methods.Method, state: pathlib.Path
    ) -> pathlib.Path:
        return method.write_config(
            state, self._libvirtd, self._glance_of(method)
        )

    def _glance_of(self, method: methods.Method) -> glance_lib.Glance:
        return self._glances[method.glance]

    def _worker(
        self, argv: list[str], state: pathlib.Path, number: int
    ) -> Worker:
        return Worker(argv, state, number)

    def _watched_besides(
        self, method: methods.Method
    ) -> contextlib.AbstractContextManager[None]:
        """Watch what a kind of benchmark has besides; part of the time."""
        return contextlib.nullcontext()

    def _watched(
        self,
        method: methods.Method,
        workers: list[Worker],
        guests: list[guest_lib.Guest],
        state: pathlib.Path,
    ) -> list[Row]:
        snapshots = state / 'snapshots'
        running = self._qemu_pids(guests)
        glance = self._glance_of(method)
        before = self._cpu(workers, guests, glance)
        with contextlib.ExitStack() as stack:
            gaps = [stack.enter_context(guest.gap_watch()) for guest in guests]
            watches = [
                stack.enter_context(usage.Watch([worker.pid], snapshots))
                for worker in workers
            ]
            stack.enter_context(self._profiled(workers))
            seconds = stack.enter_context(usage.stopwatch())
            stack.enter_context(self._watched_besides(method))
            for worker, guest in zip(workers, guests, strict=True):
                worker.begin(guest, IMAGE)
            made = [worker.made() for worker in workers]
        if self._qemu_pids(guests) != running:
            # Suspended and started again: that of the new process only.
            before = dataclasses.replace(before, qemu=0.0)
        cpu = self._cpu(workers, guests, glance) - before
        count = len(workers)
        return [
            Row(
                method='',
                disk='',
                run=0,
                wall_s=seconds[0],
                cpu_s=cpu.workers / count,
                peak_rss_bytes=watch.peak_rss,
                temp_disk_bytes=watch.peak_disk // count,
                bytes_to_image_service=self._taken(method, name),
                guest_gap_ms=gap.result.longest_ms,
                qemu_cpu_s=cpu.qemu / count,
                glance_cpu_s=cpu.glance / count,
                other_cpu_s=cpu.host - cpu.workers - cpu.qemu - cpu.glance,
            )
            for watch, gap, name in zip(watches, gaps, made, strict=True)
        ]

    @contextlib.contextmanager
    def _profiled(self, workers: list[Worker]) -> Iterator[None]:
        if not self._is_profiling:
            yield
            return
        samples = self._state / 'perf.data'
        with profile.recorded([worker.pid for worker in workers], samples):
            yield
        print(profile.table(samples))

    def _cpu(
        self,
        workers: list[Worker],
        guests: list[guest_lib.Guest],
        glance_server: glance_lib.Glance,
    ) -> 'Cpu':
        glance = usage.processes_in(glance_server.directory)
        return Cpu(
            sum(usage.cpu_seconds(worker.pid) for worker in workers),
            sum(map(usage.cpu_seconds, self._qemu_pids(guests))),
            sum(map(usage.cpu_seconds, glance)),
            usage.host_cpu_seconds(),
        )

    def _qemu_pids(self, guests: list[guest_lib.Guest]) -> list[int]:
        return [qemu_pid(self._libvirtd, guest.name) for guest in guests]

    def _taken(self, method: methods.Method, made: str) -> int:
        """Delete what a method has made, and return its size."""
        if method.makes_image:
            return _image_taken(self._glance_of(method), made)
        size = sum(
            path.stat().st_size for path in pathlib.Path(made).iterdir()
        )
        shutil.rmtree(made)
        return size


def _image_taken(glance: glance_lib.Glance, image_id: str) -> int:
    """Delete an image, and return its size."""
    url = f'{glance.url}/v2/images/{image_id}'
    with urllib.request.urlopen(url) as answer:
        image = json.load(answer)
    if image['status'] != 'active':
        raise WorkerFailed(f'{image_id} is {image["status"]}')
    urllib.request.urlopen(
        urllib.request.Request(url, method='DELETE')
    ).close()
    return int(image['size'])


@dataclasses.dataclass(frozen=True)
class Cpu:
    """Processor seconds so far."""

    workers: float
    qemu: float
    glance: float
    host: float

    def __sub__(self, other: 'Cpu') -> 'Cpu':
        pairs = zip(
            dataclasses.astuple(self), dataclasses.astuple(other), strict=True
        )
        return Cpu(*(mine - its for mine, its in pairs))


def qemu_pid(libvirtd: libvirtd_lib.Libvirtd, domain_name: str) -> int:
    """Return the process id of a domain's QEMU."""
    run = libvirtd.state / 'libvirt/run/qemu'
    return int((run / f'{domain_name}.pid').read_text())


def say(text: str) -> None:
    """Tell who waits what goes on, apart from the table."""
    print(f'bench: {text}', file=sys.stderr, flush=True)
