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
import os
import pathlib
import time
import uuid

from oslo_utils import units

from nova_snap import exception
from nova_snap import progress
from nova_snap import waiting
from nova_snap.virt import driver
from nova_snap.virt.libvirt import block_device
from nova_snap.virt.libvirt import events
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import mirror_step
from nova_snap.virt.libvirt import undo_steps
from nova_snap.virt.libvirt.extraction import context as context_lib
from nova_snap.virt.libvirt.extraction import guest_stop
from nova_snap.virt.libvirt.extraction import space
from nova_snap.virt.storage import disk_source as storage
from nova_snap.virt.storage import qemu_img

#: Seconds within which libvirt sends the event for the end of a job.
END_TIMEOUT = 10


@contextlib.contextmanager
def extracted(
    context: context_lib.Context, stall_timeout: int
) -> Iterator[tuple[driver.DiskData, ...]]:
    """Read the root disk of a running guest as a flat image.

    The steps, by their numbers:

    1. find the root disk (the plan has),
    2. create the delta,
    3. save the guest's definition,
    4. end an old block job,
    5. undefine the guest,
    6. blockRebase into the delta,
    7. define the guest again: libvirt wants it transient only at 6,
    8. poll every 0.5 s until all data is there,
    9. abort the job,
    10. convert the delta,
    11. upload (the caller does, from what is yielded).

    :param stall_timeout: seconds in which the rest has to shrink.
    :raises BlockJobRunning: another program's job runs on the disk.
    :raises BlockJobFailed: QEMU could not copy the disk, or the guest writes
        faster than that.
    :raises GuestGone, GuestCrashed: the guest stopped before that was done.
    :raises QuiesceNotPossible: freezing is required and failed.
    :raises NotEnoughSpace: the folder's file system is too full.
    :raises ProgramFailed: qemu-img failed.
    """
    disk, guest = context.root.disk, context.guest  # 1
    delta = qemu_img.create_delta(  # 2
        context.folder / f'{uuid.uuid4()}.delta',
        context.root.virtual_size,
        disk.source.backing,
    )
    if os.geteuid() == 0:
        # Others may not, and need libvirt's dynamic_ownership.
        path, uid = delta.describe(), context.qemu_uid
        os.chown(path, uid, -1, follow_symlinks=False)
    device = block_device.BlockDevice(guest, disk.device)
    copy = _end_mirror(context, delta)
    define = _definition_to_restore(guest)  # 3
    device.require_no_foreign_job(context.folder.parent)
    device.abort_job()  # 4: one that an earlier failure may have left
    with contextlib.ExitStack() as stack:
        if define is not None:
            stack.enter_context(context.entry.undoing(define))  # 7 on an error
            guest.undefine()  # 5
        stack.enter_context(context.entry.undoing(copy))  # 9 on an error
        device.rebase(copy.target)  # 6
        if define is not None:
            context.entry.undo_now(define)  # 7
        mirror = _Mirror(context, device)
        mirror.wait_until_ready(stall_timeout)  # 8
        with context.quiesced():
            mirror.end()  # 9
    context.hooks.take_back(pathlib.Path(delta.describe()))
    flat = _flat_image(context, delta)  # 10
    context.release_space()
    yield (context_lib.opened(flat, context.root),)  # 11


def _end_mirror(
    context: context_lib.Context, delta: storage.DiskSource
) -> mirror_step.EndMirror:
    return mirror_step.EndMirror(
        device=context.root.disk.device,
        target=delta.describe(),
        run=context.guest.run(),
        generation=context.guest.host.generation,
    )


def _definition_to_restore(
    guest: guest_lib.Guest,
) -> undo_steps.Define | None:
    """Return the step that defines the guest again; None if it is transient.

    blockRebase with COPY refuses persistent guests: libvirt could not go on
    with the job after the host's reboot.  Once the job runs, the guest may be
    defined, and is at once: what others change in the definition meanwhile,
    such as a disk that they detach, is theirs, and it outlives the host.
    """
    if not guest.is_persistent():
        return None
    definition = guest.definition()
    return undo_steps.Define(definition.xml, definition.autostart)


