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

"""Real NBD servers on Unix sockets, ended with the test."""

from collections.abc import Generator
import contextlib
import pathlib
import socket as socket_lib
import subprocess
import time


@contextlib.contextmanager
def nbdkit(
    socket: pathlib.Path, *arguments: object
) -> Generator[subprocess.Popen[bytes], None, None]:
    """Run nbdkit with these arguments."""
    with _running('nbdkit', '-f', '-U', socket, *arguments) as process:
        _wait_for(socket, process)
        yield process


@contextlib.contextmanager
def qemu_nbd(
    socket: pathlib.Path, image: pathlib.Path, image_format: str
) -> Generator[subprocess.Popen[bytes], None, None]:
    """Export an image read-only, to many clients."""
    with _running(
        *('qemu-nbd', '--read-only', '--shared=8', '--persistent'),
        *('--format', image_format, '--socket', socket, image),
    ) as process:
        _wait_for(socket, process)
        yield process


@contextlib.contextmanager
def _running(
    *arguments: object,
) -> Generator[subprocess.Popen[bytes], None, None]:
    process = subprocess.Popen([str(argument) for argument in arguments])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _wait_for(path: pathlib.Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until the server accepts connections, not only has a socket."""
    deadline = time.monotonic() + 30
    while not _accepts_connections(path):
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f'{process.args} did not start')
        time.sleep(0.02)


def _accepts_connections(path: pathlib.Path) -> bool:
    with socket_lib.socket(socket_lib.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True
