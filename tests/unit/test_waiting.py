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

"""Waiting, with a limit and for as long as somebody wants it."""

import time

from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap import waiting
from tests.unit import base


class PollsTest(base.TestCase):
    """How often a waiting loop looks, and when it ends."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(progress_lib, 'POLL_INTERVAL', 0.01)

    def test_looks_at_once_even_if_there_is_no_time(self) -> None:
        self.assertEqual([None], list(waiting.polls(-1)))

    def test_looks_until_the_time_is_over(self) -> None:
        began = time.monotonic()
        looks = len(list(waiting.polls(0.1)))
        self.assertGreaterEqual(time.monotonic() - began, 0.1)
        self.assertGreater(looks, 1)

    def test_waits_between_two_looks(self) -> None:
        polls = waiting.polls(60, interval=0.1)
        next(polls)
        began = time.monotonic()
        next(polls)
        self.assertGreaterEqual(time.monotonic() - began, 0.1)

    def test_first_pauses_are_short(self) -> None:
        slept: list[float] = []
        progress = progress_lib.Progress('web')
        progress.wait = lambda seconds=None: slept.append(seconds)  # type: ignore[method-assign,assignment,misc]
        polls = waiting.polls(60, progress, interval=0.05, first=0.02)
        for _poll in range(5):
            next(polls)
        self.assertEqual([0.02, 0.04, 0.05, 0.05], slept)

    def test_cancellation_ends_it(self) -> None:
        progress = progress_lib.Progress('web')
        looks = 0

        def wait() -> None:
            nonlocal looks
            for _poll in waiting.polls(60, progress):
                looks += 1
                progress.cancel('enough.')

        self.assertRaises(exception.SnapshotCancelled, wait)
        self.assertEqual(1, looks)
