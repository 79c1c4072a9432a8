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

"""The live pipeline by blockRebase: the guest's disk is mirrored to a delta.

The image shows the moment at which the mirror was ended.
"""

from collections.abc import Iterator
import contextlib
import pathlib
import time
import uuid

from nova_snap import exception
from nova_snap import progress
from nova_snap.virt import driver
from nova_snap.virt.libvirt import block_device
from nova_snap.virt.libvirt import events
from nova_snap.virt.libvirt import quiesce
from nova_snap.virt.libvirt import undo_steps
from nova_snap.virt.libvirt.extraction import context as snapshot_lib
from nova_snap.virt.storage import disk_source as storage
from nova_snap.virt.storage import qemu_img

#: Seconds within which libvirt says how a job ended that it has ended.
END_TIMEOUT = 10


@contextlib.contextmanager
def extracted(
    snapshot: snapshot_lib.Snapshot,
) -> Iterator[driver.ImageData]:
    """The root disk of a running guest as a flat image.

    :raises BlockJobFailed: QEMU could not copy the disk.
    :raises QuiesceNotPossible: freezing is required and failed.
    :raises NotEnoughSpace: the folder's file system is too full.
    :raises ProgramFailed: qemu-img failed.
    """
    disk, guest = snapshot.disk, snapshot.guest
    device = block_device.BlockDevice(guest, disk.device)
    delta = qemu_img.create_delta(
        snapshot.folder / f'{uuid.uuid4()}.delta',
        snapshot.virtual_size,
        disk.source.backing,
    )
    device.abort_job()  # one that an earlier failure may have left
    with _transient(snapshot), _mirrored(snapshot, device, delta) as mirror:
        mirror.wait_until_ready()
        with quiesce.quiesced(guest, snapshot.quiesce, snapshot.entry):
            mirror.end()
    snapshot.owner.take_back(pathlib.Path(delta.describe()))
    flat = _flat_image(snapshot, delta)
    with snapshot_lib.opened(flat, snapshot) as data:
        yield data


@contextlib.contextmanager
def _transient(snapshot: snapshot_lib.Snapshot) -> Iterator[None]:
    """Undefine the guest, and always define it again.

    blockRebase with COPY refuses persistent guests: libvirt could not go on
    with the job after the host's reboot.
    """
    guest = snapshot.guest
    if not guest.is_persistent():
        yield
        return
    definition = guest.definition()
    with snapshot.entry.owing(
        undo_steps.Kind.DEFINE,
        snapshot.undoing.define,
        xml=definition.xml,
        autostart=definition.autostart,
    ):
        guest.undefine()
        yield


class _Mirror:
    """The running copy of a disk into a delta."""

    def __init__(
        self,
        snapshot: snapshot_lib.Snapshot,
        device: block_device.BlockDevice,
    ) -> None:
        self._snapshot = snapshot
        self._device = device
        self._generation = snapshot.guest.host.generation

    def wait_until_ready(self) -> None:
        """Wait until the delta has all data and gets each new write.

        :raises BlockJobFailed: the job is gone.
        """
        while True:
            job = self._device.job()
            if job is None:
                raise self._failed(self._why_gone())
            self._snapshot.report(progress.Stage.COPYING, job.cur, job.end)
            if self._is_complete(job):
                return
            self._snapshot.progress.wait()

    def _is_complete(self, job: block_device.BlockJob) -> bool:
        # Before the job has really begun cur and end are equal, too: both 0,
        # or both 1.  Only QEMU's own "ready", which libvirt writes into the
        # XML, tells that apart from a disk that has been copied.
        if job.end == 0 or job.cur != job.end:
            return False
        mirror = self._device.mirror()
        return mirror is not None and mirror.is_ready

    def end(self) -> None:
        """Stop copying; the delta stays as it is at this moment.

        :raises BlockJobFailed: not everything was written to the delta, or
            it can't be known whether it was.
        """
        if not self._device.abort_job():
            raise self._failed(self._why_gone())
        deadline = time.monotonic() + END_TIMEOUT
        while self._ended_status() in (None, events.BlockJobStatus.READY):
            if time.monotonic() > deadline:
                raise self._failed('libvirt did not say how the copy ended.')
            time.sleep(0.02)
        if self._ended_status() is not events.BlockJobStatus.CANCELED:
            raise self._failed(self._why_gone())

    def _ended_status(self) -> events.BlockJobStatus | None:
        if self._snapshot.guest.host.generation != self._generation:
            raise self._failed(
                'libvirtd was restarted, and did not say how the copy ended.'
            )
        return self._device.ended_status()

    def _why_gone(self) -> str:
        if not self._snapshot.guest.power_state().is_active:
            return 'the server was shut off meanwhile.'
        snapshot_lib.require_space(self._snapshot.folder, snapshot_lib.MIB)
        return (
            'QEMU ended the copy, or another program did '
            '(look at the log of QEMU and at "virsh domblkerror").'
        )

    def _failed(self, reason: str) -> exception.BlockJobFailed:
        return exception.BlockJobFailed(
            disk=self._device.device,
            server=self._snapshot.guest.uuid,
            reason=reason,
        )


@contextlib.contextmanager
def _mirrored(
    snapshot: snapshot_lib.Snapshot,
    device: block_device.BlockDevice,
    delta: storage.DiskSource,
) -> Iterator[_Mirror]:
    """Copy the disk's own data into the delta, and always end the copy."""
    target = delta.describe()
    with snapshot.entry.owing(
        undo_steps.Kind.END_MIRROR,
        snapshot.undoing.end_mirror,
        device=device.device,
        target=target,
    ):
        device.rebase(target)
        yield _Mirror(snapshot, device)


def _flat_image(
    snapshot: snapshot_lib.Snapshot, delta: storage.DiskSource
) -> pathlib.Path:
    """The delta without a backing file, in the format that is wanted."""
    path = pathlib.Path(delta.describe())
    with snapshot.disk_operation_slot(snapshot.progress):
        if (
            snapshot.image_format == delta.format
            and not snapshot.compress
            and qemu_img.can_flatten(delta)
        ):
            qemu_img.flatten(delta, snapshot.converting)
            snapshot.converting(1)
            return path
        flat = path.with_suffix('.image')
        qemu_img.convert(
            delta,
            flat,
            snapshot.image_format,
            snapshot.compress,
            snapshot.converting,
        )
        snapshot.converting(1)
    path.unlink()
    return flat
