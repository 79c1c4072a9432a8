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

"""Calls that are answered while their work goes on in a thread.

Open this file for how a request waits until its work is accepted.  The works
are in ``snapshots.py`` and ``power.py``.
"""

from collections.abc import Callable
import threading

from nova_snap import concurrency
from nova_snap import exception

#: Seconds within which a work has to be accepted.  Reading the guest and
#: asking the image service have limits of their own.
ACCEPT_TIMEOUT = 120


class Stopping(exception.NovaSnapError):
    """Nothing is accepted any more."""

    message = 'This service is being stopped; try again later.'


class Watcher:
    """What is told of a work.  Every method may be overridden."""

    def accepted(self, instance_uuid: str, image_id: str = '') -> None:
        """Note that the request is about to succeed.

        :param image_id: the image that the work makes, if it makes one.
        """

    def began(self) -> None:
        """Note that the work has got its turn."""

    def ended(self, error: Exception | None) -> None:
        """Note the end of a work that was accepted; None is a success."""


class Call:
    """What the thread of a request waits for.

    :param lack: a phrase for what is not there if the work is too slow.
    """

    def __init__(self, lack: str) -> None:
        self._lack = lack
        self._lock = threading.Lock()
        self._is_claimed = False
        self._has_given_up = False
        self._is_answered = threading.Event()
        self._error: Exception | None = None

    def claim(self) -> None:
        """Make the request wait for the answer, however long it takes.

        The work calls this before it changes or notes anything: a client that
        was told that nothing was begun would ask again.

        :raises Unavailable: the request was answered; begin nothing.
        """
        with self._lock:
            if self._has_given_up:
                raise self._too_slow()
            self._is_claimed = True

    def answer(self, error: Exception | None) -> None:
        """Let the request go on; only the first answer counts."""
        with self._lock:
            if not self._is_answered.is_set():
                self._error = error
                self._is_answered.set()

    def wait(self) -> None:
        """Wait until the work is accepted.

        :raises NovaSnapError: it is not.
        """
        if not self._is_answered.wait(ACCEPT_TIMEOUT):
            with self._lock:
                self._has_given_up = not self._is_claimed
            if self._has_given_up:
                raise self._too_slow()
            # To note the action has limits of its own.
            self._is_answered.wait()
        if self._error is not None:
            raise self._error

    def _too_slow(self) -> exception.Unavailable:
        return exception.Unavailable(
            f'After {ACCEPT_TIMEOUT} s {self._lack}; libvirt or the image '
            'service is too slow.'
        )


def start_thread(
    name: str, work: Callable[[], None], give_up: Callable[[], None]
) -> None:
    """Start the thread of a work.

    :param give_up: called if there is none.
    :raises Unavailable: the host has no more threads.
    """
    try:
        concurrency.start_thread(name, work)
    except RuntimeError:
        give_up()
        raise exception.Unavailable(
            'The host can start no more threads; try again later.'
        ) from None
