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

"""The cold pipeline: the guest does not run while its disk is read.

The image shows the moment at which the guest was suspended.
"""

from collections.abc import Iterator
import contextlib
import pathlib
import uuid

from oslo_log import log as logging

from nova_snap import exception
from nova_snap import waiting
from nova_snap.objects import power_state
from nova_snap.virt import driver
from nova_snap.virt.libvirt import disk_xml
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt import inspection
from nova_snap.virt.libvirt import quiesce
from nova_snap.virt.libvirt import requirements
from nova_snap.virt.libvirt import undo_steps
from nova_snap.virt.libvirt.extraction import context as context_lib
from nova_snap.virt.libvirt.extraction import rbd_holes
from nova_snap.virt.storage import qemu_img

LOG = logging.getLogger(__name__)


@contextlib.contextmanager
def extracted(
    context: context_lib.Context, suspends: bool, detach_timeout: int
) -> Iterator[tuple[driver.DiskData, ...]]:
    """Read disks of a guest as flat images.

    :param suspends: True if the guest runs and has to be suspended.
    :param detach_timeout: seconds for the guest to release a device.
    :raises UnsupportedGuest: suspended, the guest could not start again.
    :raises HypervisorError: the guest could not be suspended.
    :raises ProgramFailed: qemu-img failed.
    """
    is_stopped = suspends or not context.guest.power_state().is_active
    with contextlib.ExitStack() as stack:
        if suspends:
            # Checked again: the wait for a slot may have been long.
            requirements.require(context.guest, context.guest.xml())
            stack.enter_context(
                context.hooks.without_devices(context.guest, context.entry)
                or _without_devices(context, detach_timeout)
            )
            stack.enter_context(
                quiesce.quiesced(
                    context.guest,
                    context.quiesce,
                    context.entry,
                    context.progress,
                )
            )
            stack.enter_context(_suspended(context))
        flats = _flat_images(context, suspends, is_stopped)
    context.release_space()
    yield tuple(
        context_lib.opened(flat, target)
        for flat, target in zip(flats, context.disks, strict=True)
    )


@contextlib.contextmanager
def _without_devices(
    context: context_lib.Context, timeout: int
) -> Iterator[None]:
    """Detach the host's PCI devices, and always attach them again.

    The memory of a guest that has one can't be saved.
    """
    guest = context.guest
    devices = domain_xml.passthrough_devices(guest.xml())
    if not devices:
        yield
        return
    with context.entry.undoing(undo_steps.AttachDevices.of(devices)):
        for device in devices:
            guest.detach_device(device.xml)
        _wait_until_detached(context, devices, timeout)
        yield


def _wait_until_detached(
    context: context_lib.Context,
    devices: list[domain_xml.PassthroughDevice],
    timeout: float,
) -> None:
    """Wait until the guest has released the devices.

    libvirt then removes the device from the live XML.  It sends the event
    device-removed, too, but a restart of libvirtd would lose that.
    """
    guest, events = context.guest, context.guest.host.events
    wanted = {device.address for device in devices}
    for _poll in waiting.polls(timeout, context.progress):
        left = [
            device
            for device in domain_xml.passthrough_devices(guest.xml())
            if device.address in wanted
        ]
        if not left:
            return
        for device in left:
            if events.take_removal_refused(guest.uuid, device.alias):
                raise _not_detached(device.address, 'the guest refuses')
    raise _not_detached(
        left[0].address, 'the guest did not release it in time'
    )


def _not_detached(address: str, reason: str) -> exception.HypervisorError:
    return exception.HypervisorError(
        action=f'detach device {address}', reason=reason
    )


@contextlib.contextmanager
def _suspended(context: context_lib.Context) -> Iterator[None]:
    """Save the guest's memory and stop it, and always start it again."""
    guest = context.guest
    paused = guest.power_state() is power_state.PowerState.PAUSED
    with context.entry.undoing(undo_steps.Resume(paused)):
        LOG.info(
            'Suspending server %s for its snapshot.',
            guest.uuid,
            instance_uuid=guest.uuid,
        )
        guest.managed_save()
        yield


def _flat_images(
    context: context_lib.Context, suspends: bool, is_stopped: bool
) -> list[pathlib.Path]:
    """Convert each disk to a flat image in the format that is wanted."""
    flats = []
    with context.disk_operation_slot(context.progress):
        if is_stopped and not suspends:
            _require_same_disks(context)
        context.moment.take(_stillness(suspends, is_stopped))
        for target in context.disks:
            flats.append(_flat_image(context, target, is_stopped))
    if is_stopped and context.guest.power_state().is_active:
        # QEMU's locks on files prevent a start; a disk in Ceph has no lock.
        raise exception.GuestStarted(server=context.guest.uuid)
    return flats


def _stillness(suspends: bool, is_stopped: bool) -> driver.Stillness:
    if suspends:
        return driver.Stillness.HELD
    return driver.Stillness.OFF if is_stopped else driver.Stillness.NONE


def _flat_image(
    context: context_lib.Context,
    target: context_lib.DiskToRead,
    is_stopped: bool,
) -> pathlib.Path:
    flat = context.folder / f'{uuid.uuid4()}.image'
    source = target.disk.source
    host = context.guest.host
    with context.hooks.reading(source, context.entry):
        qemu_img.convert(
            source,
            flat,
            target.image_format,
            target.compress,
            lambda share: context.converting(target, share),
            {secret: host.secret(secret) for secret in source.secrets},
            rbd_holes.find(host, source, lambda: context.converting(target, 0))
            if is_stopped
            else None,
        )
    context.converting(target, 1)
    return flat


def _require_same_disks(context: context_lib.Context) -> None:
    """Raise if a shut-off guest has other disks than when it was planned.

    The wait for a slot may have been long.  A guest that ran meanwhile may
    write to an overlay now, and the image would lack what is in that.

    :raises GuestStarted: the definition names another disk.
    """
    found = {
        disk.device: disk.readable.describe()
        for disk in disk_xml.disks(
            context.guest.xml(), inspection.volume_finder(context.guest.host)
        )
        if disk.readable is not None
    }
    for target in context.disks:
        disk = target.disk
        if found.get(disk.device) != disk.source.describe():
            raise exception.GuestStarted(server=context.guest.uuid)
