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

"""Looks into disk images, to compare what is there with what should be.

Formats are always said by the caller, as everywhere in the project.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import json
import pathlib
import tempfile
from typing import Any

from tests.lab import command
from tests.lab import root_disk

#: e2fsck's exit codes (e2fsck(8)): nothing, errors that are there, errors that
#: are so bad that it gave up.
FSCK_CODES = (0, 4, 12)


@dataclasses.dataclass(frozen=True)
class FileSystem:
    """What e2fsck and dumpe2fs find in an image.

    :ivar clean: e2fsck has nothing at all to say against it.
    :ivar needs_recovery: its journal has to be replayed.
    :ivar report: what e2fsck said.
    """

    clean: bool
    needs_recovery: bool
    report: str


def file_system(
    image: pathlib.Path, image_format: str, replay_journal: bool = False
) -> FileSystem:
    """Check the root file system in an image; the image is left alone.

    :param replay_journal: do on a copy first what the kernel does when it
        mounts: then an unclean one is damaged, not just in use.
    """
    with _raw_copy(image, image_format) as raw:
        if replay_journal:
            _replay_journal(raw)
        # 1: it can't read all of a damaged one's header.
        header = command.run('dumpe2fs', '-h', raw, accept=(0, 1)).stdout
        checked = command.run('e2fsck', '-f', '-n', raw, accept=FSCK_CODES)
    recovery = 'needs_recovery' in header
    clean = checked.returncode == 0 and not recovery
    return FileSystem(clean, recovery, checked.stdout)


def read_file(image: pathlib.Path, image_format: str, path: str) -> bytes:
    """Content of a file in the root file system of an image.

    The journal is replayed on a copy first, as a boot from it would do.

    :raises FileNotFoundError: there is no such file.
    """
    with _raw_copy(image, image_format) as raw:
        _replay_journal(raw)
        target = raw.with_suffix('.file')
        command.run('debugfs', '-R', f'dump {path} {target}', raw)
        if not target.exists():
            raise FileNotFoundError(f'{path} in {image}')
        return target.read_bytes()


def last_log_number(image: pathlib.Path, image_format: str) -> int:
    """Return the last number in ``/log``; earlier ones are synced."""
    lines = read_file(image, image_format, '/log').split()
    return int(lines[-1]) if lines else 0


def ring_numbers(image: pathlib.Path, image_format: str) -> set[int]:
    """Return the numbers of the records in ``/ring``; see ``tick.c``."""
    ring = read_file(image, image_format, '/ring')
    starts = range(0, len(ring), 4096)
    numbers = {int.from_bytes(ring[at : at + 8], 'little') for at in starts}
    return numbers - {0}


def info(image: pathlib.Path, image_format: str) -> dict[str, Any]:
    """Return the output of ``qemu-img info``."""
    result: dict[str, Any] = json.loads(
        command.run(
            *('qemu-img', 'info', '-U', '-f', image_format),
            *('--output=json', image),
        ).stdout
    )
    return result


def probed_format(image: pathlib.Path) -> str:
    """Return the format that QEMU probes for an image."""
    words = command.run('qemu-img', 'info', '-U', '--output=json', image)
    return str(json.loads(words.stdout)['format'])


def check(image: pathlib.Path, image_format: str = 'qcow2') -> str:
    """``qemu-img check``; an empty string is a clean image."""
    result = command.run(
        *('qemu-img', 'check', '-q', '-f', image_format, image),
        accept=(0, 1, 2, 3),
    )
    return '' if result.returncode == 0 else result.stdout or 'not clean'


def differences(
    one: pathlib.Path, one_format: str, other: pathlib.Path, other_format: str
) -> str:
    """``qemu-img compare``; an empty string is the same guest data.

    Also of a disk that a guest has open; that guest should be paused.
    """
    result = command.run(
        *('qemu-img', 'compare', '-U', '-f', one_format, '-F', other_format),
        *(one, other),
        accept=(0, 1),
    )
    return '' if result.returncode == 0 else result.stdout


def _replay_journal(raw: pathlib.Path) -> None:
    """Replay, and mend nothing.

    "e2fsck -E journal_only" is not that: it mends a journal that it finds
    damaged, and all that hangs on it (seen with 1.47.0).

    Without -n, debugfs opens no file system whose bitmaps have been written
    without their checksums, which are still in the journal.
    """
    command.run('debugfs', '-n', '-w', '-R', 'journal_run', raw)


@contextlib.contextmanager
def _raw_copy(
    image: pathlib.Path, image_format: str
) -> Iterator[pathlib.Path]:
    """Make a raw copy of an image's file system for the block."""
    with tempfile.TemporaryDirectory(dir='/var/tmp') as work:
        raw = pathlib.Path(work) / 'disk.raw'
        command.run(
            *('qemu-img', 'convert', '-U', '-f', image_format),
            *('-O', 'raw', image, raw),
        )
        if _has_gpt(raw):
            # e2fsprogs takes "file?offset=", but not for replaying.
            inner = raw.with_name('partition.raw')
            command.run(
                *('qemu-img', 'convert', '-O', 'raw', '--image-opts'),
                f'driver=raw,offset={root_disk.PARTITION_OFFSET},'
                f'file.driver=file,file.filename={raw}',
                inner,
            )
            raw = inner
        yield raw


def _has_gpt(raw: pathlib.Path) -> bool:
    with open(raw, 'rb') as file:
        file.seek(512)
        return file.read(8) == b'EFI PART'
