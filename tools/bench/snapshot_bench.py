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

"""What each kind of snapshot costs: ``tools/bench.sh --domain-snapshots``.

A guest fills a known part of its memory.  Then, in each round, a snapshot is
taken, something is written, the guest goes back, the same is written again,
and the snapshot is deleted.  What is measured are the commands as a user runs
them, so their own start is in the time; ``list`` shows how much that is.
Each program has a guest of its own; that of the other one is suspended.
"""

from collections.abc import Iterator
from concurrent import futures
import contextlib
import dataclasses
import os
import pathlib
import subprocess
import threading
import time

from tests.lab import base as lab_base
from tests.lab import command
from tests.lab import guest as guest_lib
from tests.lab import libvirtd as libvirtd_lib
from tools.bench import bench
from tools.bench import disks
from tools.bench import glance_options
from tools.bench import methods
from tools.bench import snapshot_kinds
from tools.bench import usage

MIB = disks.MIB

Step = snapshot_kinds.Step

#: Seconds that a command may take.
TIMEOUT = 300

#: Seconds between two looks at the console of a guest that starts.
INTERVAL = 0.002

#: How images are taken: live, by pull, with the compression of the default.
IMAGE_METHOD = methods.METHODS['pull-zstd']


@dataclasses.dataclass(frozen=True)
class Case:
    """What is measured; sizes in MiB.

    :ivar memory: of the guest.
    :ivar used: of it filled with the content of files, where it is kept.
    :ivar disk: in use, half of it in the base image, half in the overlay.
    :ivar since: written between two steps.
    """

    memory: int = 512
    used: int = 256
    disk: int = 512
    since: int = 64

    def small(self) -> 'Case':
        """Return the case with less of all."""
        return Case(memory=192, used=32, disk=64, since=8)

    @property
    def root_disk(self) -> disks.Disk:
        """The disk to make."""
        half = self.disk * MIB // 2
        return disks.Disk('root', content='os', base=half, overlay=half)


@dataclasses.dataclass(frozen=True)
class Row:
    """What one step took.

    :ivar run: the number of the round.
    :ivar seconds: of the command.  None: libvirt refused.
    :ivar gap_ms: the longest time between two durable writes of the guest; if
        it was off, until its first.  None: it is off afterwards.
    :ivar kept_bytes: that are in use after the step, more than before the
        snapshot was taken, in the folder of the disks and by Glance.
    """

    kind: str
    program: str
    step: str
    run: int
    seconds: float | None
    gap_ms: float | None
    kept_bytes: int


class SnapshotBench(bench.Bench):
    """A libvirtd and a Glance, and guests for one kind at a time."""

    def __init__(self, libvirtd: libvirtd_lib.Libvirtd, case: Case) -> None:
        super().__init__(libvirtd, [glance_options.DEFAULT])
        self._case = case

    def versions(self) -> str:
        """Return the versions of what is measured."""
        with self._libvirtd.connection() as connection:
            numbers = connection.getLibVersion(), connection.getVersion()
        libvirt, qemu = (
            f'{n // 10**6}.{n // 10**3 % 10**3}.{n % 10**3}' for n in numbers
        )
        return f'libvirt {libvirt}, QEMU {qemu}'

    def measure_kind(
        self, kind: snapshot_kinds.Kind, rounds: int
    ) -> Iterator[Row]:
        """Measure the programs in turn, in each of the rounds."""
        state = self._state / 'worker'
        (state / 'snapshots').mkdir(parents=True, exist_ok=True)
        config = self._write_config(IMAGE_METHOD, state)
        with contextlib.ExitStack() as stack:
            measured = [
                _Measured(
                    self,
                    stack.enter_context(self._guest(program)),
                    kind,
                    program,
                )
                for program in kind.commands
            ]
            for each in measured:
                each.prepare(config, self._case)
            for run in range(rounds):
                for each in measured:
                    yield from each.round(run)

    @contextlib.contextmanager
    def _guest(self, program: str) -> Iterator[guest_lib.Guest]:
        """Begin a guest whose files are in a folder of their own."""
        folder = guest_lib.disks_directory(self._libvirtd) / program
        folder.mkdir(parents=True)
        guest = lab_base.new_guest(
            self._libvirtd,
            disk=self._case.root_disk.make(folder, 'root'),
            name=f'bench-{program}',
            memory=self._case.memory,
            agent=True,
            tick_ms=10,
        )
        try:
            guest.start()
            yield guest
        finally:
            guest.remove()
            command.run('rm', '-r', folder)

    def argv(self, program: str, config: pathlib.Path) -> list[str]:
        """Return what a command line of a program begins with."""
        if program == snapshot_kinds.VIRSH:
            return ['virsh', '-q', '-c', self._libvirtd.uri]
        own = IMAGE_METHOD.python.with_name('nova-snap')
        return [str(own), '--config-file', str(config)]

    def environment(self) -> dict[str, str]:
        """Return what lets Python keep what it compiles, as packages do."""
        return {
            'PYTHONDONTWRITEBYTECODE': '',
            'PYTHONPYCACHEPREFIX': str(self._state / 'pycache'),
        }

    def stored_bytes(self) -> int:
        """Return the bytes of the images in Glance."""
        return usage.allocated_bytes(
            self._glance_of(IMAGE_METHOD).directory / 'images'
        )


