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

"""Actions that change the power of an instance, and the class of who does.

Open this file to make a driver change the power of its guests.  When Nova
allows an action is in ``nova_snap/compute/power.py``.
"""

import abc
import enum

from nova_snap import exception
from nova_snap import journal


class Action(enum.Enum):
    """What is done to the power of an instance."""

    PAUSE = 'pause'
    UNPAUSE = 'unpause'
    SUSPEND = 'suspend'
    RESUME = 'resume'
    START = 'start'
    STOP = 'stop'
    SOFT_REBOOT = 'soft reboot'
    HARD_REBOOT = 'hard reboot'


class Control:
    """Tells an action that it need not wait for its guest any longer.

    Any thread may call the methods.
    """

    def __init__(self) -> None:
        self._hurry: str | None = None
        self._is_left = False

    @property
    def hurry_reason(self) -> str | None:
        """Why the guest is to be switched off at once; None if it is not."""
        return self._hurry

    @property
    def is_left(self) -> bool:
        """Return True if the guest is to be left as it is."""
        return self._is_left

    def hurry(self, reason: str) -> None:
        """Have the guest switched off, if it was asked to shut down.

        :param reason: the first one is kept.
        """
        if self._hurry is None:
            self._hurry = reason

    def leave(self) -> None:
        """End the action, and leave the guest to its shutting down."""
        self._is_left = True

    def check(self, server: str) -> None:
        """Raise ActionInterrupted if the action was left."""
        if self._is_left:
            raise exception.ActionInterrupted(server=server)


class Power(abc.ABC):
    """The power of one instance."""

    @abc.abstractmethod
    def require(self, action: Action) -> None:
        """Look for what would keep the instance from coming back.

        :raises Conflict: there is something, or another program works on the
            instance.  Nothing was changed.
        """

    @abc.abstractmethod
    def act(
        self,
        action: Action,
        entry: journal.Entry,
        control: Control,
    ) -> None:
        """Carry out an action; return when the instance is in its new state.

        :param entry: takes the undo steps.
        :param control: ends the wait for a guest that was asked to shut down.
        :raises ActionInterrupted: by ``control``.
        :raises NovaSnapError: the action failed.
        """
