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

"""Detection of a guest that stops while its disk is read.

Open this file to change how a stopped guest is told from an error of libvirt
or QEMU, and when a crash is reported.
"""

from collections.abc import Iterator
import contextlib

from oslo_log import log as logging

from nova_snap import exception
from nova_snap import waiting
from nova_snap.virt.libvirt import block_device
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import host as host_lib

LOG = logging.getLogger(__name__)

#: Seconds to wait for the end of a QEMU that does not answer any more.
STOP_TIMEOUT = 10
STOP_INTERVAL = 0.2


@contextlib.contextmanager
def noticed(guest: guest_lib.Guest, device: str) -> Iterator[None]:
    """Report the stop of a guest that runs when the block begins.

    An error of libvirt becomes the stop that caused it.  A guest that has
    crashed is reported even if the block was successful: ending an export can
    crash QEMU.  A guest that was shut off or destroyed is no error then.

    :param device: name of a disk of the guest, to ask QEMU about.
    :raises GuestCrashed: QEMU ended without having been told to.
    :raises GuestGone: the block failed, and the guest does not run any more.
    """
    try:
        yield
    except exception.GuestGone as error:
        raise explained(guest, error.action) from error
    except exception.HypervisorError as error:
        if _has_stopped(guest, error):
            raise explained(guest, str(error)) from error
        raise
    # libvirt may not know yet that QEMU has died: the answer is QEMU's own.
    try:
        block_device.BlockDevice(guest, device).job()
    except exception.GuestGone:
        pass
    except exception.HypervisorError as error:
        if not _has_stopped(guest, error):
            LOG.debug(
                'Whether QEMU still runs is not known: %s',
                error,
                instance_uuid=guest.uuid,
            )
    if guest.has_crashed():
        raise exception.GuestCrashed(server=guest.uuid)


def explained(guest: guest_lib.Guest, action: str) -> exception.NovaSnapError:
    """Return the error that reports the stop of a guest.

    :param action: what failed as it stopped, a phrase.
    """
    if guest.has_crashed():
        return exception.GuestCrashed(server=guest.uuid)
    return exception.GuestGone(server=guest.uuid, action=action)


def _has_stopped(
    guest: guest_lib.Guest, error: exception.HypervisorError
) -> bool:
    timeout = STOP_TIMEOUT if error.code in host_lib.HANGING_UP else 0
    for _poll in waiting.polls(timeout, interval=STOP_INTERVAL):
        if not guest.power_state().is_active:
            return True
    return False
