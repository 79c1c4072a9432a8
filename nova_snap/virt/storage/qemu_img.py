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

"""Functions that run qemu-img; besides, only layers.py does.

Each call names the formats of the layers that it opens (see
``disk_source.py``).  It runs with a limit of memory and, if it should be
short, of processor time: the header of a disk may be damaged, or forged to
use up resources.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import json
import os
import pathlib
import re
import shutil
import types
from typing import Any
from typing import BinaryIO

from oslo_log import log as logging
from oslo_utils import units

from nova_snap import exception
from nova_snap import process
from nova_snap.virt.storage import disk_source as storage

LOG = logging.getLogger(__name__)

#: For calls that read a header, as Nova has them.
INFO_LIMITS = process.Limits(address_space=1 * units.Gi, cpu=30)

#: For calls that move data: their time depends on the disk, their memory is a
#: few buffers and the tables of the disk.
DATA_LIMITS = process.Limits(address_space=4 * units.Gi)

#: Bytes of a map of extents, on disk and in memory; an extent has about 130.
MAX_MAP = 16 * units.Mi

#: Bytes of a cluster of a mask of holes: the largest that QEMU has, so that
#: the tables of a mask are small.
HOLE = 2 * units.Mi

#: Bytes that one command of qemu-io writes; 2 GiB and more are an error.
MAX_REQUEST = 1 * units.Gi

#: The first bytes of a qcow2 header, and a flag of its incompatible features.
_MAGIC = b'QFI\xfb'
_DATA_FILE = 1 << 2

_PROGRESS = re.compile(rb'\((\d+\.\d+)/100%\)')

Progress = Callable[[float], None]


@dataclasses.dataclass(frozen=True)
class Extent:
    """Bytes from ``start`` to before ``beyond``."""

    start: int
    beyond: int


@dataclasses.dataclass(frozen=True)
class Holes:
    """Parts of a disk of ``size`` bytes that are known to be zeros.

    ``extents`` are in order, begin at multiples of HOLE, and do not touch.
    """

    size: int
    extents: Sequence[Extent]


@dataclasses.dataclass(frozen=True)
class ImageInfo:
    """Fields of the header of an image; sizes in bytes.

    ``internal_snapshots`` has the size of the memory in each, by its name;
    ``internal_ids`` their names by QEMU's numbers; ``has_bitmaps`` is True if
    it has persistent dirty bitmaps.
    """

    virtual_size: int
    backing_file: str | None
    backing_format: str | None
    is_encrypted: bool = False
    internal_snapshots: Mapping[str, int] = dataclasses.field(
        default_factory=dict
    )
    internal_ids: Mapping[str, str] = dataclasses.field(default_factory=dict)
    has_bitmaps: bool = False


def info(source: storage.DiskSource) -> ImageInfo:
    """Read the header of the topmost layer.

    :raises ProgramFailed: the header can't be read.
    """
    top = dataclasses.replace(source, backing=None)
    output = process.run(
        [
            'qemu-img',
            'info',
            '--force-share',
            '--output=json',
            checked_name(top),
        ],
        dataclasses.replace(INFO_LIMITS, file_size=process.MAX_OUTPUT),
    )
    found: dict[str, Any] = json.loads(output)
    return ImageInfo(
        virtual_size=found['virtual-size'],
        backing_file=found.get('full-backing-filename')
        or found.get('backing-filename'),
        backing_format=found.get('backing-filename-format'),
        is_encrypted=bool(found.get('encrypted')),
        internal_snapshots={
            snapshot['name']: snapshot['vm-state-size']
            for snapshot in found.get('snapshots', ())
        },
        internal_ids={
            snapshot['id']: snapshot['name']
            for snapshot in found.get('snapshots', ())
        },
        has_bitmaps=bool(
            found.get('format-specific', {}).get('data', {}).get('bitmaps')
        ),
    )


def require_no_data_file(
    source: storage.DiskSource, is_in_use: bool = False
) -> None:
    """Raise if the header of a layer says that its data is in another file.

    QEMU would open any file of that name.  libvirt, since 10.10, names such a
    file in a ``<dataStore>``.

    :param is_in_use: QEMU has the disk, and perhaps only its user may read
        it; what can't be read is left out.
    :raises UnsafeDisk: only a header names a data file, or a header can't be
        read.
    """
    for layer in source.layers():
        if layer.format != 'qcow2' or layer.data_store is not None:
            continue
        try:
            reason = _why_unsafe(layer.location)
        except PermissionError as error:
            reason = None if is_in_use else _unreadable(error)
        except OSError as error:
            reason = _unreadable(error)
        if reason is not None:
            raise exception.UnsafeDisk(disk=layer.describe(), reason=reason)


def _unreadable(error: OSError) -> str:
    return f'its header cannot be read: {error.strerror}.'


def _why_unsafe(location: str | storage.RbdLocation) -> str | None:
    """Return why a qcow2 layer may not be opened, or None.

    https://www.qemu.org/docs/master/interop/qcow2.html: bit 2 of the
    incompatible features, which headers of version 3 have at byte 72.
    """
    if isinstance(location, storage.RbdLocation):
        return 'it is a qcow2 image in Ceph, where its header is not read.'
    with open(location, 'rb') as file:
        header = file.read(80)
    version = int.from_bytes(header[4:8])
    features = int.from_bytes(header[72:80])
    if not header.startswith(_MAGIC) or version < 3:
        return None
    if not features & _DATA_FILE:
        return None
    return (
        'its header says that its data is in another file, a data file, and '
        "the server's definition does not name that in a <dataStore>."
    )


def checked_name(source: storage.DiskSource) -> str:
    """Return a disk's name for QEMU, or raise as require_no_data_file."""
    require_no_data_file(source)
    return storage.image_name(source)


