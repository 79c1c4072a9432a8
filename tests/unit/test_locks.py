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


"""Who has to wait for whom: between threads and between processes."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import os
import pathlib
import pwd
import threading
import uuid

import testtools

from nova_snap import exception
from nova_snap import locks as locks_lib
from nova_snap import progress as progress_lib
from tests.unit import base

HOLD = """
import pathlib, sys, time
from nova_snap import locks, progress
found = locks.Locks(pathlib.Path(sys.argv[1]), 2, 1)
with found.instance(sys.argv[2]), found.snapshot_slot(progress.Progress()):
    print('held', flush=True)
    time.sleep(60)
"""

# Their locks are the host's, on which other processes run the same tests.
WEB = str(uuid.uuid4())
DB = str(uuid.uuid4())

NOBODY = 65534

REFUSED = """
import os, pathlib, sys
from nova_snap import exception, locks
locks = locks.Locks(pathlib.Path(sys.argv[1]), 0, 0)
os.setuid(int(sys.argv[3]))
try:
    locks.instance(sys.argv[2]).__enter__()
except exception.SnapshotInProgress as error:
    print(error, flush=True)
"""

UNSHARE_NETWORK = """
import ctypes
CLONE_NEWNET = 0x40000000
assert ctypes.CDLL(None).unshare(CLONE_NEWNET) == 0
"""

Hold = Callable[[], contextlib.AbstractContextManager[None]]


class Holder:
    """A thread that holds a lock until it is told to let go."""

    def __init__(self, lock: Hold) -> None:
        self.holds = threading.Event()
        self._shall_end = threading.Event()
        self._lock = lock
        self._attempt = base.Attempt(self._hold)

    def _hold(self) -> None:
        with self._lock():
            self.holds.set()
            self._shall_end.wait(base.PATIENCE)

    def let_go(self) -> base.Attempt:
        """Let go, and wait for it."""
        self._shall_end.set()
        return self._attempt.wait()


class Waiting(progress_lib.Progress):
    """Progress of somebody of whom is known whether they have to wait."""

    def __init__(self, server: str) -> None:
        super().__init__(server)
        self.waits = threading.Event()

    def wait(self, seconds: float | None = None) -> None:
        self.waits.set()
        super().wait(seconds)


class LocksTestCase(base.TestCase):
    """Locks in a folder of their own, and those who hold them."""

    def setUp(self) -> None:
        super().setUp()
        self.directory = self.folder() / 'locks'
        self.progress = Waiting('web')

    def locks(
        self, snapshots: int = 0, disk_operations: int = 0
    ) -> locks_lib.Locks:
        """Another object for the same locks, as another command has it."""
        return locks_lib.Locks(self.directory, snapshots, disk_operations)

    @contextlib.contextmanager
    def held(self, lock: Hold) -> Iterator[Holder]:
        """Hold a lock in another thread."""
        holder = Holder(lock)
        self.assertTrue(holder.holds.wait(base.PATIENCE))
        try:
            yield holder
        finally:
            holder.let_go()

    def assert_waits(self, holder: Holder) -> None:
        """Somebody waits for a place, and has none."""
        self.assertTrue(self.progress.waits.wait(base.PATIENCE))
        self.assertFalse(holder.holds.is_set())

    def slot(self, limit: int) -> Hold:
        """Return a function that waits for one of ``limit`` slots."""
        locks = self.locks(snapshots=limit)
        return lambda: locks.snapshot_slot(self.progress)

    def instance(self, uuid: str) -> Hold:
        """Return a function that takes the lock of an instance."""
        locks = self.locks()
        return lambda: locks.instance(uuid)

    def error_of(self, uuid: str) -> exception.SnapshotInProgress:
        """Return the error of a second snapshot of an instance."""
        lock = self.instance(uuid)()
        return self.assertRaises(exception.SnapshotInProgress, lock.__enter__)


class InstanceTest(LocksTestCase):
    """One snapshot of an instance at a time."""

    def test_second_is_refused_in_another_thread(self) -> None:
        with self.held(self.instance(WEB)):
            self.assertEqual(WEB, self.error_of(WEB).fields['server'])

    def test_second_is_refused_in_the_same_thread(self) -> None:
        with self.instance(WEB)():
            self.error_of(WEB)

    def test_other_instances_are_free(self) -> None:
        with self.held(self.instance(WEB)), self.instance(DB)():
            pass

    def test_is_free_again_afterwards(self) -> None:
        with self.held(self.instance(WEB)):
            pass
        with self.instance(WEB)():
            pass

    def test_is_free_again_after_an_error(self) -> None:
        with (
            testtools.ExpectedException(ZeroDivisionError),
            self.instance(WEB)(),
        ):
            raise ZeroDivisionError
        with self.instance(WEB)():
            pass

    def test_nobody_else_may_enter_the_directory(self) -> None:
        with self.instance(WEB)():
            self.assertEqual(0o700, self.directory.stat().st_mode & 0o777)


class SlotTest(LocksTestCase):
    """So many at once and no more."""

    def test_one_too_many_waits_until_a_place_is_free(self) -> None:
        with self.held(self.slot(2)) as first, self.held(self.slot(2)):
            third = Holder(self.slot(2))
            self.assert_waits(third)
            first.let_go()
            self.assertTrue(third.holds.wait(base.PATIENCE))
            third.let_go()

    def test_zero_is_no_limit(self) -> None:
        with contextlib.ExitStack() as stack:
            for _number in range(8):
                stack.enter_context(self.held(self.slot(0)))

    def test_who_waits_can_be_cancelled(self) -> None:
        with self.held(self.slot(1)):
            waiting = base.Attempt(self.slot(1)().__enter__)
            self.progress.cancel('enough.')
            error = waiting.wait().error
        self.assertIsInstance(error, exception.SnapshotCancelled)
        self.assertIn('enough.', str(error))

    def test_who_was_cancelled_takes_no_place(self) -> None:
        self.test_who_waits_can_be_cancelled()
        with self.slot(1)():
            pass

    def test_kinds_of_work_do_not_wait_for_each_other(self) -> None:
        locks = self.locks(snapshots=1, disk_operations=1)
        with (
            locks.snapshot_slot(self.progress),
            locks.disk_operation_slot(self.progress),
        ):
            pass

    def test_disk_operations_have_a_limit_of_their_own(self) -> None:
        locks = self.locks(snapshots=5, disk_operations=1)
        lock = locks.disk_operation_slot
        with self.held(lambda: lock(self.progress)):
            second = Holder(lambda: lock(self.progress))
            self.assert_waits(second)
        self.assertTrue(second.holds.wait(base.PATIENCE))
        second.let_go()


class ProcessTest(LocksTestCase):
    """Every command is a process of its own."""

    def setUp(self) -> None:
        super().setUp()
        self.child = self.python(HOLD, self.directory, WEB)
        self.assertEqual('held', self.wait_for_line(self.child))

    def kill_child(self) -> None:
        """End it so that it can't let go by itself."""
        self.child.kill()
        self.child.wait()

    def test_second_is_refused(self) -> None:
        self.error_of(WEB)

    def test_second_of_another_directory_is_refused(self) -> None:
        self.directory = self.folder() / 'locks'
        user = pwd.getpwuid(os.geteuid()).pw_name
        self.assertEqual(
            f'process {self.child.pid} of user {user}',
            self.error_of(WEB).fields['holder'],
        )
        self.assertFalse(self.directory.exists())

    def test_another_user_is_refused(self) -> None:
        if os.geteuid() != 0:
            self.skipTest('Only root can become another user.')
        second = self.python(REFUSED, self.folder(), WEB, NOBODY)
        self.assertIn(
            f'process {self.child.pid} of user root',
            self.wait_for_line(second),
        )

    def test_same_directory_in_another_network_namespace(self) -> None:
        if os.geteuid() != 0:
            self.skipTest('Only root can make a network namespace.')
        second = self.python(UNSHARE_NETWORK + REFUSED, self.directory, WEB, 0)
        self.assertIn('another process', self.wait_for_line(second))

    def test_killed_holder_frees_the_instance(self) -> None:
        self.kill_child()
        with self.instance(WEB)():
            pass

    def test_places_are_counted_together(self) -> None:
        with self.held(self.slot(2)):
            third = Holder(self.slot(2))
            self.assert_waits(third)
            self.kill_child()
            self.assertTrue(third.holds.wait(base.PATIENCE))
            third.let_go()

    def test_lock_files_lie_in_the_directory(self) -> None:
        names = {path.name for path in pathlib.Path(self.directory).iterdir()}
        self.assertEqual(
            {f'nova-snap-instance-{WEB}', 'nova-snap-snapshot-0'}, names
        )
