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


"""Lines of progress, and listeners that nobody hears."""

import io

import fixtures

from nova_snap import progress as progress_lib
from nova_snap.cmd import progress
from tests.unit import base

COPYING = progress_lib.Stage.COPYING
UPLOADING = progress_lib.Stage.UPLOADING
MIB = 1 << 20


class Gone(io.StringIO):
    """A terminal that has gone away."""

    def write(self, _text: str) -> int:
        raise OSError(5, 'Input/output error')


class LinesTest(base.TestCase):
    """What a log gets to read."""

    def lines(
        self, *shown: progress_lib.Report, interval: float = 60
    ) -> list[str]:
        """Return the lines that these reports print."""
        stream = self.use(io.StringIO())
        self.useFixture(
            fixtures.MonkeyPatch(
                'nova_snap.cmd.progress.LINE_INTERVAL', interval
            )
        )
        self.show(*shown)
        return stream.getvalue().splitlines()

    def use(self, stream: io.StringIO) -> io.StringIO:
        """Make this standard error."""
        self.useFixture(fixtures.MonkeyPatch('sys.stderr', stream))
        return stream

    def show(self, *shown: progress_lib.Report) -> None:
        """Show progress as a command does."""
        with progress.listener(wanted=True) as listener:
            assert listener is not None
            for one in shown:
                listener(one)

    def test_one_at_the_end_of_each_stage(self) -> None:
        self.assertEqual(
            [
                'copying: 2.00MiB of 4.00MiB (50 %)',
                'uploading: 4.00MiB of 4.00MiB (100 %)',
            ],
            self.lines(
                progress_lib.Report(COPYING, 0, 4 * MIB),
                progress_lib.Report(COPYING, 2 * MIB, 4 * MIB),
                progress_lib.Report(UPLOADING, 0, 4 * MIB),
                progress_lib.Report(UPLOADING, 4 * MIB, 4 * MIB),
            ),
        )

    def test_one_every_few_seconds(self) -> None:
        found = self.lines(
            progress_lib.Report(COPYING, 0, 4),
            progress_lib.Report(COPYING, 1, 4),
            interval=0,
        )
        self.assertEqual('copying: 0.00iB of 4.00iB (0 %)', found[0])
        self.assertEqual('copying: 1.00iB of 4.00iB (25 %)', found[1])

    def test_total_that_is_not_known(self) -> None:
        found = self.lines(progress_lib.Report(UPLOADING, MIB, None))
        self.assertEqual(['uploading: 1.00MiB'], found)

    def test_nothing_to_show(self) -> None:
        self.assertEqual([], self.lines())

    def test_not_wanted(self) -> None:
        with progress.listener(wanted=False) as listener:
            self.assertIsNone(listener)

    def test_standard_error_that_breaks_stops_nothing(self) -> None:
        self.use(Gone())
        self.show(
            progress_lib.Report(COPYING, 0, 4),
            progress_lib.Report(UPLOADING, 0, 4),
        )