def create_delta(
    path: pathlib.Path,
    size: int,
    backing: storage.DiskSource | None,
    cluster: int = 64 * units.Ki,
) -> storage.DiskSource:
    """Make an empty qcow2 file of ``size`` bytes over a backing file.

    Other users can't read the file; libvirt makes QEMU's user its owner when
    QEMU opens it.

    :returns: the delta with its chain.
    :raises ProgramFailed: the file can't be made.
    """
    argv = ['qemu-img', 'create', '-q', '-f', 'qcow2']
    argv += ['-o', f'cluster_size={cluster}']
    if backing is not None:
        # -u: the layers below are not opened by the names in headers.
        argv += ['-u', '-F', backing.format, '-b', backing.describe()]
    process.run([*argv, str(path), str(size)], INFO_LIMITS, umask=0o077)
    return storage.DiskSource(
        type='file', format='qcow2', location=str(path), backing=backing
    )


def can_flatten(delta: storage.DiskSource) -> bool:
    """Return True if :func:`flatten` would open no file but the base.

    ``flatten`` opens the layers below the delta by their headers, so there
    may be only one such layer, whose format the delta records, and whose own
    header names no further file: libvirt may have told QEMU to ignore that.

    :raises ProgramFailed, UnsafeDisk: as :func:`info`.
    """
    base = delta.backing
    if base is None:
        return True
    if base.backing is not None or base.data_store is not None:
        return False
    return base.format == 'raw' or info(base).backing_file is None


def flatten(delta: storage.DiskSource, progress: Progress) -> None:
    """Make a delta independent of its backing file, in place.

    Only clusters that the delta has not are copied from the backing file, so
    the data of the delta is not written a second time.

    :param progress: as for :func:`convert`.
    :raises ProgramFailed: qemu-img failed, as it does on a full disk.
    """
    if delta.backing is None:
        return
    path = pathlib.Path(delta.describe())
    own = _allocated(delta, progress) if can_mask() else None
    if own is None:
        _rebase(path, [], progress)
        return
    mask = path.with_suffix('.mask')
    try:
        below = create_delta(mask, info(delta).virtual_size, delta.backing)
        _hide(below, own, progress)
        _rebase(path, ['-u'], lambda share: progress(0.0))
        _convert(
            # Clusters that the delta has not read as zeros, now.
            ['-n', '--target-is-zero'],
            below,
            path,
            delta.format,
            progress,
        )
    finally:
        mask.unlink(missing_ok=True)


def _rebase(
    path: pathlib.Path, options: list[str], progress: Progress
) -> None:
    """Remove the backing file; without "-u" its data is copied first.

    Copying reads all of the backing file, the holes too: seconds of processor
    time for each 10 GiB of virtual size.
    """
    process.run(
        ['qemu-img', 'rebase', '-p', '-f', 'qcow2', *options]
        + ['-t', cache_mode(path.parent), '-b', '', str(path)],
        DATA_LIMITS,
        poll=lambda output: progress(share(output)),
    )


def _allocated(
    delta: storage.DiskSource, progress: Progress
) -> list[Extent] | None:
    """Return the extents that the delta itself has, zeros too, merged.

    Return None if they are not known: with QEMU before 6.1, or if there are
    too many.
    """
    top = dataclasses.replace(delta, backing=None)
    try:
        output = process.run(
            ['qemu-img', 'map', '--output=json', checked_name(top)],
            dataclasses.replace(DATA_LIMITS, file_size=MAX_MAP),
            poll=lambda output: progress(0.0),
            max_output=MAX_MAP,
        )
    except exception.OutputTooLong:
        return None
    if b'"present"' not in output:
        return None
    found: list[Extent] = []
    for extent in _items(output.decode()):
        if not extent['present']:
            continue
        start, beyond = extent['start'], extent['start'] + extent['length']
        if found and found[-1].beyond == start:
            start = found.pop().start
        found.append(Extent(start, beyond))
    return found


def _items(text: str) -> Iterator[Any]:
    """Yield the items of a list in JSON one at a time, to save memory."""
    decoder = json.JSONDecoder()
    position = text.index('[') + 1
    while (start := text.find('{', position)) >= 0:
        item, position = decoder.raw_decode(text, start)
        yield item


def can_mask() -> bool:
    """Return True if extents of a disk can be hidden from qemu-img.

    Some distributions have qemu-io in another package.
    """
    return shutil.which('qemu-io') is not None


