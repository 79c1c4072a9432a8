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

"""Counting the tests of tools/test.sh."""

import io

import subunit
import testtools

from tests.unit import base
from tools import run_tests

CLASS = 'tests.functional.test_a.TestA'
SET_UP = f'setUpClass ({CLASS})'


class StoredRun:
    """A run as stestr stores it."""

    def __init__(self, *events: tuple[str, str]) -> None:
        self._stream = io.BytesIO()
        result = subunit.StreamResultToBytes(self._stream)
        for test, status in events:
            result.status(test_id=test, test_status=status)

    def get_subunit_stream(self) -> io.BytesIO:
        """Return the run in subunit's format."""
        self._stream.seek(0)
        return self._stream


class CountTest(base.TestCase):
    """What passed, failed, and did both."""

    def check(
        self,
        expected: run_tests.Result,
        *first: dict[str, str],
        again: dict[str, str] | None = None,
    ) -> None:
        self.assertEqual(expected, run_tests.count(first, again or {}))

    def test_each_run_of_a_test_counts(self) -> None:
        self.check(
            run_tests.Result(3, ('b',)),
            {'a': 'success', 'b': 'success'},
            {'a': 'xfail', 'b': 'fail'},
        )

    def test_skipped_tests_are_no_passed_ones(self) -> None:
        self.check(
            run_tests.Result(1, skipped=('a',)), {'a': 'skip', 'b': 'success'}
        )

    def test_a_test_that_was_run_again_counts_once(self) -> None:
        self.check(
            run_tests.Result(2, ('c',), ('b',)),
            {'a': 'success', 'b': 'fail', 'c': 'fail'},
            again={'b': 'success', 'c': 'fail'},
        )

    def test_one_that_did_not_run_again_has_failed(self) -> None:
        self.check(run_tests.Result(0, ('a',)), {'a': 'fail'})
        self.check(
            run_tests.Result(0, ('a',)), {'a': 'fail'}, again={'a': 'skip'}
        )

    def test_class_that_is_set_up_at_the_second_try(self) -> None:
        self.check(
            run_tests.Result(1, (f'{CLASS}.b',), (SET_UP,)),
            {SET_UP: 'fail'},
            again={f'{CLASS}.a': 'success', f'{CLASS}.b': 'fail'},
        )

    def test_class_that_can_not_be_set_up(self) -> None:
        for again in ({SET_UP: 'fail'}, {}):
            self.check(
                run_tests.Result(0, (SET_UP,)), {SET_UP: 'fail'}, again=again
            )

    def test_selection_of_what_failed(self) -> None:
        self.assertEqual(
            [r'^tests\.functional\.test_a\.TestA\.', r'^a\.b$'],
            run_tests.selection((SET_UP, 'a.b')),
        )


class ReadRunTest(base.TestCase):
    """Runs that were stored."""

    def test_test_whose_process_died_has_failed(self) -> None:
        run = StoredRun(
            ('a', 'exists'),
            ('a', 'inprogress'),
            ('a', 'success'),
            ('b', 'inprogress'),
        )
        found = run_tests.read_run(run)
        self.assertEqual({'a', 'b'}, set(found))
        self.assertEqual(
            run_tests.Result(1, ('b',)), run_tests.count([found], {})
        )


class SummaryTest(base.TestCase):
    """What is said at the end, and what lasts."""

    RESULTS = {
        'pep8': run_tests.Result(1),
        'functional': run_tests.Result(5, ('a',), ('b', 'c')),
    }

    def test_last_line_is_alone(self) -> None:
        failed, flaky, last = run_tests.summary(self.RESULTS).splitlines()
        self.assertIn('functional', failed)
        self.assertTrue(failed.endswith(': a'))
        self.assertEqual('2 flaky: b, c', flaky)
        self.assertEqual('6 passed, 1 failed', last)

    def test_nothing_but_the_numbers(self) -> None:
        self.assertEqual(
            '1 passed, 0 failed',
            run_tests.summary({'pep8': run_tests.Result(1)}),
        )

    def test_skipped_tests_are_named_once(self) -> None:
        results = {'py3': run_tests.Result(1, skipped=('a', 'a', 'b'))}
        first, last = run_tests.summary(results).splitlines()
        self.assertEqual('2 skipped: a (py3), b (py3)', first)
        self.assertEqual('1 passed, 0 failed', last)

    def test_flaky_tests_are_kept(self) -> None:
        path = self.folder() / 'flaky.log'
        for _run in range(2):
            run_tests.note_flaky(self.RESULTS, path)
        ends = [line.split()[2:] for line in path.read_text().splitlines()]
        self.assertEqual([['functional', 'b'], ['functional', 'c']] * 2, ends)


class StagesTest(base.TestCase):
    """What runs at the same time."""

    def test_guests_come_alone(self) -> None:
        self.assertEqual(
            [
                [['py3', 'nova'], ['pep8', 'docs', 'releasenotes']],
                [['functional'], ['openstack']],
            ],
            run_tests.stages(run_tests.EVERYTHING),
        )

    def test_checks_run_beside_unit_tests(self) -> None:
        self.assertEqual(
            [[['py3'], ['pep8', 'docs', 'releasenotes']]],
            run_tests.stages(run_tests.QUICK),
        )

    def test_one_alone(self) -> None:
        for name in run_tests.EVERYTHING:
            self.assertEqual([[[name]]], run_tests.stages([name]))


class UsageTest(base.TestCase):
    """The command line."""

    def test_environments(self) -> None:
        for words, environments, selected in (
            ([], run_tests.EVERYTHING, []),
            (['--quick'], run_tests.QUICK, []),
            (['nova', '--exhaustive', 'py3'], ('nova', 'py3'), []),
            (['nova', '--', '-x', 'y'], ('nova',), ['-x', 'y']),
        ):
            options = run_tests.parse(words)
            self.assertEqual(tuple(environments), tuple(options.environments))
            self.assertEqual(selected, options.selected)

    def test_what_is_refused(self) -> None:
        for words in (
            ['--quick', 'py3'],
            ['--', 'a'],
            ['py3', 'nova', '--', 'a'],
        ):
            with testtools.ExpectedException(SystemExit):
                run_tests.parse(words)
