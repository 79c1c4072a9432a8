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

"""A guest that runs on while its image is taken: what it feels, what is in it.

libvirt's own events tell whether it was ever paused, the guest's ticks for
how long it could not write.
"""

from testtools import content as testtools_content

from tests.functional import content
from tests.lab import accelerator
from tests.lab import disk
from tests.lab import event_watch
from tests.lab import exhaustive
from tests.lab import gap_watch
from tests.lab import root_disk

#: Kinds of root disk, and how they are read.
CASES = exhaustive.choose(
    (
        (root_disk.Kind.OVERLAY, 'mirror'),
        (root_disk.Kind.RAW, 'mirror'),
        (root_disk.Kind.OVERLAY, 'pull'),
        (root_disk.Kind.BLOCK, 'pull'),
    ),
    (
        (root_disk.Kind.OVERLAY, 'mirror'),
        (root_disk.Kind.OVERLAY, 'pull'),
    ),
)


class TestRunsOn(content.ContentTestCase):
    """Guests that write 4 MB/s besides the ticks."""

    def test_is_never_paused(self) -> None:
        for kind, path in CASES:
            with self.subTest(kind=kind, path=path):
                self.configure(**(content.PULL if path == 'pull' else {}))
                guest = self.class_guest(kind=kind, write=4)
                watch = event_watch.EventWatch(self.libvirtd, guest)
                with watch, guest.gap_watch() as gaps:
                    self.take(guest, path)
                self.report(f'{path} of {kind}', gaps.result)
                self.assertNotIn('lifecycle: Suspended Paused', watch.events)

    def test_a_pause_would_be_noticed(self) -> None:
        guest = self.class_guest(kind=root_disk.Kind.OVERLAY, write=4)
        watch = event_watch.EventWatch(self.libvirtd, guest)
        with watch, content.paused(guest):
            pass
        self.assertIn('lifecycle: Suspended Paused', watch.events)

    def report(self, what: str, result: gap_watch.Result) -> None:
        """Tell the numbers; how long a gap is depends on the machine."""
        self.assertGreater(result.ticks, 0)
        text = (
            f'{accelerator.virt_type()}, {what}: longest gap '
            f'{result.longest_ms:.0f} ms of {result.ticks} ticks, looked at '
            f'every {result.blind_ms:.0f} ms or more often'
        )
        self.addDetailUniqueName('gap', testtools_content.text_content(text))


class TestQuiesced(content.ContentTestCase):
    """A guest with a real agent."""

    def check_clean(self, path: str) -> None:
        guest = self.class_guest(agent=True, write=4)
        before = guest.ticks()
        image = self.take(guest, path)
        state = disk.file_system(image.path, image.format)
        self.assertFalse(state.needs_recovery)
        self.assertTrue(state.clean, state.report)
        self.assert_one_moment(image, before)

    def test_live(self) -> None:
        self.check_clean('mirror')

    def test_pulled(self) -> None:
        self.configure(**content.PULL)
        self.check_clean('pull')

    def test_cold(self) -> None:
        self.configure(**content.COLD)
        self.check_clean('cold')

    def test_without_an_agent_a_journal_is_left(self) -> None:
        # So that the other tests mean something.
        guest = self.class_guest(write=4)
        image = self.take(guest, 'mirror')
        state = disk.file_system(image.path, image.format)
        self.assertTrue(state.needs_recovery)
