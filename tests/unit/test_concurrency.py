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


"""Both backends, whichever these tests run under.

What blocks is a real C function that lets go of the interpreter lock, as
libvirt's do, and that eventlet knows nothing of.
"""

import json
import threading
from typing import Any

from oslo_context import context
from oslo_context import fixture as context_fixture

from nova_snap import concurrency
from tests.unit import base

#: Ticks of a thread, 20 ms each, during half a second that is spent in C.
#: Some sleep afterwards lets threads start that could not before.
TICK = """
import ctypes, json, sys, threading, time
from nova_snap import concurrency
concurrency.choose_backend()
import threading, time
usleep = ctypes.CDLL(None).usleep
LENGTH = 200000
ticks = 0
def tick():
    global ticks
    while True:
        time.sleep(0.01)
        ticks += 1
def note_thread(found):
    found.append(threading.get_native_id())
concurrency.start_thread('ticker', tick)
time.sleep(0.05)
before = ticks
if sys.argv[1] == 'direct':
    usleep(LENGTH)
else:
    concurrency.run_blocking(usleep, LENGTH)
during = ticks - before
native = []
concurrency.start_native_thread('native', lambda: note_thread(native))
deadline = time.monotonic() + 5
while not native and time.monotonic() < deadline:
    time.sleep(0.01)
print(json.dumps({
    'eventlet': concurrency.is_eventlet(),
    'ticks': during,
    'native': native != [] and native[0] != threading.get_native_id(),
}))
"""

#: nova-compute with native threads refuses to start when this says True.
LOADED = """
import sys
import nova_snap.factory, nova_snap.compute.manager, nova_snap.image.filesystem
print('eventlet' in sys.modules)
"""


class BackendTest(base.TestCase):
    """What holds under native threads and under eventlet."""

    def measure(self, backend: str, how: str = 'blocking') -> dict[str, Any]:
        """Run TICK under a backend; return its result."""
        child = self.python(TICK, how, backend=backend)
        found: dict[str, Any] = json.loads(self.wait_for_line(child))
        return found

    def test_threads_go_on_under_native_threads(self) -> None:
        found = self.measure('threading')
        self.assertFalse(found['eventlet'])
        self.assertGreater(found['ticks'], 3)
        self.assertTrue(found['native'])

    def test_threads_go_on_under_eventlet(self) -> None:
        found = self.measure('eventlet')
        self.assertTrue(found['eventlet'])
        self.assertGreater(found['ticks'], 3)
        self.assertTrue(found['native'])

    def test_plain_call_would_stop_them_under_eventlet(self) -> None:
        self.assertEqual(0, self.measure('eventlet', 'direct')['ticks'])

    def test_eventlet_is_not_loaded_unless_asked_for(self) -> None:
        child = self.python(LOADED, backend='threading')
        self.assertEqual('False', self.wait_for_line(child))


class CallTest(base.TestCase):
    """In this process, under the backend that it has."""

    def test_result_and_arguments_pass(self) -> None:
        result = concurrency.run_blocking(divmod, 7, 2)
        self.assertEqual((3, 1), result)

    def test_keyword_arguments_pass(self) -> None:
        result = concurrency.run_blocking(int, '11', base=2)
        self.assertEqual(3, result)

    def test_errors_pass(self) -> None:
        self.assertRaises(
            ZeroDivisionError, concurrency.run_blocking, divmod, 1, 0
        )

    def test_works_in_a_thread(self) -> None:
        attempt = base.Attempt(lambda: concurrency.run_blocking(divmod, 7, 2))
        self.assertEqual((3, 1), attempt.wait().result)

    def test_started_thread_has_its_name_and_does_not_hold_us(self) -> None:
        ran = threading.Event()
        thread = concurrency.start_thread('worker', ran.set)
        self.assertTrue(ran.wait(base.PATIENCE))
        self.assertEqual('worker', thread.name)
        self.assertTrue(thread.daemon)

    def test_started_thread_logs_for_the_same_request(self) -> None:
        self.useFixture(context_fixture.ClearRequestContext())
        self.assertIsNone(self.context_of_a_thread())
        current = context.RequestContext(request_id='req-1')
        self.assertIs(current, self.context_of_a_thread())

    def context_of_a_thread(self) -> context.RequestContext | None:
        """Return what a new thread would log for."""
        seen: list[context.RequestContext | None] = []
        ran = threading.Event()

        def look() -> None:
            seen.append(context.get_current())
            ran.set()

        concurrency.start_thread('worker', look)
        self.assertTrue(ran.wait(base.PATIENCE))
        return seen[0]
