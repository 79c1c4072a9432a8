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


"""Requests that come before an upload, made while its data is made ready."""

from collections.abc import Callable
import time
from typing import Generic
from typing import TypeVar

from nova_snap import concurrency

T = TypeVar('T')

#: Seconds for which what was found out holds good.
LIFE = 30.0


class Preparations(Generic[T]):
    """The preparations of the images of one service, each in a thread.

    :param prepare: makes the requests for an image, and returns their result.
    """

    def __init__(self, prepare: Callable[[str], T]) -> None:
        self._prepare = prepare
        #: By image: when it began, and what waits for the result.
        self._begun: dict[str, tuple[float, Callable[[], T]]] = {}

    def begin(self, image_id: str) -> None:
        """Begin that of an image; its errors are raised by :meth:`result`."""
        now = time.monotonic()
        # Uploads that never came leave nothing behind.
        self._begun = {
            key: value
            for key, value in self._begun.items()
            if now - value[0] <= LIFE
        }
        self._begun[image_id] = (
            now,
            concurrency.begin(
                f'prepare-{image_id}', lambda: self._prepare(image_id)
            ),
        )

    def result(self, image_id: str) -> T:
        """Return the result for an image, once; prepare now if need be."""
        began, wait = self._begun.pop(image_id, (0.0, None))
        if wait is None or time.monotonic() - began > LIFE:
            return self._prepare(image_id)
        return wait()
