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

"""Which backups are kept."""

import datetime

import hypothesis
from hypothesis import strategies

from nova_snap.compute import backups
from tests.unit import base

NOON = datetime.datetime(2026, 3, 1, 12)  # a Sunday

COUNTS = strategies.integers(0, 5)

RETENTIONS = strategies.builds(
    backups.Retention, COUNTS, COUNTS, COUNTS, COUNTS
)

TIMES = strategies.lists(
    strategies.integers(0, 24 * 400).map(
        lambda hours: NOON - datetime.timedelta(hours=hours)
    ),
    max_size=40,
).map(lambda times: sorted(times, reverse=True))


def days(*before: float) -> list[datetime.datetime]:
    """Return times so many days before NOON."""
    return [NOON - datetime.timedelta(days=each) for each in before]


class RetentionTest(base.TestCase):
    """The rules, one by one and together."""

    def test_latest(self) -> None:
        found = backups.Retention(latest=2).rules(days(0, 0.1, 30))
        self.assertEqual([('latest',), ('latest',), ()], found)

    def test_the_latest_of_a_day(self) -> None:
        found = backups.Retention(daily=2).rules(days(0, 0.4, 3, 3.4, 9))
        self.assertEqual([('daily',), (), ('daily',), (), ()], found)

    def test_a_week_begins_on_monday(self) -> None:
        # Sunday, Monday of the same week, Sunday and Monday before.
        found = backups.Retention(weekly=2).rules(days(0, 6, 7, 13, 14))
        self.assertEqual([('weekly',), (), ('weekly',), (), ()], found)

    def test_a_week_of_two_years(self) -> None:
        # Monday, 28 December 2026 to Sunday, 3 January 2027.
        sunday = datetime.datetime(2027, 1, 3)
        times = [sunday, sunday - datetime.timedelta(days=6)]
        found = backups.Retention(weekly=5).rules(times)
        self.assertEqual([('weekly',), ()], found)

    def test_months(self) -> None:
        found = backups.Retention(monthly=2).rules(days(0, 1, 2, 40))
        self.assertEqual([('monthly',), ('monthly',), (), ()], found)

    def test_all_together(self) -> None:
        rules = backups.Retention(daily=7, weekly=4, monthly=6)
        kept = [
            number
            for number, names in enumerate(rules.rules(days(*range(400))))
            if names
        ]
        # Seven days; the Sundays of 1, 8 and 15 and 22 days before; and the
        # last days of months before NOON's.
        self.assertEqual(
            [0, 1, 2, 3, 4, 5, 6, 7, 14, 21, 29, 60, 91, 121], kept
        )

    @hypothesis.given(RETENTIONS, TIMES)
    def test_promises(
        self, rules: backups.Retention, times: list[datetime.datetime]
    ) -> None:
        found = rules.rules(times)
        self.assertEqual(len(times), len(found))
        for name in ('latest', 'daily', 'weekly', 'monthly'):
            kept = sum(name in names for names in found)
            self.assertLessEqual(kept, getattr(rules, name))
        if times and rules != backups.Retention():
            self.assertTrue(found[0], 'the new one is deleted')

    @hypothesis.given(RETENTIONS, TIMES)
    def test_what_is_deleted_is_never_missed(
        self, rules: backups.Retention, times: list[datetime.datetime]
    ) -> None:
        """Rotating after every backup keeps what rotating once would."""
        kept: list[datetime.datetime] = []
        for time in reversed(times):
            every = [time, *kept]
            kept = [
                each
                for each, names in zip(every, rules.rules(every), strict=True)
                if names
            ]
        once = [
            each
            for each, names in zip(times, rules.rules(times), strict=True)
            if names
        ]
        self.assertEqual(sorted(once), sorted(kept))
