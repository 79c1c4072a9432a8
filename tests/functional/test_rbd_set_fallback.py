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

"""All disks of a guest on RBD, where images inside Ceph turn out impossible.

Glance refuses the location of the first image, so the disks are pulled, or
read while the guest is suspended.
"""

import re
import signal
import subprocess
from typing import ClassVar

from testtools import content as testtools_content

from tests.functional import base
from tests.functional import content
from tests.functional import test_rbd_direct_set
from tests.lab import event_watch
from tests.lab import fault_proxy
from tests.lab import rbd_images
from tests.lab import steps

ALL = test_rbd_direct_set.ALL

#: So that no other image is active when the first location is refused: the set
#: fails then.
ONE_BY_ONE = {'max_parallel_disks': '1'}

#: Milliseconds that a file system stays frozen only if something hangs.
LONGEST_FREEZE = 60_000

SUSPENDED = 'lifecycle: Suspended Paused'


class TestFallback(test_rbd_direct_set.RbdSetTestCase):
    """What was made inside Ceph is gone before the disks are read."""

    #: Each other way: its options, and its first step.
    WAYS: ClassVar = {
        'pull': ({}, steps.before('begin-export')),
        'cold': (content.COLD, steps.before('managed-save')),
    }

    def setUp(self) -> None:
        super().setUp()
        self.guest = self.shared_guest()
        self.found = base.Found.of(self.guest)
        self.configure(snapshot=ONE_BY_ONE)
        self.proxy.add('POST', '/locations$', fault_proxy.Answer(409))

    def test_pulled(self) -> None:
        """The guest is frozen twice, and never suspended."""
        done, events = self.take_another_way('pull')
        self.assertNotIn(SUSPENDED, events)
        self.assert_frozen(done, 2)

    def test_suspended(self) -> None:
        """Only where the disks can't be pulled, and once."""
        done, events = self.take_another_way('cold')
        self.assertEqual(1, sum('Stopped Saved' in event for event in events))
        self.assert_frozen(done, 2)

    def test_upload_fails(self) -> None:
        """No image stays, whichever way it was to be made."""
        self.proxy.add('PUT', '/file$', fault_proxy.Answer(403, b'No.'), None)
        done = self.run_command(
            'image-create', self.guest.uuid, 'image', *ALL, status=5
        )
        self.assertEqual(['rbd_direct', 'pull'], self.methods(done))
        self.assert_as_found(self.guest, self.found)
        self.assert_nothing_left_in_ceph(self.guest)

    def test_order_of_removal(self) -> None:
        """The clones first: Ceph keeps a snapshot that has one."""
        # With each clone goes the snapshot that was to be offered of it.
        first = f'before.{len(test_rbd_direct_set.DEVICES) + 1}'
        process = self.start_at(
            'die_at', steps.Point(first, 'rbd-remove-snapshot')
        )
        self.assertEqual(-signal.SIGKILL, self.finish(process).returncode)
        self.assertEqual(self._before, set(self.lab.listed(rbd_images.IMAGES)))
        self.assertEqual(
            len(test_rbd_direct_set.DEVICES),
            len(self.left_in_ceph(self.guest)),
        )
        self.run_command('recover')
        self.assert_as_found(self.guest, self.found)
        self.assert_nothing_left_in_ceph(self.guest)

    def take_another_way(
        self, way: str
    ) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        """Take a set; look at Ceph when the disks are about to be read.

        :returns: what the command said, and the events of the guest.
        """
        options, first_step = self.WAYS[way]
        self.configure(snapshot=ONE_BY_ONE, **options)
        folder = self.directory()
        with (
            event_watch.EventWatch(self.libvirtd, self.guest) as events,
            self.guest.gap_watch() as gap,
        ):
            process = self.start_at('hold_at', first_step, str(folder))
            held = folder / 'held'
            self.guest.wait_for(
                lambda: held.exists() or process.poll() is not None,
                'reading',
                base.TIMEOUT,
            )
            if not held.exists():
                self.fail(self.finish(process).stderr)
            # No clone, and no snapshot of any disk.
            self.assertEqual([], self.left_in_ceph(self.guest))
            (folder / 'go').touch()
            done = self.finish(process)
        self.addDetailUniqueName(
            'gap', testtools_content.text_content(f'{way}: {gap.result}')
        )
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertEqual(['rbd_direct', way], self.methods(done))
        self.assert_as_found(self.guest, self.found)
        images = list(self.glance.list())
        self.assertEqual({'active'}, {image.status for image in images})
        self.assertEqual(len(test_rbd_direct_set.DEVICES), len(images))
        self.assert_nothing_left_in_ceph(
            self.guest, *(image.id for image in images)
        )
        return done, events.events

    def start_at(
        self, module: str, step: steps.Point, *arguments: str
    ) -> subprocess.Popen[str]:
        """Start a set in a process that dies or waits at a step."""
        argv = self.command('image-create', self.guest.uuid, 'image', *ALL)
        shell = argv.index('nova_snap.cmd.shell')
        argv[shell : shell + 1] = [
            *(f'tests.functional.{module}', *arguments),
            *(step.moment, step.function),
        ]
        return self.start_process(argv)

    def assert_frozen(
        self, done: subprocess.CompletedProcess[str], times: int
    ) -> None:
        """Check how often the guest was frozen, and that no time hung."""
        found = re.findall(r'were frozen for (\d+) ms', done.stderr)
        self.assertEqual(times, len(found), done.stderr)
        self.assertLess(max(map(int, found)), LONGEST_FREEZE)
