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

"""Run tox environments and count their tests; ``tools/test.sh`` calls this.

Open this file to change which environments run, in which order, or what the
summary says. What a test needs is in ``tools/setup.sh``, and how an
environment runs is in ``tox.ini``.
"""

import argparse
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from concurrent import futures
import dataclasses
import datetime
import functools
import itertools
import os
import pathlib
import re
import subprocess
import sys
import threading
from typing import Any

from stestr.repository import abstract
from stestr.repository import util
import subunit
import testtools

TOP = pathlib.Path(__file__).parents[1]
LAB = TOP / '.lab'

#: What --quick runs: needs neither root nor servers.
QUICK = ('py3', 'pep8', 'docs', 'releasenotes')

#: Environments that wait for real guests most of their time, so that they run
#: at the same time, and whose failing tests run once more.
WITH_GUESTS = ('functional', 'openstack')

EVERYTHING = ('py3', 'nova', 'pep8', 'docs', 'releasenotes', *WITH_GUESTS)

#: Environments that have tests; another one counts as one test.
WITH_TESTS = ('py3', 'nova', *WITH_GUESTS)

#: Environments that read the sources and run nothing of them.
CHECKS = ('pep8', 'docs', 'releasenotes')

#: What tools/setup.sh installs for an environment.
SERVERS = {
    'functional': ('--clients', '--volumes'),
    'openstack': ('--volumes', '--openstack'),
}

EXHAUSTIVE = 'NOVA_SNAP_TEST_EXHAUSTIVE'

#: Lets a user who is not root mount file systems, as unit tests do. Where a
#: host does not allow it, those tests are skipped.
AS_ROOT_OF_A_NAMESPACE = ('unshare', '--map-root-user', '--mount')

#: The status that subunit has for each test that ran.
PASSED = ('success', 'xfail')
FAILED = ('fail', 'uxsuccess', 'inprogress', 'unknown')
SKIPPED = 'skip'

#: What unittest calls the fixture of a class or module, if that failed.
FIXTURE = re.compile(r'(?:setUp|tearDown)(?:Class|Module) \((?P<owner>.+)\)$')

Statuses = Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Result:
    """How the tests of one environment ended.

    A flaky test failed, and passed when it was run again: it is among the
    passed ones.
    """

    passed: int
    failed: tuple[str, ...] = ()
    flaky: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()


def count(first: Sequence[Statuses], again: Statuses) -> Result:
    """Count each test of each run once.

    :param first: the statuses of tests, for each run of them.
    :param again: the statuses of those that failed, from another run.
    """
    passed = 0
    failed: list[str] = []
    flaky: list[str] = []
    skipped: list[str] = []
    repeated = set(again)
    for run in first:
        for test, status in run.items():
            repeated.discard(test)
            if status in PASSED:
                passed += 1
            elif status in FAILED and _passed_again(test, again):
                flaky.append(test)
                passed += FIXTURE.match(test) is None
            elif status in FAILED:
                failed.append(test)
            elif status == SKIPPED:
                skipped.append(test)
    # The tests of a class that could not be set up before.
    passed += sum(again[test] in PASSED for test in repeated)
    failed += (test for test in repeated if again[test] in FAILED)
    return Result(
        passed,
        tuple(sorted(failed)),
        tuple(sorted(flaky)),
        tuple(sorted(skipped)),
    )


def _passed_again(test: str, again: Statuses) -> bool:
    """Return True if a test, or what a fixture sets up, passed again."""
    fixture = FIXTURE.match(test)
    if fixture is None:
        return again.get(test) in PASSED
    belongs = fixture['owner'] + '.'
    return test not in again and any(
        name.startswith(belongs) for name in again
    )


def selection(failed: Iterable[str]) -> list[str]:
    """Return the regular expressions that select failed tests."""
    found = []
    for test in failed:
        fixture = FIXTURE.match(test)
        found.append(
            f'^{re.escape(fixture["owner"])}\\.'
            if fixture
            else f'^{re.escape(test)}$'
        )
    return found


def read_run(run: abstract.AbstractTestRun) -> dict[str, str]:
    """Return the status of each test of a run that stestr has stored."""
    statuses: dict[str, str] = {}

    def note(test: Mapping[str, Any]) -> None:
        if test['status'] != 'exists':
            statuses[test['id']] = test['status']

    listener = testtools.StreamToDict(note)
    listener.startTestRun()
    subunit.ByteStreamToStreamResult(
        run.get_subunit_stream(), non_subunit_name='stdout'
    ).run(listener)
    listener.stopTestRun()
    return statuses


