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

"""The table of what each kind of snapshot costs, as reStructuredText."""

from collections.abc import Iterable
from collections.abc import Sequence
import statistics

from tools.bench import disks
from tools.bench import snapshot_bench
from tools.bench import snapshot_kinds

Step = snapshot_kinds.Step

#: Heading, step, and which of its values.
COLUMNS = (
    ('create s', Step.CREATE, 'seconds'),
    ('pause ms', Step.CREATE, 'gap_ms'),
    ('MiB', Step.CREATE, 'kept_bytes'),
    ('revert s', Step.REVERT, 'seconds'),
    ('pause ms', Step.REVERT, 'gap_ms'),
    ('delete s', Step.DELETE, 'seconds'),
    ('pause ms', Step.DELETE, 'gap_ms'),
    ('MiB left', Step.DELETE, 'kept_bytes'),
    ('list s', Step.LIST, 'seconds'),
)


def table(
    rows: Sequence[snapshot_bench.Row],
    case: snapshot_bench.Case,
    versions: str,
) -> str:
    """Return what was measured, and the medians of the rounds."""
    rounds = 1 + max(row.run for row in rows)
    title = (
        f'{versions}; {case.memory} MiB of memory, {case.used} of it filled '
        f'where it is kept; a disk with {case.disk} MiB in use, {case.since} '
        f'MiB written since; medians of {rounds}'
    )
    lines = [['kind', 'by', *(heading for heading, _, _ in COLUMNS)]]
    for kind, program in dict.fromkeys((r.kind, r.program) for r in rows):
        its = [r for r in rows if (r.kind, r.program) == (kind, program)]
        lines.append(
            [kind, program]
            + [_cell(its, step, name) for _, step, name in COLUMNS]
        )
    return f'{title}\n\n{_simple_table(lines)}'


def _cell(rows: Iterable[snapshot_bench.Row], step: Step, name: str) -> str:
    its = [row for row in rows if row.step == step]
    if not its:
        return '-'
    if any(row.seconds is None for row in its):
        return 'refused' if name == 'seconds' else '-'
    if name == 'kept_bytes':
        # A qcow2 file keeps the room that a deleted one has had.
        first = min(its, key=lambda row: row.run)
        return f'{first.kept_bytes / disks.MIB:.1f}'
    values = [getattr(row, name) for row in its]
    if None in values:
        return 'stops'
    median = statistics.median(values)
    return f'{median:.2f}' if name == 'seconds' else f'{median:.0f}'


def _simple_table(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = '  '.join('=' * width for width in widths)
    head, *rest = (
        '  '.join(
            cell.ljust(width) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    )
    return '\n'.join((rule, head, rule, *rest, rule))