class _Stall:
    """A limit on the time in which the rest of a copy does not shrink.

    :param timeout: in seconds.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._least: int | None = None
        self._since = time.monotonic()

    def is_over(self, rest: int) -> bool:
        """Return True if the time is over.

        :param rest: bytes that are still to be copied.  A job that has not
            really begun has none.
        """
        if rest and (self._least is None or rest < self._least):
            self._least = rest
            self._since = time.monotonic()
        return time.monotonic() - self._since > self._timeout


class _Mirror:
    """The running copy of a disk into a delta."""

    def __init__(
        self,
        context: context_lib.Context,
        device: block_device.BlockDevice,
    ) -> None:
        self._context = context
        self._device = device
        self._generation = context.guest.host.generation

    def wait_until_ready(self, stall_timeout: int) -> None:
        """Wait until the delta has all data and gets each new write.

        :param stall_timeout: seconds in which the rest has to shrink.
        :raises BlockJobFailed: the job has ended by itself, or the guest
            writes faster than its disk is copied.
        """
        stall = _Stall(stall_timeout)
        while True:
            job = self._device.job()
            if job is None:
                raise self._why_gone()
            self._context.report(progress.Stage.COPYING, job.cur, job.end)
            if self._is_complete(job):
                return
            if stall.is_over(job.end - job.cur):
                raise self._stalled(stall_timeout)
            self._context.progress.wait()

    def _is_complete(self, job: block_device.BlockJob) -> bool:
        # cur and end are also equal before the job has really begun: both 0,
        # or both 1.  Only QEMU's "ready", which libvirt writes into the XML,
        # means that the disk has been copied.
        if job.end == 0 or job.cur != job.end:
            return False
        mirror = self._device.mirror()
        return mirror is not None and mirror.is_ready

    def end(self) -> None:
        """Stop copying; the delta stays as it is at this moment.

        :raises BlockJobFailed: not all data was written to the delta, or that
            is not known.
        """
        if not self._device.abort_job():
            raise self._why_gone()
        if self._wait_until_ended() is not events.BlockJobStatus.CANCELED:
            raise self._why_gone()

    def _wait_until_ended(self) -> events.BlockJobStatus:
        for _poll in waiting.polls(END_TIMEOUT, interval=0.02):
            status = self._ended_status()
            if status not in (None, events.BlockJobStatus.READY):
                return status
        raise self._failed('libvirt did not say how the copy ended.')

    def _ended_status(self) -> events.BlockJobStatus | None:
        if self._context.guest.host.generation != self._generation:
            raise self._failed(
                'libvirtd was restarted, and did not say how the copy ended.'
            )
        return self._device.ended_status()

    def _why_gone(self) -> exception.NovaSnapError:
        guest = self._context.guest
        if not guest.power_state().is_active:
            return guest_stop.explained(guest, 'copying its disk')
        space.require(self._context.folder, units.Mi)
        return self._failed(
            'QEMU ended the copy, or another program did '
            '(look at the log of QEMU and at "virsh domblkerror").'
        )

    def _stalled(self, timeout: int) -> exception.BlockJobFailed:
        return self._failed(
            f'the copy has made no progress for {timeout} s, since the guest '
            'writes as fast as its disk is copied. Try again when it writes '
            'less, raise [snapshot] mirror_stall_timeout, or use the method '
            'pull.'
        )

    def _failed(self, reason: str) -> exception.BlockJobFailed:
        return exception.BlockJobFailed(
            disk=self._device.device,
            server=self._context.guest.uuid,
            reason=reason,
        )


def _flat_image(
    context: context_lib.Context, delta: storage.DiskSource
) -> pathlib.Path:
    """Convert the delta to a flat image in the format that is wanted."""
    path = pathlib.Path(delta.describe())
    root = context.root

    def progress(share: float) -> None:
        context.converting(root, share)

    with context.disk_operation_slot(context.progress):
        if (
            root.image_format == delta.format
            and not root.compress
            and qemu_img.can_flatten(delta)
        ):
            qemu_img.flatten(delta, progress)
            progress(1)
            return path
        flat = path.with_suffix('.image')
        qemu_img.convert(
            delta,
            flat,
            root.image_format,
            root.compress,
            progress,
        )
        progress(1)
    path.unlink()
    return flat
