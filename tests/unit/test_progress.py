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

import time

from nova_snap import exception
from nova_snap import progress as progress_lib
from tests.unit import base

STAGE = progress_lib.Stage.COPYING


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
