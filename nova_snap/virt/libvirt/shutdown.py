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

"""The end of a running guest: it is asked to shut down, then switched off.

Open this file for how a guest is asked, and how often.
"""

import contextlib
import time

from oslo_log import log as logging

from nova_snap import exception
from nova_snap import waiting
from nova_snap.objects import power_state
from nova_snap.virt import power
from nova_snap.virt.libvirt import guest as guest_lib

LOG = logging.getLogger(__name__)

#: Seconds after which a guest is asked once more to shut down: one that was
#: just starting did not hear it.
ASK_AGAIN_AFTER = 10


def end(
    guest: guest_lib.Guest,
    run: str,
    timeout: int,
    control: power.Control | None = None,
) -> None:
    """End a run of a guest, but no later one that others have begun.

    :param run: of QEMU, which is to end.
    :param timeout: seconds that the guest gets to shut down; 0 does not ask
        the guest.
    :raises ActionInterrupted: by ``control``; the guest was asked, if it can
        hear.
    """
    if not timeout or not _shut_down(
        guest, run, timeout, control or power.Control()
    ):
        _switch_off(guest, run)


def _switch_off(guest: guest_lib.Guest, run: str) -> None:
    try:
        if guest.run() == run:
            guest.destroy()
    except exception.HypervisorError:
        if guest.run() == run:  # otherwise it ended by itself just now
            raise


def _shut_down(
    guest: guest_lib.Guest, run: str, timeout: int, control: power.Control
) -> bool:
    """Ask a guest to shut down; return True when it has."""
    if guest.power_state() is not power_state.PowerState.RUNNING:
        return False  # it can't hear
    reason = f'it has not shut down within {timeout} s.'
    asking = _Asking(guest)
    for _poll in waiting.polls(timeout):
        # A libvirtd that is restarted meanwhile has to answer in time, too.
        with contextlib.suppress(exception.HypervisorUnavailable):
            if guest.run() != run:
                return True
            asking.ask()
        control.check(guest.uuid)
        if control.hurry_reason is not None:
            reason = control.hurry_reason
            break
    LOG.warning(
        'The power of server %(server)s is switched off: %(reason)s',
        {'server': guest.uuid, 'reason': reason},
        instance_uuid=guest.uuid,
    )
    return False


class _Asking:
    """How one guest is asked to shut down.

    Its agent is asked once.  One that answers may not be allowed to shut the
    guest down, or hang when it is about to; so the guest is asked by ACPI if
    the agent refuses, and from the second time on.
    """

    def __init__(self, guest: guest_lib.Guest) -> None:
        self._guest = guest
        self._asks_agent = True
        self._next_at = float('-inf')

    def ask(self) -> None:
        """Ask, if the last time is long enough ago."""
        if time.monotonic() < self._next_at:
            return
        try:
            if not self._is_done_by_agent():
                self._guest.shut_down()
        except (exception.HypervisorError, exception.GuestGone) as error:
            # The guest may have ended just now; if not, it is asked again.
            self._log(error)
        finally:
            self._next_at = time.monotonic() + ASK_AGAIN_AFTER

    def _is_done_by_agent(self) -> bool:
        if not self._asks_agent or not self._guest.is_agent_alive():
            return False
        self._asks_agent = False
        try:
            self._guest.shut_down_by_agent()
        except exception.HypervisorError as error:
            self._log(error)
            return False
        return True

    def _log(self, error: exception.NovaSnapError) -> None:
        LOG.info('%s', error, instance_uuid=self._guest.uuid)
