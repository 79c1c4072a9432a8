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

"""The live pipeline by point-in-time export: one pass, no temporary image.

The image shows the moment at which the export began.  The guest runs on while
the image is read and uploaded; old data that the guest overwrites is kept in a
scratch file of the disk until the end.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import io
from typing import Any
from typing import BinaryIO

from nova_snap import progress as progress_lib
from nova_snap.objects import power_state
from nova_snap.qcow2 import nbd_source
from nova_snap.qcow2 import raw
from nova_snap.qcow2 import source as source_lib
from nova_snap.qcow2 import stream as stream_lib
from nova_snap.qcow2 import throttle
from nova_snap.qcow2 import writer
from nova_snap.virt import driver
from nova_snap.virt.libvirt import backup_job
from nova_snap.virt.libvirt import undo_steps
from nova_snap.virt.libvirt.extraction import context as context_lib
from nova_snap.virt.libvirt.extraction import export_guard
from nova_snap.virt.libvirt.extraction import orphan_watch


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of reading the disk and writing the image.

    ``compression`` is zstd or zlib, for images that are compressed;
    ``bandwidth_limit`` is in bytes per second, for all disks of a guest
    together, 0 for none; the other numbers are for each disk.
    """

    compression: str = 'zstd'
    compression_threads: int = 2
    connections: int = 4
    bandwidth_limit: int = 0


@contextlib.contextmanager
def extracted(
    context: context_lib.Context, options: Options
) -> Iterator[tuple[driver.DiskData, ...]]:
    """Read disks of a running guest as streams, all as of one moment.

    QEMU has to have write access to the folder of the context.

    :raises HypervisorError: libvirt could not begin the backup job.
    :raises QuiesceNotPossible: freezing is required and failed.
    :raises NotEnoughSpace: the scratch files take too much space.
    :raises ExportFailed: a disk could not be read to its end.
    """
    was_paused = context.guest.is_paused_by_io_error()
    limit = options.bandwidth_limit
    limiter = throttle.Throttle(limit) if limit else None
    with (
        _exported(context) as export,
        export_guard.ExportGuard(context, export, was_paused) as guard,
    ):
        yield tuple(
            _read(target, export, guard, options, limiter)
            for target in context.disks
        )


@contextlib.contextmanager
def _read(
    target: context_lib.DiskToRead,
    export: backup_job.Export,
    guard: export_guard.ExportGuard,
    options: Options,
    limiter: throttle.Throttle | None,
) -> Iterator[driver.ImageData]:
    """Read one of the exported disks."""
    uri = export.uri(target.disk.device)
    with (
        guard.translated(),
        _source(uri, options, limiter, target.progress.check) as source,
        _stream(target, source, options) as stream,
    ):
        yield driver.ImageData(
            stream=_Reader.of(stream, guard),
            format=target.image_format,
            size=stream.length,
            progress=_StreamProgress(target.progress, stream),
        )


@contextlib.contextmanager
def _exported(context: context_lib.Context) -> Iterator[backup_job.Export]:
    """Export the disks, frozen at the point in time if that is wanted."""
    guest = context.guest
    export = backup_job.Export(context.folder)
    devices = [target.disk.device for target in context.disks]
    runs = guest.power_state() is power_state.PowerState.RUNNING
    step = undo_steps.EndExport(str(context.folder), running=runs)
    with orphan_watch.undoing(context.entry, guest, step):
        with context.quiesced():
            backup_job.begin(guest, devices, export)
        yield export


@contextlib.contextmanager
def _source(
    uri: str,
    options: Options,
    limiter: throttle.Throttle | None,
    check: Callable[[], None],
) -> Iterator[source_lib.Source]:
    with contextlib.closing(
        nbd_source.NbdSource(uri, options.connections, check=check)
    ) as source:
        if limiter is not None:
            yield throttle.ThrottledSource(source, limiter)
        else:
            yield source


def _stream(
    target: context_lib.DiskToRead,
    source: source_lib.Source,
    options: Options,
) -> stream_lib.Stream:
    if target.image_format == 'raw':
        return raw.write_raw(source)
    if target.compress:
        return writer.write_compressed(
            source,
            options.compression,
            threads=options.compression_threads,
        )
    return writer.write_plain(source)


class _Reader(io.RawIOBase):
    """The stream as a file that ends only if the image is whole."""

    def __init__(
        self, file: BinaryIO, guard: export_guard.ExportGuard
    ) -> None:
        self._file = file
        self._guard = guard

    @classmethod
    def of(
        cls, stream: stream_lib.Stream, guard: export_guard.ExportGuard
    ) -> BinaryIO:
        """Return a file that can be read once."""
        reader: Any = cls(stream.as_file(), guard)
        return reader  # type: ignore[no-any-return]

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int | None = -1) -> bytes:
        with self._guard.reading():
            data = self._file.read(-1 if size is None else size)
        if not data:
            # The reader takes the end of the file for the end of the image.
            self._guard.check()
        return data


class _StreamProgress(progress_lib.Progress):
    """Progress in bytes of the disk instead of the image.

    The length of a compressed image is not known until it is finished.
    """

    def __init__(
        self, progress: progress_lib.Progress, stream: stream_lib.Stream
    ) -> None:
        super().__init__()
        self._progress = progress
        self._stream = stream

    def check(self) -> None:
        """Raise SnapshotCancelled if the operation is cancelled."""
        self._progress.check()

    def report(
        self, stage: progress_lib.Stage, done: int, total: int | None
    ) -> None:
        """Replace the bytes of the image by those of the disk."""
        progress = self._stream.progress
        self._progress.report(stage, progress.done, progress.total)

    def left(self) -> int | None:
        """Return the bytes of the disk that are left."""
        return self._progress.left()