def _has_namespaces() -> bool:
    """Return True if a user who is not root can be so in a namespace."""
    if os.geteuid() == 0:
        return False
    tried = subprocess.run(
        [*AS_ROOT_OF_A_NAMESPACE, 'true'], stderr=subprocess.DEVNULL
    )
    return tried.returncode == 0


class Environment:
    """One environment of tox, and the runs that stestr stores for it."""

    #: Environments are made in turn: they install from the same sources, and
    #: what one of them has built or downloaded the next ones find.
    _making = threading.Lock()

    def __init__(self, name: str, prefix: str = '') -> None:
        self.name = name
        self.log = LAB / f'test-{name}.log'
        self._prefix = prefix
        self._number = 0

    def check(self, selected: Sequence[str]) -> Result:
        """Run it, and run once more what failed beside guests.

        A host that does other things may make such a test fail. That it
        passes then is no success that anybody should miss.
        """
        self.log.unlink(missing_ok=True)
        self._say(f'\n======== {self.name} ========\n')
        first, status = self._run(selected)
        result = count(first, {})
        again: dict[str, str] = {}
        if result.failed and self.name in WITH_GUESTS:
            self._say(f'\n{len(result.failed)} failed; running them again\n')
            runs, status = self._run(selection(result.failed))
            again = dict(item for run in runs for item in run.items())
            result = count(first, again)
        return self._judge(result, status)

    def _judge(self, result: Result, status: int) -> Result:
        """Let an environment fail that failed without a failing test."""
        ran = result.passed or result.failed
        if not result.failed and (
            status != 0 or (not ran and self.name in WITH_TESTS)
        ):
            return dataclasses.replace(result, failed=(f'tox -e {self.name}',))
        return result if ran else Result(1)

    def _run(
        self, selected: Sequence[str]
    ) -> tuple[list[dict[str, str]], int]:
        """Return the statuses of what ran, for each run, and tox's status."""
        tox = ['tox', '-q', '-e', self.name]
        with self._making:
            status = self._tee([*tox, '--notest'])
        if status != 0:
            return [], status
        before = self._runs()
        words = [*tox, '--skip-pkg-install']
        if self.name == 'py3' and _has_namespaces():
            words = [*AS_ROOT_OF_A_NAMESPACE, *words]
        if selected:
            words += ['--', *selected]
        status = self._tee(words)
        runs = self._runs()
        new = [runs[number] for number in runs if number not in before]
        return [read_run(run) for run in new], status

    def _runs(self) -> dict[str, abstract.AbstractTestRun]:
        """Return the runs that are stored, the oldest first."""
        url = TOP / '.tox' / self.name
        try:
            repository = util.get_repo_open(repo_url=str(url))
        except abstract.RepositoryNotFound:
            return {}
        numbers = sorted(map(int, repository.get_run_ids()))
        return {str(one): repository.get_test_run(one) for one in numbers}

    def _tee(self, words: Sequence[str]) -> int:
        """Run a command; show its output and write it to the log."""
        child = subprocess.Popen(
            words,
            cwd=TOP,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors='replace',
        )
        assert child.stdout is not None
        with child.stdout:
            for line in child.stdout:
                self._say(line)
        return child.wait()

    def _say(self, text: str) -> None:
        """Write to the log and to standard output."""
        with self.log.open('a') as log:
            log.write(text)
        shown = text.replace('\n', f'\n{self._prefix}', text.count('\n') - 1)
        sys.stdout.write(self._prefix + shown)
        sys.stdout.flush()


def stages(names: Sequence[str]) -> list[list[list[str]]]:
    """Return the environments in stages of rows.

    Stages follow one another, and so do the environments of a row; the rows
    of a stage run at the same time.  Environments with guests wait most of
    their time, but they come alone: what they wait for has limits of time,
    and so have some unit tests.
    """
    light = [name for name in names if name not in WITH_GUESTS]
    stage = [
        [name for name in light if name not in CHECKS],
        [name for name in light if name in CHECKS],
    ]
    guests = [[name] for name in names if name in WITH_GUESTS]
    return [rows for rows in ([row for row in stage if row], guests) if rows]


