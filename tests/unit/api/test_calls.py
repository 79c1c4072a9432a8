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

"""A request that waits for its work, and what each tells the other."""

from nova_snap import exception
from nova_snap.api import calls
from tests.unit import base


class TestCall(base.TestCase):
    """A request that waits no time at all."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(calls, 'ACCEPT_TIMEOUT', 0)
        self.call = calls.Call('nothing was begun')

    def test_a_work_that_comes_too_late(self) -> None:
        self.assertRaises(exception.Unavailable, self.call.wait)
        self.assertRaises(exception.Unavailable, self.call.claim)

    def test_a_work_that_is_about_to_begin(self) -> None:
        self.call.claim()
        waiting = base.Attempt(self.call.wait)
        self.call.answer(None)
        self.assertIsNone(waiting.wait().error)

    def test_only_the_first_answer_counts(self) -> None:
        self.call.answer(exception.Unavailable('first'))
        self.call.answer(None)
        self.assertRaises(exception.Unavailable, self.call.wait)
