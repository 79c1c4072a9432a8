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

"""The choice between eventlet and native threads, hidden from other modules.

Nova is leaving eventlet; nova-compute 34 runs native threads by default and
the stand-alone service runs eventlet by default.  The other modules use
``threading``, ``time`` and ``subprocess``, which eventlet replaces when it
patches the process, and make calls that block in C (libvirt, libnbd) through
:func:`run_blocking`.

This module imports eventlet only where eventlet has patched the process or is
asked for: Nova refuses to start with native threads when eventlet has been
loaded.
"""

from collections.abc import Callable
from concurrent import futures
import importlib
import os
import sys
import threading
from types import ModuleType
from typing import ParamSpec
from typing import TypeVar

P = ParamSpec('P')
T = TypeVar('T')

#: Environment variable that selects the backend of a process of ours,
#: ``threading`` or ``eventlet``.  A configuration option would be read too
#: late: eventlet has to patch before anything else is imported.
BACKEND_VARIABLE = 'NOVA_SNAP_CONCURRENCY_BACKEND'


def is_eventlet() -> bool:
    """Return True if eventlet has replaced the threads of this process."""
    patcher = sys.modules.get('eventlet.patcher')
    return patcher is not None and bool(patcher.is_monkey_patched('thread'))


def choose_backend(default: str = 'threading') -> None:
    """Patch the process with eventlet if that is the backend asked for.

    Has to be called before any other import.

    :param default: the backend where the environment names none,
        ``threading`` or ``eventlet``.
    """
    if os.environ.get(BACKEND_VARIABLE, default) == 'eventlet':
        import eventlet

        eventlet.monkey_patch()


def run_blocking(
    function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Call a function that blocks in C without stopping the other threads.

    With native threads this is a plain call: the bindings release the
    interpreter lock.  Under eventlet a native thread of its pool makes the
    call while the hub goes on; in a thread that is not the hub's, the call is
    plain again.
    """
    if is_eventlet():
        from eventlet import tpool

        return tpool.execute(function, *args, **kwargs)  # type: ignore[no-any-return]
    return function(*args, **kwargs)


def start_thread(name: str, target: Callable[[], None]) -> threading.Thread:
    """Start a daemon thread (a green one under eventlet).

    What it logs has the request's ID that the lines of this thread have.
    """
    # Not before eventlet has replaced what holds the context of a thread.
    from oslo_context import context

    current = context.get_current()

    def run() -> None:
        if current is not None:
            current.update_store()
        target()

    thread = threading.Thread(name=name, target=run, daemon=True)
    thread.start()
    return thread


def begin(name: str, function: Callable[[], T]) -> Callable[[], T]:
    """Call a function in a thread of its own.

    Return a function that waits for the result, or raises its error.
    """
    future: futures.Future[T] = futures.Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    start_thread(name, run)
    return future.result


def start_native_thread(name: str, target: Callable[[], None]) -> None:
    """Start a daemon thread of the operating system, under eventlet too.

    For a loop of a C library; the functions that the thread calls must take
    no lock that a green thread may hold.
    """
    native_module('threading').Thread(
        name=name, target=target, daemon=True
    ).start()


def native_module(name: str) -> ModuleType:
    """Return a module of the standard library as it was before eventlet.

    Its threads, locks and queues are those of the operating system.  A green
    thread may wait for them through :func:`run_blocking` only.
    """
    if not is_eventlet():
        return importlib.import_module(name)
    from eventlet import patcher

    original: ModuleType = patcher.original(name)
    return original
