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

"""Freezing of a guest's file systems at the moment that an image shows."""

from collections.abc import Iterator
import contextlib
import dataclasses
import time

from oslo_log import log as logging

from nova_snap import exception
from nova_snap import journal
from nova_snap.objects import power_state
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import inspection as inspection_lib
from nova_snap.virt.libvirt import undo_steps

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Quiesce:
    """How to freeze a guest.

    ``wanted`` is True if the guest shall be frozen, ``required`` if the image
    must not be taken otherwise; ``timeout`` is in seconds.
    """

    wanted: bool
    required: bool
    timeout: int


def plan(
    found: inspection_lib.Inspection, required: bool, timeout: int
) -> Quiesce:
    """Find out whether the guest can be frozen, before its disk is copied.

    :param required: the image property os_require_quiesce.
    :raises QuiesceNotPossible: freezing is required and not possible.
    """
    guest = found.guest
    # A paused guest writes nothing, and its agent can't answer.
    runs = found.power_state is power_state.PowerState.RUNNING
    hindrance = _hindrance(found) if runs else None
    if hindrance and required:
        raise exception.QuiesceNotPossible(server=guest.uuid, reason=hindrance)
    if hindrance:
        LOG.info(
            'Server %(server)s is not frozen for its snapshot: %(reason)s '
            'The image will be as after a power failure.',
            {'server': guest.uuid, 'reason': hindrance},
            instance_uuid=guest.uuid,
        )
    return Quiesce(
        wanted=runs and not hindrance, required=required, timeout=timeout
    )


def _hindrance(found: inspection_lib.Inspection) -> str | None:
    if not domain_xml.has_agent(found.xml):
        return (
            'it has no channel to a guest agent (the image property '
            'hw_qemu_guest_agent gives it one).'
        )
    if not found.guest.is_agent_alive():
        return 'its guest agent does not answer.'
    return None


@contextlib.contextmanager
def quiesced(
    guest: guest_lib.Guest, quiesce: Quiesce, entry: journal.Entry
) -> Iterator[bool]:
    """Freeze the guest for the block, and always thaw it.

    Yield True if the guest is frozen.

    :raises QuiesceNotPossible: freezing is required and failed.
    """
    if not quiesce.wanted or not _can_freeze(guest, quiesce):
        yield False
        return
    with entry.undoing(undo_steps.Thaw()):
        frozen = _freeze(guest, quiesce)
        began = time.monotonic()
        yield frozen
    if frozen:
        LOG.info(
            'The file systems of server %(server)s were frozen for %(ms)d ms.',
            {'server': guest.uuid, 'ms': (time.monotonic() - began) * 1000},
            instance_uuid=guest.uuid,
        )


def _can_freeze(guest: guest_lib.Guest, quiesce: Quiesce) -> bool:
    """Return True if the guest runs and its agent is still connected.

    Otherwise no freeze is requested and no thaw is needed.  Thawing by an
    agent that is gone would fail, and the undo step would stay in the journal
    until the guest is shut off.
    """
    if guest.power_state() is not power_state.PowerState.RUNNING:
        return False
    if domain_xml.is_agent_connected(guest.xml()):
        return True
    _not_frozen(guest, quiesce, 'its guest agent has gone.')
    return False


def _freeze(guest: guest_lib.Guest, quiesce: Quiesce) -> bool:
    try:
        guest.freeze(quiesce.timeout)
    except exception.HypervisorError as error:
        _not_frozen(guest, quiesce, str(error))
        return False
    return True


def _not_frozen(guest: guest_lib.Guest, quiesce: Quiesce, reason: str) -> None:
    """Raise an error if freezing is required, or else log a warning."""
    if quiesce.required:
        raise exception.QuiesceNotPossible(server=guest.uuid, reason=reason)
    LOG.warning(
        'Server %(server)s could not be frozen for its snapshot; the '
        'image will be as after a power failure: %(reason)s',
        {'server': guest.uuid, 'reason': reason},
        instance_uuid=guest.uuid,
    )
