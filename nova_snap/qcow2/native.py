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

"""Native threads and their locks, also where eventlet has replaced them.

What reads and compresses blocks in C, in several threads at once; green
threads would take turns and stop the hub.  The consumer of their work waits
through :func:`nova_snap.concurrency.run_blocking`.
"""

from collections.abc import Callable
import importlib
import sys
from types import ModuleType

from nova_snap import concurrency


def _module(name: str) -> ModuleType:
    """A module of the standard library as it was before eventlet."""
    if not concurrency.is_eventlet():
        return importlib.import_module(name)
    original: ModuleType = sys.modules['eventlet.patcher'].original(name)
    return original


def threading() -> ModuleType:
    """The module ``threading``, with threads of the operating system."""
    return _module('threading')


def queue() -> ModuleType:
    """The module ``queue``, for such threads."""
    return _module('queue')


def sleep() -> Callable[[float], None]:
    """The function ``time.sleep``, for such threads."""
    function: Callable[[float], None] = _module('time').sleep
    return function
