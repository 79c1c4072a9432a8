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

"""Draws how the cost grows; needs matplotlib, which only the benchmark has."""

import pathlib
from typing import Any

import matplotlib

matplotlib.use('agg')

# Below, since matplotlib has to know first that there is no screen.
from matplotlib import pyplot  # noqa: E402

from tools.bench import bench  # noqa: E402
from tools.bench import growth  # noqa: E402
from tools.bench import report  # noqa: E402

#: Name in a row, title, unit, scale.
DRAWN = (
    ('wall_s', 'time to active, s', 1.0, 'log'),
    ('cpu_s', 'processor time, s', 1.0, 'log'),
    ('temp_disk_bytes', 'temporary disk, MB', report.MB, 'log'),
    ('peak_rss_bytes', 'memory, MB', report.MB, 'linear'),
)

#: By disk, method and snapshots at once.
_Found = dict[tuple[str, str, int], dict[str, float]]


def draw(rows: list[bench.Row], path: pathlib.Path) -> None:
    """Draw a row for each value, a column for each thing that grows.

    Twice as much is as far up everywhere on a logarithmic scale.  Processor
    time and temporary disk are those of one snapshot.
    """
    # One plot has room for one set of options of Glance.
    rows = [row for row in rows if row.glance == rows[0].glance]
    found = {key[:3]: values for key, values in report.medians(rows).items()}
    methods = list(dict.fromkeys(row.method for row in rows))
    figure, panels = pyplot.subplots(
        len(DRAWN), len(growth.AXES), figsize=(10, 12), sharey='row'
    )
    for line, (name, title, unit, scale) in zip(panels, DRAWN, strict=True):
        line[0].set_ylabel(title)
        for panel, (what, cases) in zip(
            line, growth.AXES.items(), strict=True
        ):
            for method in methods:
                _draw_line(panel, cases, found, method, name, unit)
            panel.set_xlabel(what)
            panel.set_yscale(scale)
            panel.yaxis.set_major_formatter('{x:g}')
            panel.yaxis.set_minor_formatter('')
            panel.grid(axis='y', which='both', alpha=0.3)
        if scale == 'linear':
            line[0].set_ylim(bottom=0)
    panels.flat[0].legend()
    figure.tight_layout()
    figure.savefig(path, format='png', dpi=80)
    pyplot.close(figure)


def _draw_line(
    panel: Any,
    cases: dict[str, growth.Case],
    found: _Found,
    method: str,
    name: str,
    unit: float,
) -> None:
    """Draw the values that there are: a run may not be over yet."""
    values = {
        label: found[case.disk.name, method, case.at_once][name] / unit
        for label, case in cases.items()
        if (case.disk.name, method, case.at_once) in found
    }
    panel.plot(list(values), list(values.values()), marker='o', label=method)
