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

"""Guests that would stay frozen, since something else does not end.

A snapshot that hangs while its guest is frozen is held there.  Another
program's job is a dump into a FIFO of which nobody reads.
"""

import os
import pathlib
import re
import threading

import libvirt

from nova_snap.virt.libvirt import quiesce
from tests.functional import base
from tests.functional import faults
from tests.lab import steps

#: Seconds that a hung snapshot is watched for.
PATIENCE = quiesce.FROZEN_LIMIT + 20

AGENT_STATUS = 'guest-fsfreeze-status'

COLD = {'workarounds': {'disable_libvirt_livesnapshot': 'true'}}


class FrozenTestCase(faults.FaultTestCase):
    """A guest with an agent."""

    def setUp(self) -> None:
        super().setUp()
        self.guest = self.shared_guest(agent=True)
        self.found = base.Found.of(self.guest)

    def is_frozen(self) -> bool:
        """Ask the agent."""
        return self.guest.agent(AGENT_STATUS) == 'frozen'

    def assert_untouched(self) -> None:
        """Check that nothing of the guest was changed."""
        self.assertFalse(self.is_frozen())
        self.assert_as_found(self.guest, self.found)
        self.assert_nothing_left()


class TestHung(FrozenTestCase):
    """libvirt or QEMU does not answer while the guest is frozen."""

    def check(self, point: steps.Point) -> None:
        """Check that the guest is thawed, and the snapshot fails."""
        with self.held_at(point, self.guest) as process:
            self.assertTrue(self.is_frozen())
            self.wait_until(
                process, lambda: not self.is_frozen(), timeout=PATIENCE
            )
        ended = self.ended(process)
        self.assertEqual(1, ended.status, ended.err)
        self.assertIn('was frozen for more than', ended.err)
        self.assert_untouched()

    def test_mirror(self) -> None:
        self.check(steps.before('end-mirror'))

    def test_pull(self) -> None:
        self.configure(snapshot={'live_method': 'pull'})
        self.check(steps.before('begin-export'))

    def test_cold(self) -> None:
        self.configure(**COLD)
        self.check(steps.before('managed-save'))


class TestJob(FrozenTestCase):
    """Another program's job, which the snapshot would wait for."""

    def setUp(self) -> None:
        super().setUp()
        fifo = self.directory() / 'dump'
        os.mkfifo(fifo)
        # libvirtd would wait for a reader while it holds the guest's lock.
        self.reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        self.thread = threading.Thread(target=self.dump, args=(fifo,))
        self.thread.start()
        self.addCleanup(self.end_dump)
        self.guest.wait_for(self.has_job, 'a dump', 60)

    def has_job(self) -> bool:
        """Return True while the dump is under way."""
        with self.guest.domain() as domain:
            return bool(domain.jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE)

    def dump(self, fifo: pathlib.Path) -> None:
        """Dump the guest's memory; QEMU pauses it, live or not."""
        with self.guest.domain() as domain:
            domain.coreDumpWithFormat(
                str(fifo),
                libvirt.VIR_DOMAIN_CORE_DUMP_FORMAT_RAW,
                libvirt.VIR_DUMP_MEMORY_ONLY | libvirt.VIR_DUMP_LIVE,
            )

    def end_dump(self) -> None:
        """Read the dump to its end."""
        if not self.thread.is_alive():
            return
        os.set_blocking(self.reader, True)
        while os.read(self.reader, 1 << 20):
            pass
        os.close(self.reader)
        self.thread.join()

    def test_each_method(self) -> None:
        for method, options in (
            ('mirror', {}),
            ('pull', {'snapshot': {'live_method': 'pull'}}),
            ('cold', COLD),
        ):
            with self.subTest(method):
                self.configure(**options)
                ended = self.snapshot_fails(
                    self.guest, 4, re.escape('virsh domjobinfo')
                )
                self.assertNotIn('were frozen', ended.err)
                self.assertTrue(self.has_job())
        self.end_dump()
        self.assert_untouched()
