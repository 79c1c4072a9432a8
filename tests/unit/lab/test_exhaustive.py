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

"""The choice of tests that run each time."""

import unittest

import fixtures

from tests.lab import exhaustive
from tests.unit import base


class UsuallyTest(base.TestCase):
    """Classes that run whole before a release only."""

    def found(self, value: str, *usual: str) -> list[str]:
        """Return the tests that are found in a class."""
        self.useFixture(
            fixtures.EnvironmentVariable(exhaustive.VARIABLE, value)
        )

        class Whole(unittest.TestCase):
            def test_a(self) -> None:
                """Do nothing."""

            def test_b(self) -> None:
                """Do nothing."""

        @exhaustive.usually(*usual)
        class Again(Whole):
            """The same in another way."""

        names = unittest.defaultTestLoader.getTestCaseNames
        self.assertEqual(['test_a', 'test_b'], names(Whole))
        return list(names(Again))

    def test_usual_and_all(self) -> None:
        self.assertEqual(['test_b'], self.found('0', 'test_b'))
        self.assertEqual([], self.found('0'))
        self.assertEqual(['test_a', 'test_b'], self.found('1', 'test_b'))

    def test_a_name_that_is_none(self) -> None:
        self.assertRaises(ValueError, self.found, '0', 'test_c')