def _hide(
    mask: storage.DiskSource, extents: list[Extent], progress: Progress
) -> None:
    """Make these extents of an overlay read as zeros, without moving data.

    :raises ProgramFailed: not all of them are hidden.  Data of the others
        would be copied over newer data.
    """
    lines = [
        f'write -q -z {start} {min(MAX_REQUEST, extent.beyond - start)}\n'
        for extent in extents
        for start in range(extent.start, extent.beyond, MAX_REQUEST)
    ]
    argv = ['qemu-io', '-f', 'qcow2', mask.describe()]
    process.run(
        argv,
        DATA_LIMITS,
        poll=lambda output: progress(0.0),
        stdin=''.join(lines).encode(),
    )
    if _allocated(mask, progress) != extents:
        raise exception.ProgramFailed(
            program=argv[0],
            outcome='exit status 0',
            stderr='it has not written all of the zeros',
        )


def flat_size(source: storage.DiskSource) -> int | None:
    """Return the bytes that a flat image of a disk takes, not compressed.

    Zeros that the disk keeps as data count, so the image may be smaller.
    Measured for qcow2: the other formats take about as much on disk, and
    QEMU's figure for "raw" has the holes in it.
    Return None if that is not known: a block device or an image in Ceph has
    no map of its data, and a file may be one that only QEMU's user may read.
    """
    if source.is_encrypted or any(
        layer.type != 'file' for layer in source.layers()
    ):
        return None
    argv = ['qemu-img', 'measure', '--force-share', '--output=json']
    try:
        output = process.run(
            [*argv, '-O', 'qcow2', checked_name(source)],
            dataclasses.replace(INFO_LIMITS, file_size=process.MAX_OUTPUT),
        )
    except (exception.ProgramFailed, exception.UnsafeDisk) as error:
        LOG.debug('The size of a flat image is not known: %s', error)
        return None
    return int(json.loads(output)['required'])


def convert(
    source: storage.DiskSource,
    target: pathlib.Path,
    target_format: str,
    compress: bool,
    progress: Progress,
    secrets: Mapping[str, bytes] = types.MappingProxyType({}),
    holes: Holes | None = None,
) -> None:
    """Write a flat image of a disk; an encrypted one is decrypted.

    :param compress: for qcow2 only.
    :param secrets: the passphrases of encrypted layers, and the keys of users
        of Ceph, by their secrets.
    :param progress: called about twice a second with the share that is done,
        0 to 1; when it raises, the conversion is ended.
    :param holes: parts of the disk that are known to be zeros, and are not
        read.
    :raises ProgramFailed: qemu-img failed, as it does on a full disk.
    """
    options = []
    if compress:
        # -W: several clusters are compressed at a time, and written in any
        # order.
        options += ['-c', '-W']
    with contextlib.ExitStack() as stack:
        files = {
            storage.key_object(secret): stack.enter_context(
                process.in_memory(passphrase)
            )
            for secret, passphrase in secrets.items()
        }
        for key, file in files.items():
            name = f'secret,id={key},file=/dev/fd/{file.fileno()}'
            options += ['--object', name]
        if holes is not None:
            source = stack.enter_context(
                _masked(source, target.with_suffix('.mask'), holes, progress)
            )
        _convert(
            options, source, target, target_format, progress, *files.values()
        )


@contextlib.contextmanager
def _masked(
    source: storage.DiskSource,
    path: pathlib.Path,
    holes: Holes,
    progress: Progress,
) -> Iterator[storage.DiskSource]:
    """Lay a mask of zeros over the holes of a disk, for a block.

    :param path: of the mask.
    """
    try:
        mask = create_delta(path, holes.size, None, HOLE)
        _hide(mask, list(holes.extents), progress)
        # The header of the mask names no file below it, the name for QEMU
        # does.
        yield dataclasses.replace(mask, backing=source)
    finally:
        path.unlink(missing_ok=True)


def _convert(
    options: list[str],
    source: storage.DiskSource,
    target: pathlib.Path,
    target_format: str,
    progress: Progress,
    *files: BinaryIO,
) -> None:
    process.run(
        ['qemu-img', 'convert', '-p', '-O', target_format, *options]
        + ['-t', cache_mode(target.parent)]
        + [checked_name(source), str(target)],
        DATA_LIMITS,
        poll=lambda output: progress(share(output)),
        umask=0o077,
        files=files,
    )


def share(output: bytes) -> float:
    """Return the share that is done, by the end of a program's output."""
    found = _PROGRESS.findall(output)
    return float(found[-1]) / 100 if found else 0.0


def cache_mode(directory: pathlib.Path) -> str:
    """Return the cache mode for writing to a directory.

    "none" takes a tenth of the processor time of writing through the page
    cache, and leaves the cache to the guests; some file systems do not
    support it.
    """
    flags = os.O_RDWR | os.O_TMPFILE | os.O_DIRECT
    try:
        os.close(os.open(directory, flags, 0o600))
    except OSError:
        return 'writeback'
    return 'none'
