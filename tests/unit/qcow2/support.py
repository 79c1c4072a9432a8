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

"""Sources with maps of their own, and real qemu-img as the judge."""

from collections.abc import Iterable
import contextlib
import dataclasses
import pathlib
import subprocess

from nova_snap.qcow2 import errors
from nova_snap.qcow2 import file_source
from nova_snap.qcow2 import source as source_lib
from nova_snap.qcow2 import stream as stream_lib


@contextlib.contextmanager
def _lent(data: bytes):
    """Lend memory that has other bytes in it after the block."""
    memory = bytearray(data)
    yield memory
    memory[:] = b'\xa5' * len(memory)


class MappedSource(file_source.FileSource):
    """A raw file with the extents that the test wants."""

    def __init__(
        self, path: pathlib.Path, extents: Iterable[source_lib.Extent]
    ) -> None:
        super().__init__(str(path))
        self._extents = extents

    def extents(self):
        yield from self._extents

    def reading(self, offset, length):
        return _lent(self.read(offset, length))


class PatternSource:
    """Data that is made up: every read begins with ``pattern``.

    :param fail_at: the read that touches this byte fails.
    """

    name = 'a pattern'

    def __init__(
        self,
        size: int,
        pattern: bytes = bytes(1 << 20),
        extents: Iterable[source_lib.Extent] | None = None,
        fail_at: int = -1,
        parallel: int = 2,
    ) -> None:
        self.size = size
        self.parallel = parallel
        self.bytes_read = 0
        self._pattern = pattern
        self._extents = extents
        self._fail_at = fail_at

    def extents(self):
        if self._extents is None:
            yield source_lib.Extent(0, self.size, True)
        else:
            yield from self._extents

    def read(self, offset, length):
        if offset <= self._fail_at < offset + length:
            raise errors.SourceError(self.name, 'the disk is broken.')
        self.bytes_read += length
        if length == len(self._pattern):
            return self._pattern
        if length > len(self._pattern):
            raise ValueError('The pattern is shorter than a read.')
        return self._pattern[:length]

    def reading(self, offset, length):
        return _lent(self.read(offset, length))

    def close(self):
        pass


@dataclasses.dataclass(frozen=True)
class FixedReserve:
    """Zones of these sizes, right or wrong."""

    first_zone: int
    second_zone: int

    def first(self):
        return self.first_zone

    def second(self, behind):
        return self.second_zone


def save(stream: stream_lib.Stream, path: pathlib.Path) -> int:
    """Write a stream to a file; the value is the number of bytes."""
    with stream, path.open('wb') as file:
        for chunk in stream:
            assert len(chunk), 'an empty chunk would end an HTTP body'
            file.write(chunk)
    return path.stat().st_size


def check(image: pathlib.Path) -> None:
    """No errors and no leaks; raises AssertionError otherwise."""
    _qemu_img('check', '-f', 'qcow2', image)


def compare(
    raw: pathlib.Path | str, image: pathlib.Path, form: str = 'raw'
) -> None:
    """Raise AssertionError if the image differs from ``raw``."""
    _qemu_img('compare', '-f', form, '-F', 'qcow2', raw, image)


def _qemu_img(*arguments: object) -> None:
    argv = ['qemu-img', *map(str, arguments)]
    done = subprocess.run(argv, capture_output=True, text=True)
    # check has codes of its own for leaks, compare for differences.
    if done.returncode:
        raise AssertionError(
            f'{argv} ended with {done.returncode}: {done.stdout}{done.stderr}'
        )