class _Measured:
    """A guest, and the commands of one program for one kind."""

    def __init__(
        self,
        machine: SnapshotBench,
        guest: guest_lib.Guest,
        kind: snapshot_kinds.Kind,
        program: str,
    ) -> None:
        self._machine = machine
        self._guest = guest
        self._kind = kind
        self._program = program
        self._folder = guest.spec.disk.path.parent
        self._memory = self._folder / 'memory'
        self._argv: list[str] = []
        self._since = 0
        self._is_off = threading.Event()

    def prepare(self, config: pathlib.Path, case: Case) -> None:
        """Let the guest fill its memory and write, and suspend it."""
        self._argv = self._machine.argv(self._program, config)
        self._since = case.since
        self._guest.wait_until_up()
        # It compiles what it imports, once.
        self._run(['list'])
        if self._kind.has_memory:
            # Nothing that is cached meanwhile stays in the memory.
            self._run_inside(
                'mkdir /fill && mount -t ramfs fill /fill && '
                f'{_copy("/fill/of-the-disk", case.used)}'
            )
        # What is written again later needs no more room.
        self._write_since()
        self._guest.suspend()

    def round(self, run: int) -> Iterator[Row]:
        """Measure each step once."""
        commands = self._kind.commands[self._program]
        self._guest.resume()
        self._guest.wait_until_up()
        before = self._bytes()
        for step in Step:
            if step not in commands:
                continue
            if step in (Step.REVERT, Step.DELETE):
                self._write_since()
            words = commands[step].format(
                server=self._guest.uuid,
                name=f'{self._kind.name}-{run}',
                memory=self._memory,
            )
            # What was written before is not this step's.
            os.sync()
            seconds, gap_ms = self._timed(words.split())
            yield Row(
                self._kind.name,
                self._program,
                step,
                run,
                seconds,
                gap_ms,
                self._bytes() - before,
            )
        self._memory.unlink(missing_ok=True)
        self._guest.suspend()

    def _timed(self, words: list[str]) -> tuple[float | None, float | None]:
        """Run a command; return seconds and the gap in milliseconds."""
        if self._guest.state() != 'running':
            return self._timed_start(words)
        with contextlib.ExitStack() as stack:
            watch = stack.enter_context(self._guest.gap_watch())
            seconds = self._run(words)
            is_running = self._guest.state() == 'running'
            if is_running:
                self._tick_at(self._said())
        return seconds, watch.result.longest_ms if is_running else None

    def _timed_start(
        self, words: list[str]
    ) -> tuple[float | None, float | None]:
        """Run a command that may start the guest."""
        with futures.ThreadPoolExecutor(1) as executor:
            begin = time.monotonic()
            first = executor.submit(self._tick_at, self._said())
            seconds = self._run(words)
            if self._guest.state() != 'running':
                self._is_off.set()
                return seconds, None
            return seconds, (first.result() - begin) * 1e3

    def _run(self, words: list[str]) -> float | None:
        """Run a command; return its seconds, None if it is refused."""
        with usage.stopwatch() as seconds:
            done = subprocess.run(
                [*self._argv, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._machine.environment()},
                text=True,
                timeout=TIMEOUT,
            )
        if done.returncode == 0:
            return seconds[0]
        if self._program == snapshot_kinds.NOVA_SNAP:
            raise bench.WorkerFailed(done.stdout)
        bench.say(f'{self._kind.name}: {done.stdout.strip()}')
        return None

    def _said(self) -> int:
        return self._guest.serial_log.stat().st_size

    def _tick_at(self, offset: int) -> float:
        """Wait for a tick on the console from there on; return the time."""
        self._is_off.clear()
        deadline = time.monotonic() + guest_lib.BOOT_TIMEOUT
        said = b''
        with self._guest.serial_log.open('rb') as console:
            console.seek(offset)
            while b'\ntick ' not in said:
                if time.monotonic() > deadline:
                    raise guest_lib.GuestFailed(said[-500:])
                if self._is_off.wait(INTERVAL):
                    break
                said += console.read()
        return time.monotonic()

    def _write_since(self) -> None:
        """Let the guest write to its disk, always to the same place."""
        if self._guest.state() != 'running':
            return
        self._guest.wait_until_up()
        self._run_inside(_copy('/mnt/since', self._since))

    def _run_inside(self, script: str) -> None:
        """Run a script in the guest, to its end."""
        started = self._guest.agent(
            'guest-exec', path='/bin/sh', arg=['-c', script]
        )

        def ended() -> bool:
            found.update(self._guest.agent('guest-exec-status', **started))
            return bool(found['exited'])

        found: dict[str, object] = {}
        self._guest.wait_for(ended, 'end of a script', TIMEOUT)
        if found.get('exitcode') != 0:
            raise guest_lib.GuestFailed(f'{script}: {found}')

    def _bytes(self) -> int:
        # What the guest has written to its disk is in the file.
        return (
            usage.allocated_bytes(self._folder) + self._machine.stored_bytes()
        )


def _copy(target: str, size: int) -> str:
    """Return a script that copies so many MiB of the disk."""
    begin = disks.FILE_SYSTEM // MIB
    return (
        f'dd if=/dev/vda of={target} bs=1M skip={begin} count={size} '
        'iflag=direct conv=notrunc,fsync'
    )
