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

"""The choice between all cases of a test and one of each kind.

    KINDS = exhaustive.choose(root_disk.Kind, usual=(root_disk.Kind.OVERLAY,))

A product (each format of each kind, before and after each step) is run whole
with ``NOVA_SNAP_TEST_EXHAUSTIVE=1`` only, before a release.  The choice is
made when the test module is loaded, in a constant that a loop reads.

    @exhaustive.usually('test_terminated')
    class TestServiceEventlet(TestService):

A class that repeats the tests of another one in another way runs whole in the
same case only, and usually the tests that are named.
"""

from collections.abc import Callable
from collections.abc import Iterable
import os
from typing import TypeVar
import unittest

T = TypeVar('T')
C = TypeVar('C', bound=type[unittest.TestCase])

VARIABLE = 'NOVA_SNAP_TEST_EXHAUSTIVE'


def choose(every: Iterable[T], usual: Iterable[T]) -> tuple[T, ...]:
    """Return the cases to run.

    :param every: all that are known.
    :param usual: those of an ordinary run; each must be one of them.
    :raises ValueError: one is not, so that the two lists can't drift apart.
    """
    all_cases, usual_cases = tuple(every), tuple(usual)
    unknown = [case for case in usual_cases if case not in all_cases]
    if unknown:
        raise ValueError(f'not among all cases: {unknown}')
    return all_cases if os.environ.get(VARIABLE) == '1' else usual_cases


def usually(*names: str) -> Callable[[C], C]:
    """Return a decorator that leaves a class some of its tests.

    What is not among the tests to run is no method any more, so that it is
    neither found nor skipped.

    :param names: of the tests of an ordinary run; none at all is possible.
    :raises ValueError: from the decorator: one is not a test of the class.
    """

    def choose_tests(case: C) -> C:
        found = unittest.defaultTestLoader.getTestCaseNames(case)
        for name in set(found).difference(choose(found, names)):
            setattr(case, name, None)
        return case

    return choose_tests
