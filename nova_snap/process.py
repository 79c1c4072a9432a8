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

"""Running of external programs: without a shell, with limits, never orphaned.

Open this file to change how programs are run; the command lines of qemu-img
are in ``virt/storage/qemu_img.py``.
"""

from collections.abc import Callable
from collections.abc import Sequence
import contextlib
import dataclasses
import os
import select
import signal
import subprocess  # nosec B404
import tempfile
from typing import BinaryIO

from oslo_utils import units

from nova_snap import concurrency
from nova_snap import exception
from nova_snap import progress

#: Bytes of a program's output that are read; the rest is ignored.
MAX_OUTPUT = units.Mi


@dataclasses.dataclass(frozen=True)
class Limits:
    """Resources that a program may use.

    ``address_space`` is in bytes, ``cpu`` in seconds of processor time, and
    ``file_size`` in bytes of each file that the program writes, its output
    among them; None means no limit.
    """

    address_space: int
    cpu: int | None = None
    file_size: int | None = None


def run(
    argv: Sequence[str],
    limits: Limits,
    poll: Callable[[bytes], None] | None = None,
    umask: int = -1,
    stdin: bytes = b'',
    max_output: int = MAX_OUTPUT,
    files: Sequence[BinaryIO] = (),
) -> bytes:
    """Run a program to its end and return what it wrote to standard output.

    :param argv: the program and its arguments.
    :param poll: called every POLL_INTERVAL seconds with the end of what the
        program has written so far; when it raises, the program is killed.
    :param umask: for files that the program makes; -1 keeps ours.
    :param stdin: what the program reads from standard input; never on disk.
    :param max_output: bytes that are returned at most.
    :param files: open files that the program has, too, as /dev/fd/NUMBER.
    :raises OutputTooLong: it wrote more than ``limits.file_size`` bytes.
    :raises ProgramFailed: it could not be started, or its exit status was
        not 0.
    """
    with (
        in_memory(stdin) as source,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        status = _run(
            _limited(argv, limits), source, out, err, poll, umask, files
        )
        if status == -signal.SIGXFSZ and limits.file_size is not None:
            raise exception.OutputTooLong(
                program=argv[0], limit=limits.file_size
            )
        if status != 0:
            raise exception.ProgramFailed(
                program=argv[0],
                status=status if status > 0 else None,
                outcome=f'exit status {status}'
                if status > 0
                else f'killed by signal {-status}',
                stderr=_head(err).decode(errors='replace').strip()
                or 'it wrote no error message',
            )
        return _head(out, max_output)


def _limited(argv: Sequence[str], limits: Limits) -> list[str]:
    """Return the command line that runs a program under the limits.

    When this process is killed the program has to end as well (setpriv,
    util-linux 2.33): a qemu-img that lives on would keep its lock on the
    disk, and the guest could not be started again.
    """
    limited = ['setpriv', '--pdeathsig', 'KILL', 'prlimit']
    limited.append(f'--as={limits.address_space}')
    if limits.cpu is not None:
        limited.append(f'--cpu={limits.cpu}')
    if limits.file_size is not None:
        # No core: that would be one more file.
        limited += [f'--fsize={limits.file_size}', '--core=0']
    return [*limited, '--', *argv]


def in_memory(data: bytes) -> BinaryIO:
    """Return a file in memory: the data may be a passphrase."""
    if not data:
        return open(os.devnull, 'rb')
    file = open(os.memfd_create('input'), 'w+b')  # noqa: SIM115  the caller
    file.write(data)
    file.seek(0)  # and flush
    return file


def _run(
    argv: Sequence[str],
    source: BinaryIO,
    out: BinaryIO,
    err: BinaryIO,
    poll: Callable[[bytes], None] | None,
    umask: int,
    files: Sequence[BinaryIO],
) -> int:
    try:
        process = subprocess.Popen(  # nosec B603
            argv,
            stdin=source,
            stdout=out,
            stderr=err,
            env={**os.environ, 'LC_ALL': 'C'},
            umask=umask,
            pass_fds=[file.fileno() for file in files],
        )
    except OSError as error:
        raise exception.ProgramFailed(
            program=argv[0], outcome='not started', stderr=str(error)
        ) from error
    try:
        while not _has_ended(process, progress.POLL_INTERVAL):
            if poll is not None:
                poll(_tail(out))
        return process.wait()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _has_ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait for the end of a program; return False if the time is over.

    ``Popen.wait`` with a timeout looks again and again, and sleeps up to 50 ms
    in between (Python 3.13), which is more than a short qemu-img takes.
    """
    # eventlet has its own wait, and no poll.
    descriptor = None if concurrency.is_eventlet() else _descriptor(process)
    if descriptor is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=seconds)
        return process.returncode is not None
    try:
        ended = select.poll()
        ended.register(descriptor, select.POLLIN)
        return bool(ended.poll(seconds * 1000))
    finally:
        os.close(descriptor)


def _descriptor(process: subprocess.Popen[bytes]) -> int | None:
    """Open a descriptor that is readable when a process has ended."""
    try:
        return os.pidfd_open(process.pid)
    except OSError:  # Linux before 5.3, or no descriptor is left
        return None


def _head(stream: BinaryIO, length: int = MAX_OUTPUT) -> bytes:
    # pread, since the program shares the offset of the descriptor.
    return os.pread(stream.fileno(), length, 0)


def _tail(stream: BinaryIO, length: int = 256) -> bytes:
    size = os.fstat(stream.fileno()).st_size
    return os.pread(stream.fileno(), length, max(0, size - length))