def run(names: Sequence[str], selected: Sequence[str]) -> dict[str, Result]:
    """Run environments, and return the results in the order of the names."""
    results: dict[str, Result] = {}
    for rows in stages(names):
        run_row = functools.partial(
            _run_row, selected=selected, named=len(rows) > 1
        )
        with futures.ThreadPoolExecutor(len(rows)) as pool:
            results.update(itertools.chain(*pool.map(run_row, rows)))
    return {name: results[name] for name in names}


def _run_row(
    row: Sequence[str], selected: Sequence[str], named: bool
) -> list[tuple[str, Result]]:
    """Run environments in turn.

    :param named: write the name of the environment before each line.
    """
    return [
        (name, Environment(name, f'{name}: ' * named).check(selected))
        for name in row
    ]


def summary(results: Mapping[str, Result]) -> str:
    """Return the last lines, of which the very last counts the tests."""
    lines = [
        f'failed in {name} ({LAB}/test-{name}.log): {", ".join(result.failed)}'
        for name, result in results.items()
        if result.failed
    ]
    flaky = [test for result in results.values() for test in result.flaky]
    if flaky:
        lines.append(f'{len(flaky)} flaky: {", ".join(flaky)}')
    skipped = [
        f'{test} ({name})'
        for name, result in results.items()
        for test in sorted(set(result.skipped))
    ]
    if skipped:
        lines.append(f'{len(skipped)} skipped: {", ".join(skipped)}')
    passed = sum(result.passed for result in results.values())
    failed = sum(len(result.failed) for result in results.values())
    return '\n'.join([*lines, f'{passed} passed, {failed} failed'])


def note_flaky(results: Mapping[str, Result], path: pathlib.Path) -> None:
    """Append a line for each flaky test: date, commit, environment, test."""
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
    commit = subprocess.run(
        ['git', 'describe', '--always', '--dirty'],
        cwd=TOP,
        capture_output=True,
        text=True,
    ).stdout.strip()
    with path.open('a') as log:
        for name, result in results.items():
            for test in result.flaky:
                log.write(f'{when} {commit or "unknown"} {name} {test}\n')


def set_up(names: Sequence[str]) -> None:
    """Install the servers that environments need besides setup's own."""
    options = {word for name in names for word in SERVERS.get(name, ())}
    if options:
        subprocess.run(
            ['tools/setup.sh', '--tests', *sorted(options), 'demo', 'stream'],
            cwd=TOP,
            check=True,
        )


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Return names of environments and the selection of their tests."""
    parser = argparse.ArgumentParser(
        prog='tools/test.sh',
        usage='%(prog)s [--quick] [--exhaustive] [ENVIRONMENT...] '
        '[-- REGEX...]',
        description='Set everything up and run the tests.',
        epilog='Environments: ' + ' '.join(EVERYTHING) + '; all of them if '
        'none is named. REGEX selects tests of the one that is named.',
    )
    parser.add_argument('environments', nargs='*', metavar='ENVIRONMENT')
    parser.add_argument(
        '--quick',
        action='store_true',
        help='run ' + ' '.join(QUICK) + ', without root and servers',
    )
    parser.add_argument(
        '--exhaustive',
        action='store_true',
        help='run every combination of formats, kinds, steps and methods, as '
        'for a release',
    )
    own = list(words)
    selected: list[str] = []
    if '--' in own:
        own, selected = own[: own.index('--')], own[own.index('--') + 1 :]
    options = parser.parse_intermixed_args(own)
    options.selected = selected
    if options.quick and (options.environments or options.exhaustive):
        parser.error('--quick chooses the environments itself')
    if selected and len(options.environments) != 1:
        parser.error('a selection of tests needs one environment')
    if not options.environments:
        options.environments = list(QUICK if options.quick else EVERYTHING)
    return options


def main(words: Sequence[str]) -> int:
    """Run what the command line says; return 0 if no test failed."""
    options = parse(words)
    if options.exhaustive:
        os.environ[EXHAUSTIVE] = '1'
    set_up(options.environments)
    results = run(options.environments, options.selected)
    note_flaky(results, LAB / 'flaky.log')
    print('\n' + summary(results))
    return any(result.failed for result in results.values())


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
