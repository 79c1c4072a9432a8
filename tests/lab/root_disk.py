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

"""Makes the root disks of the lab's guests, in every kind that Nova has."""

from collections.abc import Mapping
import dataclasses
import enum
import pathlib
import tempfile
from xml.sax import saxutils

from tests.lab import command

MIB = 1024 * 1024

#: Where the root partition begins, in bytes; what every partitioner chooses.
PARTITION_OFFSET = 1 * MIB
#: Bytes at the end that hold the second copy of the partition table.
PARTITION_TAIL = 1 * MIB


class Kind(enum.StrEnum):
    """What a root disk is made of; each holds one ext4 file system."""

    #: A qcow2 overlay over a qcow2 base image: Nova's default.
    OVERLAY = 'overlay'
    #: A qcow2 overlay over a raw base image: Nova's cache of images.
    OVERLAY_ON_RAW = 'overlay-on-raw'
    QCOW2 = 'qcow2'
    RAW = 'raw'
    #: Raw, with a partition table; the file system is in partition 1.
    GPT = 'gpt'
    #: A block device (a loop device), raw.
    BLOCK = 'block'


@dataclasses.dataclass(frozen=True)
class RootDisk:
    """A disk as a domain's XML describes it.

    :ivar path: the file, or the device.
    :ivar backing: the file behind a loop device or an overlay.
    :ivar pool: the storage pool of libvirt by which it is named, if it is.
    """

    kind: Kind
    path: pathlib.Path
    format: str
    source_type: str = 'file'
    backing: pathlib.Path | None = None
    pool: str = ''

    @property
    def source_xml(self) -> str:
        """What identifies it within a domain's ``<disk>``."""
        if self.pool:
            name = saxutils.quoteattr(self.path.name)
            return f"<source pool='{self.pool}' volume={name}/>"
        attribute = 'dev' if self.source_type == 'block' else 'file'
        path = saxutils.quoteattr(str(self.path))
        return f'<source {attribute}={path}/>'

    def remove(self) -> None:
        """Delete the files, and detach the loop device."""
        if self.source_type == 'block':
            command.run('losetup', '--detach', self.path, accept=(0, 1))
        else:
            self.path.unlink(missing_ok=True)
        if self.backing is not None:
            self.backing.unlink(missing_ok=True)


def make(
    directory: pathlib.Path,
    kind: Kind = Kind.OVERLAY,
    name: str = 'root',
    size: int = 256 * MIB,
    files: Mapping[str, bytes] | None = None,
    tree: pathlib.Path | None = None,
) -> RootDisk:
    """Make a root disk.

    :param directory: where the files go; created.
    :param name: what the files are named after.
    :param size: the disk's virtual size in bytes.
    :param files: content of files by path, ``/marker`` say.
    :param tree: instead of files, a directory whose content is copied.
    """
    directory.mkdir(parents=True, exist_ok=True)
    raw = directory / f'{name}.raw'
    _make_raw(raw, kind, size, files, tree)
    return _FINISH[kind](raw)


def overlay_paths(directory: pathlib.Path, name: str) -> RootDisk:
    """Return the paths of a disk of Kind.OVERLAY, made or not."""
    return RootDisk(
        Kind.OVERLAY,
        directory / f'{name}.qcow2',
        'qcow2',
        backing=directory / f'{name}.base.qcow2',
    )


def _make_raw(
    raw: pathlib.Path,
    kind: Kind,
    size: int,
    files: Mapping[str, bytes] | None,
    tree: pathlib.Path | None,
) -> None:
    with open(raw, 'wb') as file:
        file.truncate(size)
    offset = PARTITION_OFFSET if kind is Kind.GPT else 0
    tail = PARTITION_TAIL if kind is Kind.GPT else 0
    space = size - offset - tail
    if kind is Kind.GPT:
        table = f'label: gpt\nstart={offset // 512}, size={space // 512}\n'
        command.run('sfdisk', '--quiet', raw, stdin=table)
    with tempfile.TemporaryDirectory(dir=raw.parent) as work:
        _write_files(pathlib.Path(work), files or {})
        command.run(
            *('mkfs.ext4', '-q', '-F', '-b', '4096'),
            *('-E', f'offset={offset},nodiscard', '-d', tree or work),
            *(raw, f'{space // 1024}k'),
        )


def _write_files(directory: pathlib.Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        path = directory / name.lstrip('/')
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _finish_raw(raw: pathlib.Path) -> RootDisk:
    return RootDisk(Kind.RAW, raw, 'raw')


def _finish_gpt(raw: pathlib.Path) -> RootDisk:
    return RootDisk(Kind.GPT, raw, 'raw')


def _finish_block(raw: pathlib.Path) -> RootDisk:
    device = command.run(
        'losetup', '--find', '--show', '--direct-io=on', raw
    ).stdout.strip()
    return RootDisk(Kind.BLOCK, pathlib.Path(device), 'raw', 'block', raw)


def _finish_qcow2(raw: pathlib.Path) -> RootDisk:
    return RootDisk(Kind.QCOW2, _to_qcow2(raw, '.qcow2'), 'qcow2')


def _finish_overlay(raw: pathlib.Path) -> RootDisk:
    disk = overlay_paths(raw.parent, raw.stem)
    base = _to_qcow2(raw, '.base.qcow2')
    return _overlay(disk.kind, base, 'qcow2', disk.path)


def _finish_overlay_on_raw(raw: pathlib.Path) -> RootDisk:
    base = raw.rename(raw.with_suffix('.base.raw'))
    overlay = raw.with_suffix('.qcow2')
    return _overlay(Kind.OVERLAY_ON_RAW, base, 'raw', overlay)


def _to_qcow2(raw: pathlib.Path, suffix: str) -> pathlib.Path:
    target = raw.with_suffix(suffix)
    command.run('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', raw, target)
    raw.unlink()
    return target


def _overlay(
    kind: Kind, base: pathlib.Path, base_format: str, overlay: pathlib.Path
) -> RootDisk:
    command.run(
        *('qemu-img', 'create', '-q', '-f', 'qcow2'),
        *('-b', base, '-F', base_format, overlay),
    )
    return RootDisk(kind, overlay, 'qcow2', backing=base)


_FINISH = {
    Kind.OVERLAY: _finish_overlay,
    Kind.OVERLAY_ON_RAW: _finish_overlay_on_raw,
    Kind.QCOW2: _finish_qcow2,
    Kind.RAW: _finish_raw,
    Kind.GPT: _finish_gpt,
    Kind.BLOCK: _finish_block,
}
