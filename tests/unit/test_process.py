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


"""Programs are run to their end, within limits, and never orphaned."""

import dataclasses
import errno
import os
import pathlib
import signal
import sys
import time

from nova_snap import concurrency
from nova_snap import exception
from nova_snap import process
from tests.unit import base

MIB = 1 << 20

LIMITS = process.Limits(address_space=4096 * MIB)

RUN_SLEEP = """
import sys
from nova_snap import process
process.run(
    ['sh', '-c', 'echo $$ > "$0.new"; mv "$0.new" "$0"; exec sleep 60',
     sys.argv[1]],
    process.Limits(address_space=1 << 30),
)
"""


class RunTest(base.TestCase):
    """What the caller gets of a program."""

    def test_returns_what_was_written(self) -> None:
        self.assertEqual(b'one\n', process.run(['echo', 'one'], LIMITS))

    def test_end_is_waited_for_without_looking_again_and_again(self) -> None:
        def sleep(_seconds: float) -> None:
            raise AssertionError('it slept')

        if not concurrency.is_eventlet():
            self.patch(time, 'sleep', sleep)
        self.assertEqual(b'', process.run(['sleep', '0.2'], LIMITS))

    def test_linux_without_descriptors_of_processes(self) -> None:
        def fail(_pid: int) -> int:
            raise OSError(errno.ENOSYS, 'not there')

        self.patch(os, 'pidfd_open', fail)
        self.assertEqual(b'', process.run(['sleep', '0.2'], LIMITS))

    def test_no_shell_reads_the_arguments(self) -> None:
        argument = '$HOME; echo two * "'
        output = process.run(['printf', '%s', argument], LIMITS)
        self.assertEqual(argument.encode(), output)

    def test_standard_input_is_empty(self) -> None:
        self.assertEqual(b'', process.run(['cat'], LIMITS))

    def test_what_is_given_is_standard_input(self) -> None:
        given = b'x' * 100_000
        self.assertEqual(given, process.run(['cat'], LIMITS, stdin=given))

    def test_more_output_where_it_is_wanted(self) -> None:
        argv = ['head', '-c', str(2 * MIB), '/dev/zero']
        output = process.run(argv, LIMITS, max_output=2 * MIB - 1)
        self.assertEqual(2 * MIB - 1, len(output))

    def test_messages_are_not_translated(self) -> None:
        output = process.run(['sh', '-c', 'echo $LC_ALL'], LIMITS)
        self.assertEqual(b'C\n', output)

    def test_output_beyond_the_maximum_is_ignored(self) -> None:
        count = process.MAX_OUTPUT + 4096
        output = process.run(['head', '-c', str(count), '/dev/zero'], LIMITS)
        self.assertEqual(bytes(process.MAX_OUTPUT), output)

    def test_output_beyond_a_limit_ends_the_program(self) -> None:
        limits = dataclasses.replace(LIMITS, file_size=4096)
        error = self.assertRaises(
            exception.OutputTooLong,
            process.run,
            ['cat', '/dev/zero'],
            limits,
        )
        self.assertIn('cat was ended', str(error))
        self.assertIn('4096 bytes', str(error))
        output = process.run(['head', '-c', '4096', '/dev/zero'], limits)
        self.assertEqual(bytes(4096), output)

    def test_the_umask_is_the_programs(self) -> None:
        before = os.umask(0o022)
        self.addCleanup(os.umask, before)
        show = ['sh', '-c', 'umask']
        self.assertEqual(b'0077\n', process.run(show, LIMITS, umask=0o077))
        self.assertEqual(b'0022\n', process.run(show, LIMITS))


class FailureTest(base.TestCase):
    """What the caller learns when a program fails."""

    def failure(
        self, *argv: str, limits: process.Limits = LIMITS
    ) -> exception.ProgramFailed:
        """Return the error of running a program that has to fail."""
        return self.assertRaises(
            exception.ProgramFailed, process.run, argv, limits
        )

    def test_exit_status_and_standard_error(self) -> None:
        error = self.failure('sh', '-c', 'echo out; echo broken >&2; exit 3')
        self.assertEqual('sh failed (exit status 3): broken', str(error))
        self.assertEqual('exit status 3', error.fields['outcome'])

    def test_silent_program(self) -> None:
        self.assertIn('no error message', str(self.failure('false')))

    def test_standard_error_that_is_no_text(self) -> None:
        error = self.failure('sh', '-c', r"printf 'a\377z' >&2; exit 1")
        self.assertIn('a\ufffdz', str(error))

    def test_killed_by_a_signal(self) -> None:
        error = self.failure('sh', '-c', 'kill -TERM $$')
        self.assertEqual('killed by signal 15', error.fields['outcome'])

    def test_missing_program_is_named(self) -> None:
        error = self.failure('nova-snap-no-such-program')
        self.assertEqual('nova-snap-no-such-program', error.fields['program'])
        self.assertIn('No such file', str(error))

    def test_missing_helper_is_named(self) -> None:
        before = os.environ['PATH']
        self.addCleanup(os.environ.__setitem__, 'PATH', before)
        os.environ['PATH'] = str(self.folder())
        error = self.failure('true')
        self.assertIn('setpriv', str(error))
        self.assertEqual('not started', error.fields['outcome'])


class LimitTest(base.TestCase):
    """Limits are in force."""

    def allocate(self, count: int, limit: int) -> bytes:
        """Take ``count`` bytes in a process that may have ``limit``."""
        code = f'bytearray({count}); print("done")'
        return process.run(
            [sys.executable, '-S', '-c', code],
            process.Limits(address_space=limit),
        )

    def test_address_space(self) -> None:
        self.assertEqual(b'done\n', self.allocate(256 * MIB, 1024 * MIB))
        error = self.assertRaises(
            exception.ProgramFailed, self.allocate, 256 * MIB, 128 * MIB
        )
        self.assertIn('MemoryError', str(error))

    def test_processor_time(self) -> None:
        error = self.assertRaises(
            exception.ProgramFailed,
            process.run,
            ['sh', '-c', 'while :; do :; done'],
            process.Limits(address_space=512 * MIB, cpu=1),
        )
        self.assertIn('killed by signal', error.fields['outcome'])


class PollTest(base.TestCase):
    """A program is watched while it runs."""

    def test_sees_the_end_of_the_output(self) -> None:
        seen: list[bytes] = []
        script = 'head -c 5000 /dev/zero; printf "half\\r"; sleep 1'
        process.run(['sh', '-c', script], LIMITS, poll=seen.append)
        self.assertTrue(any(end.endswith(b'half\r') for end in seen))
        self.assertLess(max(map(len, seen)), 1000)

    def test_error_ends_the_program(self) -> None:
        path = self.folder() / 'pid'
        script = 'echo $$ > "$0"; exec sleep 60'

        def poll(_output: bytes) -> None:
            if path.exists() and path.read_text():
                raise exception.SnapshotCancelled(server='a', reason='b')

        self.assertRaises(
            exception.SnapshotCancelled,
            process.run,
            ['sh', '-c', script, str(path)],
            LIMITS,
            poll,
        )
        self.assertFalse(base.is_running(int(path.read_text())))

    def test_program_dies_with_us(self) -> None:
        path = self.folder() / 'pid'
        parent = self.python(RUN_SLEEP, path)
        self.wait_until(
            'the program runs', lambda: path.exists() and path.read_text()
        )
        pid = int(pathlib.Path(path).read_text())
        self.assertTrue(base.is_running(pid))
        parent.send_signal(signal.SIGKILL)
        self.wait_until('the program ended', lambda: not base.is_running(pid))
