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

"""Makes the root disks of the benchmark: content in a base and an overlay.

A disk begins with a small ext4 file system, in which the guest ticks; what a
snapshot has to move lies behind it::

    0          256 MiB      + base          + overlay            virtual size
    | ext4     | content    | content       | nothing            |
    '---- base image -------'--- overlay ---'

The base image is raw and the overlay qcow2, as nova-compute has them.
"""

from collections.abc import Iterator
import dataclasses
import pathlib

from tests.lab import command
from tests.lab import root_disk
from tools.bench import content

MIB = 1 << 20
GIB = 1 << 30

#: Bytes of the file system in which the guest ticks.
FILE_SYSTEM = 256 * MIB


@dataclasses.dataclass(frozen=True)
class Disk:
    """A root disk to make; sizes in bytes.

    :ivar content: a name of ``content.CONTENTS``.
    :ivar base: content in the base image.
    :ivar overlay: content in the overlay.
    :ivar virtual_size: what the guest sees.
    """

    name: str
    content: str
    base: int = 1 * GIB
    overlay: int = 3 * GIB // 2
    virtual_size: int = 10 * GIB

    def small(self) -> 'Disk':
        """Return the disk with a sixteenth of its content."""
        return dataclasses.replace(
            self, base=self.base // 16, overlay=self.overlay // 16
        )

    def make(self, directory: pathlib.Path, name: str) -> root_disk.RootDisk:
        """Make the files; ``name`` is what they are called."""
        pieces = self.pieces()
        raw = self.make_base(directory, name, pieces)
        with raw.open('r+b') as file:
            file.truncate(self.virtual_size)
        overlay = directory / f'{name}.qcow2'
        command.run(
            *('qemu-img', 'create', '-q', '-f', 'qcow2'),
            *('-b', raw, '-F', 'raw', overlay),
        )
        self.fill(overlay, pieces)
        return root_disk.RootDisk(
            root_disk.Kind.OVERLAY_ON_RAW, overlay, 'qcow2', backing=raw
        )

    def pieces(self) -> Iterator[bytes]:
        """Yield the content of the base image, then of the overlay."""
        return content.CONTENTS[self.content]()

    def make_base(
        self, directory: pathlib.Path, name: str, pieces: Iterator[bytes]
    ) -> pathlib.Path:
        """Make the base image, raw, and no longer than what is in it."""
        raw = root_disk.make(
            directory, root_disk.Kind.RAW, f'{name}.base', FILE_SYSTEM
        ).path
        with raw.open('r+b') as file:
            file.truncate(FILE_SYSTEM + self.base)
        write_at(FILE_SYSTEM, self.base, pieces, raw, _in_file('raw', raw))
        return raw

    def fill(self, overlay: pathlib.Path, pieces: Iterator[bytes]) -> None:
        """Write the overlay's part into one that no guest has open."""
        write_at(
            FILE_SYSTEM + self.base,
            self.overlay,
            pieces,
            overlay,
            _in_file('qcow2', overlay),
        )


#: The disks of the table, by their names.
DISKS = {
    disk.name: disk
    for disk in (
        Disk('os-like', content='os'),
        Disk('incompressible', content='random'),
    )
}


def write_at(
    offset: int,
    size: int,
    pieces: Iterator[bytes],
    path: pathlib.Path,
    target: str,
) -> None:
    """Write so much into a disk, from an offset on, and to the media.

    :param path: beside which a file for the content is made.
    :param target: the disk, as QEMU's option --image-opts has it.
    """
    part = path.with_suffix('.part')
    content.write(part, pieces, size)
    words = ','.join(f'file.{word}' for word in target.split(','))
    command.run(
        *('qemu-img', 'convert', '-n', '-f', 'raw', part),
        *('--target-image-opts', '-t', 'none'),
        f'driver=raw,offset={offset},size={size},{words}',
    )
    part.unlink()


def _in_file(driver: str, path: pathlib.Path) -> str:
    return f'driver={driver},file.driver=file,file.filename={path}'
