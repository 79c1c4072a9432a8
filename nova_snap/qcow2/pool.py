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

"""Native threads that work ahead and give results in the order of the jobs.

No other module of the package starts threads.  A pool is a limited number of
jobs ahead of its consumer: a slow consumer slows the reading down.  The
threads of a ``concurrent.futures`` pool would be green under eventlet, even
those of the module that ``patcher.original`` returns (eventlet 0.41).
"""

import collections
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterable
import contextlib
import dataclasses
from typing import Any
from typing import Generic
from typing import TypeVar

from nova_snap import concurrency

J = TypeVar('J')
R = TypeVar('R')
T = TypeVar('T')


@dataclasses.dataclass
class _Slot(Generic[J, R]):
    """The place of a result, or of an error, in the order of the jobs."""

    job: J | None = None
    result: R | None = None
    error: BaseException | None = None
    done: bool = False

    def run(self, function: Callable[[J], R]) -> None:
        if self.error is None:
            try:
                self.result = function(self.job)  # type: ignore[arg-type]
            except BaseException as error:
                # The consumer raises it.
                self.error = error


class OrderedPool(Generic[J, R]):
    """A function mapped over jobs by threads; iterate for the results.

    An error of the function is raised in place of its result; an error of the
    jobs' iterator is raised after the results before it.  Close the pool even
    if all results were taken.

    :param function: runs in a native thread; must not use green threads.
    :param jobs: an iterator; a job is taken when there is room for a result.
    :param threads: how many run at once.
    :param depth: how many jobs may be begun whose results are not taken;
        default one for each thread, and two results that wait.
    """

    def __init__(
        self,
        function: Callable[[J], R],
        jobs: Iterable[J],
        threads: int,
        depth: int | None = None,
    ) -> None:
        threading = concurrency.native_module('threading')
        self._function = function
        self._jobs = iter(jobs)
        self._depth = depth or threads + 2
        self._slots: collections.deque[_Slot[J, R]] = collections.deque()
        self._ended = False
        # Waking threads that can't go on costs more than a job's Python.
        lock = threading.Lock()
        self._answerable: Any = threading.Condition(lock)
        self._has_room: Any = threading.Condition(lock)
        self._threads = [
            threading.Thread(
                name=f'qcow2-{number}', target=self._work, daemon=True
            )
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def __iter__(self) -> 'OrderedPool[J, R]':
        return self

    def __next__(self) -> R:
        with self._answerable:
            self._answerable.wait_for(self._is_answerable)
            if not self._slots:
                raise StopIteration
            slot = self._slots.popleft()
            self._has_room.notify()
        if slot.error is not None:
            raise slot.error
        return slot.result  # type: ignore[return-value]

    def close(self) -> None:
        """Begin no more jobs and wait for those that are under way."""
        with self._has_room:
            self._slots.clear()
            self._end()
        for thread in self._threads:
            thread.join()

    def _is_answerable(self) -> bool:
        return self._slots[0].done if self._slots else self._ended

    def _work(self) -> None:
        while (slot := self._begin()) is not None:
            slot.run(self._function)
            with self._answerable:
                slot.done = True
                if self._is_answerable():
                    self._answerable.notify()

    def _begin(self) -> _Slot[J, R] | None:
        """Take the next job once there is room for it; None at the end."""
        with self._has_room:
            self._has_room.wait_for(
                lambda: self._ended or len(self._slots) < self._depth
            )
            if self._ended:
                return None
            slot: _Slot[J, R] = _Slot()
            try:
                slot.job = next(self._jobs)
            except StopIteration:
                self._end()
                return None
            except Exception as error:
                slot.error = error
                self._end()
            self._slots.append(slot)
            return slot

    def _end(self) -> None:
        """Let the threads end; with the lock."""
        self._ended = True
        self._has_room.notify_all()
        self._answerable.notify()


class Shelf(Generic[T]):
    """Objects that each serve one native thread at a time.

    A thread waits while all objects are in use, so their number limits how
    many threads do that work at once.
    """

    def __init__(self, things: Iterable[T]) -> None:
        self._things: Any = concurrency.native_module('queue').LifoQueue()
        for thing in things:
            self._things.put(thing)

    @contextlib.contextmanager
    def borrow(self) -> Generator[T, None, None]:
        """Take an object for the block."""
        thing = self._things.get()
        try:
            yield thing
        finally:
            self._things.put(thing)
