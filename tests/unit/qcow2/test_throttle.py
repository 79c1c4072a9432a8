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

"""A limit on the bandwidth of several sources together."""

import testtools

from nova_snap.qcow2 import throttle
from tests.unit.qcow2 import support


class ThrottleTest(testtools.TestCase):
    """Reads take turns; nothing is slept for."""

    def test_sources_share_one_limit(self) -> None:
        limiter = throttle.Throttle(1000)
        waits: list[float] = []
        self.patch(limiter, '_sleep', waits.append)
        one, other = (
            throttle.ThrottledSource(support.PatternSource(4000), limiter)
            for _ in range(2)
        )
        for source in (one, other):
            source.read(0, 2000)
        with one.reading(0, 2000) as data:
            self.assertEqual(2000, len(data))
        self.assertEqual([0, 2, 4], [round(wait) for wait in waits])
