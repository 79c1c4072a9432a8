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

"""Signal handling of commands that take a snapshot."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import signal
from typing import Any

from nova_snap import progress as progress_lib


@contextlib.contextmanager
def cancelling(
    progress: progress_lib.Progress,
) -> Iterator[progress_lib.Progress]:
    """Cancel the snapshot on signals that would end the process.

    A second interrupt ends the command at once; "nova-snap recover" then
    cleans up.
    """
    with calling(progress.cancel):
        yield progress


@contextlib.contextmanager
def calling(cancel: Callable[[str], None]) -> Iterator[None]:
    """Call a function on signals that would end the process.

    A second interrupt ends the process at once.

    :param cancel: gets a sentence about the signal.
    """

    def handle(number: int, _frame: Any) -> None:
        cancel(f'interrupted by {signal.Signals(number).name}.')
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, handle) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
