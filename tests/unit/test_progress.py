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


"""Progress goes up, cancellation comes down."""

import threading
import time

from nova_snap import exception
from nova_snap import progress as progress_lib
from tests.unit import base

STAGE = progress_lib.Stage.COPYING


class MeasuredTest(base.TestCase):
    """What the log line at the end of an image says."""

    def setUp(self) -> None:
        super().setUp()
        self.now = 100.0
        self.patch(time, 'monotonic', lambda: self.now)
        self.progress = progress_lib.Progress()

    def stage(self, stage: progress_lib.Stage, seconds: float) -> None:
        """Report twice in a stage that takes so long."""
        self.progress.report(stage, 0, 10)
        self.now += seconds
        self.progress.report(stage, 10, 10)

    def test_all_that_is_known(self) -> None:
        measured = self.progress.measured
        measured.method = 'mirror'
        self.stage(progress_lib.Stage.COPYING, 2.0)
        self.stage(progress_lib.Stage.UPLOADING, 4.0)
        measured.enter(None)
        measured.image_bytes = 3 << 20
        measured.add_frozen(0.012)
        self.assertEqual(
            'mirror, copying 2.0 s, uploading 4.0 s, 3.0 MiB sent, '
            '0.8 MiB/s, frozen for 12 ms',
            str(measured),
        )

    def test_stages_side_by_side(self) -> None:
        for stage in (STAGE, progress_lib.Stage.UPLOADING, STAGE):
            self.stage(stage, 1.0)
        self.progress.measured.enter(None)
        self.assertEqual(
            {STAGE: 2.0, progress_lib.Stage.UPLOADING: 1.0},
            self.progress.measured.stages,
        )

    def test_no_bytes(self) -> None:
        self.progress.measured.method = 'rbd_direct'
        self.assertEqual('rbd_direct', str(self.progress.measured))


class MonitorTest(base.TestCase):
    """What a stage tells its progress, and is told by it."""

    def setUp(self) -> None:
        super().setUp()
        self.heard: list[progress_lib.Report] = []
        self.progress = progress_lib.Progress('web', self.heard.append)

    def test_listener_hears_of_progress(self) -> None:
        self.progress.report(STAGE, 5, 10)
        self.progress.report(STAGE, 7, None)
        self.assertEqual(
            [
                progress_lib.Report(STAGE, 5, 10),
                progress_lib.Report(STAGE, 7, None),
            ],
            self.heard,
        )

    def test_nobody_needs_to_listen(self) -> None:
        progress_lib.Progress().report(STAGE, 5, 10)

    def test_nothing_is_raised_before_it_is_cancelled(self) -> None:
        self.progress.check()
        self.progress.wait(0)

    def test_cancelled_at_the_next_report(self) -> None:
        self.progress.cancel('interrupted.')
        self.assertRaises(
            exception.SnapshotCancelled, self.progress.report, STAGE, 5, 10
        )
        self.assertEqual([], self.heard)

    def test_stays_cancelled(self) -> None:
        self.progress.cancel('interrupted.')
        for _number in range(2):
            self.assertRaises(exception.SnapshotCancelled, self.progress.check)

    def test_says_which_server_and_why(self) -> None:
        self.progress.cancel('its image was deleted.')
        error = self.assertRaises(
            exception.SnapshotCancelled, self.progress.check
        )
        self.assertEqual('web', error.fields['server'])
        self.assertIn('web was cancelled: its image was deleted.', str(error))

    def test_first_reason_is_kept(self) -> None:
        self.progress.cancel('one.')
        self.progress.cancel('two.')
        error = self.assertRaises(
            exception.SnapshotCancelled, self.progress.check
        )
        self.assertEqual('one.', error.fields['reason'])

    def test_waits_for_so_many_seconds(self) -> None:
        began = time.monotonic()
        self.progress.wait(0.2)
        self.assertGreaterEqual(time.monotonic() - began, 0.2)

    def test_cancellation_from_another_thread_ends_the_wait(self) -> None:
        def wait_for_ever() -> None:
            while True:
                self.progress.wait(0.05)

        waiting = base.Attempt(wait_for_ever)
        self.progress.cancel('enough.')
        error = waiting.wait().error
        self.assertIsInstance(error, exception.SnapshotCancelled)


class PartsTest(base.TestCase):
    """The progress of several things that are done side by side."""

    def setUp(self) -> None:
        super().setUp()
        self.heard: list[tuple[str, int, int | None]] = []
        self.whole = progress_lib.Progress('web', self.hear)
        self.parts = progress_lib.parts(self.whole, [10, 20])

    def hear(self, report: progress_lib.Report) -> None:
        """Note a report."""
        self.heard.append((report.stage.value, report.done, report.total))

    def test_one_part_is_the_whole(self) -> None:
        self.assertEqual([self.whole], progress_lib.parts(self.whole, [10]))

    def test_sums(self) -> None:
        first, second = self.parts
        first.report(progress_lib.Stage.UPLOADING, 4, 8)
        second.report(progress_lib.Stage.UPLOADING, 5, 20)
        second.report(progress_lib.Stage.UPLOADING, 6, None)
        self.assertEqual(
            [
                ('uploading', 4, 28),
                ('uploading', 9, 28),
                ('uploading', 10, None),
            ],
            self.heard,
        )

    def test_stage_that_others_have_not_begun(self) -> None:
        """What they did of another stage is nothing of this one."""
        first, second = self.parts
        first.report(progress_lib.Stage.CONVERTING, 10, 10)
        second.report(progress_lib.Stage.CONVERTING, 20, 20)
        first.report(progress_lib.Stage.UPLOADING, 1, 5)
        self.assertEqual(
            [
                ('converting', 10, 30),
                ('converting', 30, 30),
                ('uploading', 1, 25),
            ],
            self.heard,
        )

    def test_cancellation_is_one_of_every_part(self) -> None:
        self.whole.cancel('enough.')
        for part in self.parts:
            self.assertRaises(exception.SnapshotCancelled, part.check)

    def test_listener_gets_one_report_at_a_time(self) -> None:
        together: list[bool] = []
        busy = threading.Lock()

        def listen(_report: progress_lib.Report) -> None:
            together.append(not busy.acquire(blocking=False))
            time.sleep(0.01)
            if not together[-1]:
                busy.release()

        parts = progress_lib.parts(
            progress_lib.Progress('web', listen), [10, 20]
        )

        def report(part: progress_lib.Progress) -> None:
            for done in range(5):
                part.report(STAGE, done, 10)

        attempts = [
            base.Attempt(lambda part=part: report(part)) for part in parts
        ]
        for attempt in attempts:
            self.assertIsNone(attempt.wait().error)
        self.assertEqual([False] * 10, together)

    def test_left(self) -> None:
        first, second = self.parts
        first.report(STAGE, 4, 10)
        second.report(STAGE, 4, None)
        self.assertEqual(6, first.left())
        self.assertIsNone(second.left())
