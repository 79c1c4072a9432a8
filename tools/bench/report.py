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

"""The table: medians of the rounds, and how they stand to Nova's."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
import statistics

from tools.bench import bench
from tools.bench import glance_options

MB = 1e6

#: Heading, key of the row, and how a value is written.
Column = tuple[str, str, Callable[[float], str]]

COLUMNS: list[Column] = [
    ('wall s', 'wall_s', '{:.1f}'.format),
    ('CPU s', 'cpu_s', '{:.1f}'.format),
    ('peak RSS MB', 'peak_rss_bytes', lambda value: f'{value / MB:.0f}'),
    ('temp disk MB', 'temp_disk_bytes', lambda value: f'{value / MB:.1f}'),
    ('to Glance MB', 'bytes_to_image_service', lambda v: f'{v / MB:.0f}'),
    ('guest gap ms', 'guest_gap_ms', '{:.0f}'.format),
    ('QEMU CPU s', 'qemu_cpu_s', '{:.1f}'.format),
    ('Glance CPU s', 'glance_cpu_s', '{:.1f}'.format),
    ('noise CPU s', 'other_cpu_s', '{:.1f}'.format),
]
#: The columns whose ratio means something.
COMPARED = 6

#: What the others are compared with, where nothing else is said.
REFERENCE = 'nova'

#: Disk, method, snapshots at once, and the options of Glance.
Key = tuple[str, str, int, str]


def medians(
    rows: Iterable[bench.Row], columns: Sequence[Column] = COLUMNS
) -> dict[Key, dict[str, float]]:
    """Each value's median, by what was measured."""
    groups: dict[Key, list[bench.Row]] = {}
    for row in rows:
        key = (row.disk, row.method, row.at_once, row.glance)
        groups.setdefault(key, []).append(row)
    return {
        key: {
            name: statistics.median(getattr(row, name) for row in group)
            for _, name, _ in columns
        }
        for key, group in groups.items()
    }


def table(
    rows: list[bench.Row],
    more: Sequence[Column] = (),
    reference: str = REFERENCE,
) -> str:
    """All of it as text, a part for each disk.

    :param more: columns that only these rows have.
    :param reference: the method that the others are compared with.
    """
    columns = [*COLUMNS, *more]
    found = medians(rows, columns)
    parts = []
    for disk, at_once in dict.fromkeys((r.disk, r.at_once) for r in rows):
        chosen = {
            (method, glance): values
            for (name, method, count, glance), values in found.items()
            if (name, count) == (disk, at_once)
        }
        runs = 1 + max(r.run for r in rows if r.disk == disk)
        title = f'{disk}: medians of {runs}'
        if at_once > 1:
            title += f', {at_once} snapshots at once'
        lines = _lines(chosen, columns, reference)
        parts.append(f'{title}\n\n{_aligned(lines, columns)}')
    return '\n\n'.join(parts)


def _lines(
    chosen: dict[tuple[str, str], dict[str, float]],
    columns: Sequence[Column],
    reference: str,
) -> list[list[str]]:
    """Return the values, then their ratios, by method and Glance's options.

    A method is compared with the reference in the same Glance.
    """
    lines = [['', *(heading for heading, _, _ in columns)]]
    for (method, glance), values in chosen.items():
        written = [show(values[name]) for _, name, show in columns]
        lines.append([method + _where(glance), *written])
    for (method, glance), values in chosen.items():
        compared = chosen.get((reference, glance))
        if compared and method != reference:
            title = f'{method} / {reference}{_where(glance)}'
            lines.append([title, *_ratios(values, compared)])
    return lines


def _where(glance: str) -> str:
    if glance == glance_options.DEFAULT:
        return ''
    return f', {glance} Glance'


def _ratios(
    values: dict[str, float], reference: dict[str, float]
) -> list[str]:
    names = [name for _, name, _ in COLUMNS[:COMPARED]]
    return [
        f'{values[name] / reference[name]:.2f}' if reference[name] else '-'
        for name in names
    ]


def _aligned(lines: list[list[str]], columns: Sequence[Column]) -> str:
    width = max(len(line[0]) for line in lines)
    widths = [max(len(heading), 7) for heading, _, _ in columns]
    return '\n'.join(
        '  '.join(
            [line[0].ljust(width)]
            + [w.rjust(n) for w, n in zip(line[1:], widths, strict=False)]
        ).rstrip()
        for line in lines
    )
