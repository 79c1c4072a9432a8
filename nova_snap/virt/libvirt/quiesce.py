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
import threading
import time

from oslo_log import log as logging

from nova_snap import concurrency
from nova_snap import exception
from nova_snap import journal
from nova_snap import progress as progress_lib
from nova_snap import waiting
from nova_snap.objects import power_state
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt import guest as guest_lib
from nova_snap.virt.libvirt import inspection as inspection_lib
from nova_snap.virt.libvirt import undo_steps

LOG = logging.getLogger(__name__)

#: Seconds that a guest may run with frozen file systems.  To end a mirror or
#: to begin an export takes milliseconds.
FROZEN_LIMIT = 30.0


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
    reason = hindrance(found) if runs else None
    if reason and required:
        raise exception.QuiesceNotPossible(server=guest.uuid, reason=reason)
    if reason:
        LOG.info(
            'Server %(server)s is not frozen for its snapshot: %(reason)s '
            'The image will be as after a power failure.',
            {'server': guest.uuid, 'reason': reason},
            instance_uuid=guest.uuid,
        )
    return Quiesce(
        wanted=runs and not reason, required=required, timeout=timeout
    )


def can_be_still(found: inspection_lib.Inspection) -> bool:
    """Return True if a guest does not write while snapshots are taken.

    It can be frozen, or is shut off.  One that is paused may be resumed.
    """
    if found.power_state is power_state.PowerState.RUNNING:
        return hindrance(found) is None
    return not found.power_state.is_active


def hindrance(found: inspection_lib.Inspection) -> str | None:
    """Return why a guest that runs can't be frozen, a sentence, or None."""
    if not domain_xml.has_agent(found.xml):
        return (
            'it has no channel to a guest agent (the image property '
            'hw_qemu_guest_agent gives it one).'
        )
    if not found.guest.is_agent_alive():
        return 'its guest agent does not answer.'
    return None


def require_no_job(guest: guest_lib.Guest) -> None:
    """Raise Conflict if another program's job runs on the guest.

    Such as a dump, a save, a migration, or a backup.
    """
    if guest.job() is not None:
        raise exception.Conflict(
            f'Another program works on server {guest.uuid}: a dump, a backup '
            'or the like is under way (see "virsh domjobinfo"). Wait until it '
            'has ended, then try again.'
        )


class _Watch:
    """Thaws a guest that stays frozen for too long, and runs.

    What is done meanwhile may hang in libvirt or QEMU.  The time in which the
    guest is paused or saved does not count: it can write nothing then.
    """

    def __init__(self, guest: guest_lib.Guest, limit: float | None) -> None:
        self._guest = guest
        self._limit = limit
        self._over = threading.Event()
        self._has_thawed = False

    def __enter__(self) -> None:
        if (limit := self._limit) is not None:
            concurrency.start_thread('frozen-watch', lambda: self._run(limit))

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        if self._has_thawed:
            raise exception.FrozenTooLong(
                server=self._guest.uuid, seconds=self._limit
            )

    def _run(self, limit: float) -> None:
        began = time.monotonic()
        while not self._over.wait(progress_lib.POLL_INTERVAL):
            try:
                state = self._guest.power_state()
            except exception.NovaSnapError as error:
                LOG.debug('Frozen server %s: %s', self._guest.uuid, error)
                continue
            if state is not power_state.PowerState.RUNNING:
                began = time.monotonic()
            elif time.monotonic() - began > limit:
                self._thaw()
                return

    def _thaw(self) -> None:
        self._has_thawed = True
        LOG.error(
            'Server %(server)s is thawed: it has been frozen for %(limit)d s.',
            {'server': self._guest.uuid, 'limit': self._limit},
            instance_uuid=self._guest.uuid,
        )
        try:
            self._guest.thaw()
        except exception.NovaSnapError as error:
            LOG.error(
                'Failed to thaw server %(server)s: %(error)s',
                {'server': self._guest.uuid, 'error': error},
                instance_uuid=self._guest.uuid,
            )


@contextlib.contextmanager
def quiesced(
    guest: guest_lib.Guest,
    quiesce: Quiesce,
    entry: journal.Entry,
    progress: progress_lib.Progress,
    limit: float | None = FROZEN_LIMIT,
) -> Iterator[bool]:
    """Freeze the guest for the block, and always thaw it.

    Yield True if the guest is frozen.  A guest that another program has
    frozen is left frozen: that program thaws it when it has done its work.

    :param limit: seconds that the guest may run with frozen file systems;
        None if the block asks nothing of libvirt and has a limit of its own.
    :raises QuiesceNotPossible: freezing is required and failed, or another
        program has thawed the guest within the block.
    :raises FrozenTooLong: the guest was thawed within the block.
    :raises Conflict: another program's job runs on the guest; what is done in
        the block would wait for its end.
    """
    if not quiesce.wanted or not _can_freeze(guest, quiesce):
        yield False
        return
    if limit is not None:
        require_no_job(guest)
    if _is_frozen_by_another(guest):
        yield True
        _require_still_frozen(guest, quiesce)
        return
    began: float | None = None
    try:
        with entry.undoing(undo_steps.Thaw()):
            frozen = _freeze(guest, quiesce)
            if frozen:
                began = time.monotonic()
            with _Watch(guest, limit if frozen else None):
                yield frozen
    finally:
        if began is not None:
            _note_thawed(guest, progress, time.monotonic() - began)


def _note_thawed(
    guest: guest_lib.Guest, progress: progress_lib.Progress, seconds: float
) -> None:
    progress.measured.add_frozen(seconds)
    LOG.info(
        'The file systems of server %(server)s were frozen for %(ms)d ms.',
        {'server': guest.uuid, 'ms': seconds * 1000},
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


def _is_frozen_by_another(guest: guest_lib.Guest) -> bool:
    try:
        is_frozen = guest.is_frozen()
    except exception.HypervisorError as error:
        # To freeze will fail, too, and is what is reported.
        LOG.debug('%s', error, instance_uuid=guest.uuid)
        return False
    if is_frozen:
        LOG.info(
            'The file systems of server %s are frozen: another program has '
            'frozen them, and has to thaw them.',
            guest.uuid,
            instance_uuid=guest.uuid,
        )
    return is_frozen


def _require_still_frozen(guest: guest_lib.Guest, quiesce: Quiesce) -> None:
    """Raise, or log, if another program has thawed a guest within the block.

    A guest that was suspended in the block has just been started: its agent
    has no channel yet, or is slow.  It gets as long as for a freeze.
    """
    reason = 'its guest agent does not answer.'
    for _poll in waiting.polls(quiesce.timeout):
        try:
            if guest.is_frozen():
                return
            reason = 'another program has thawed it meanwhile.'
            break
        except exception.HypervisorError as error:
            if str(error) != reason:
                LOG.info('%s', error, instance_uuid=guest.uuid)
            reason = str(error)
    _not_frozen(guest, quiesce, reason)


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
