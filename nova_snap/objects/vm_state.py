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
"""The vm states of an instance, with Nova's names."""

import enum
from typing import Self

from nova_snap.objects import power_state as power_state_lib


class VmState(enum.StrEnum):
    """A vm state, as in Nova's API (OS-EXT-STS:vm_state)."""

    ACTIVE = 'active'
    PAUSED = 'paused'
    STOPPED = 'stopped'
    SUSPENDED = 'suspended'
    ERROR = 'error'

    @classmethod
    def of_guest(
        cls, power_state: power_state_lib.PowerState, is_saved: bool
    ) -> Self | None:
        """Return the state that Nova has for such a guest; None if unknown.

        Nova suspends a guest by libvirt's managed save, so one that does not
        run and ``is_saved`` is suspended.  A guest that has crashed, and that
        libvirt preserves for whoever wants to know why, is an error: it can
        only be stopped, or rebooted the hard way.
        """
        if not power_state.is_active and is_saved:
            return cls('suspended')
        name = _NAMES.get(power_state)
        return None if name is None else cls(name)


_NAMES = {
    power_state_lib.PowerState.RUNNING: 'active',
    power_state_lib.PowerState.PAUSED: 'paused',
    power_state_lib.PowerState.SHUTDOWN: 'stopped',
    power_state_lib.PowerState.CRASHED: 'error',
    power_state_lib.PowerState.SUSPENDED: 'suspended',
}
