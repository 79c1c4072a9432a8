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

import math
import random

import testtools

from nova_snap.qcow2 import estimate
from tests.lab import exhaustive

SEEDS = exhaustive.choose(range(100), usual=range(34))


class EstimateTest(testtools.TestCase):
    def population(self, number: int, seed: int) -> list[int]:
        """Sizes with runs of neighbours that are alike, as files are."""
        generator = random.Random(seed)
        sizes: list[int] = []
        while len(sizes) < number:
            mean = generator.choice((500, 15000, 30000, 65546))
            run = generator.randrange(1, 60)
            sizes += [
                int(mean * (0.83 + 0.34 * generator.random()))
                for _ in range(run)
            ]
        return sizes[:number]

    def sample(self, sizes: list[int]) -> estimate.Estimate:
        number = estimate.sample_size(len(sizes))
        picked = [sizes[n * len(sizes) // number] for n in range(number)]
        return estimate.from_sample(picked, len(sizes))

    def test_whole_sample_is_exact(self):
        sizes = self.population(estimate.MIN_SAMPLE, 1)
        found = self.sample(sizes)
        self.assertEqual(sum(sizes), found.reserve)
        self.assertEqual(sum(sizes), found.certain)

    def test_first_zone_becomes_full(self):
        overruns = 0
        for seed in SEEDS:
            sizes = self.population(20000, seed)
            overruns += self.sample(sizes).certain > sum(sizes)
        self.assertLessEqual(overruns, len(SEEDS) * 0.03)

    def test_reserve_is_near(self):
        for seed in SEEDS[:20]:
            sizes = self.population(20000, seed)
            self.assertAlmostEqual(
                1, self.sample(sizes).reserve / sum(sizes), delta=0.12
            )

    def test_more_room_the_better_it_compresses(self):
        """Clusters that find no room cost more, the smaller they'd be."""
        small = estimate.Estimate(1000, 10000.0, 500.0)
        large = estimate.Estimate(1000, 60000.0, 500.0)
        self.assertGreater(small.reserve, 10000 * 1000)
        self.assertLess(large.reserve, 60000 * 1000)

    def test_size_of_the_sample(self):
        self.assertEqual(7, estimate.sample_size(7))
        self.assertEqual(256, estimate.sample_size(1000))
        self.assertEqual(1250, estimate.sample_size(100_000))
        self.assertEqual(8192, estimate.sample_size(1 << 30))

    def test_no_error_below_nothing(self):
        found = estimate.from_sample([0] * 600 + [65546], 10**6)
        self.assertGreaterEqual(found.certain, 0)
        self.assertTrue(math.isfinite(found.reserve))
