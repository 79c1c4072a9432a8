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

"""A table of what the service does at a moment: one work for each server.

Open this file for what snapshots and power actions have in common from their
admission until their end.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import threading
from typing import Generic
from typing import Protocol
from typing import TypeVar

from nova_snap import waiting
from nova_snap.api import calls
from nova_snap.objects import instance as instance_lib

#: Seconds between two looks at what is still going on.
POLL_INTERVAL = 0.1


class Work(Protocol):
    """Something that is done to an instance.

    :ivar has_ended: set when it is removed from its table.
    """

    instance: instance_lib.Instance
    has_ended: threading.Event


W = TypeVar('W', bound=Work)


class Works(Generic[W]):
    """The works that are going on or wait, by the UUIDs of their instances."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_instance: dict[str, W] = {}
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        """Return True if nothing is admitted any more."""
        return self._is_closed

    def close(self) -> None:
        """Admit nothing any more."""
        with self._lock:
            self._is_closed = True

    def of(self, instance_uuid: str) -> W | None:
        """Return the work on an instance, if there is one."""
        return self._by_instance.get(instance_uuid)

    def __iter__(self) -> Iterator[W]:
        """Yield the works of this moment."""
        with self._lock:
            return iter(list(self._by_instance.values()))

    def admit(self, work: W, check: Callable[[Mapping[str, W]], None]) -> None:
        """Add a work; it takes the place of another one on its instance.

        :param check: called with the table, which nobody else changes
            meanwhile; raises if the work may not begin.
        :raises Stopping: nothing is admitted any more.
        """
        with self._lock:
            if self._is_closed:
                raise calls.Stopping()
            check(self._by_instance)
            self._by_instance[work.instance.uuid] = work

    def remove(self, work: W, before: W | None = None) -> None:
        """Remove a work that has ended, unless another took its place.

        :param before: the work whose place it took; it comes back if it has
            not ended.
        """
        work.has_ended.set()
        uuid = work.instance.uuid
        with self._lock:
            if self._by_instance.get(uuid) is not work:
                return
            del self._by_instance[uuid]
            # One that ends just now removes itself after this.
            if before is not None and not before.has_ended.is_set():
                self._by_instance[uuid] = before

    def wait(self, timeout: float) -> bool:
        """Wait until the table is empty; return False if it is not.

        :param timeout: in seconds.
        """
        for _poll in waiting.polls(timeout, interval=POLL_INTERVAL):
            if not list(self):
                return True
        return False
