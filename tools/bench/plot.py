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

import matplotlib

matplotlib.use('agg')

# Below, since matplotlib has to know first that there is no screen.
from matplotlib import pyplot  # noqa: E402

from tools.bench import bench  # noqa: E402
from tools.bench import report  # noqa: E402

#: What is drawn, one diagram each: key of the row, title, unit.
DRAWN = (
    ('wall_s', 'time to active, s', 1.0),
    ('cpu_s', 'processor time, s', 1.0),
    ('temp_disk_bytes', 'temporary disk, MB', report.MB),
    ('peak_rss_bytes', 'peak memory, MB', report.MB),
)


def draw(rows: list[bench.Row], path: pathlib.Path) -> None:
    """Bars for each case and method, in groups of the case."""
    found = report.medians(rows)
    cases = list(dict.fromkeys((row.disk, row.at_once) for row in rows))
    methods = list(dict.fromkeys(row.method for row in rows))
    figure, axes = pyplot.subplots(2, 2, figsize=(11, 7))
    width = 0.8 / len(methods)
    for axis, (name, title, unit) in zip(axes.flat, DRAWN, strict=True):
        for number, method in enumerate(methods):
            axis.bar(
                [place + number * width for place in range(len(cases))],
                [
                    found.get((disk, method, count), {}).get(name, 0) / unit
                    for disk, count in cases
                ],
                width,
                label=method,
            )
        axis.set_title(title)
        axis.set_xticks(
            [place + 0.4 - width / 2 for place in range(len(cases))],
            [_label(disk, count) for disk, count in cases],
            fontsize=8,
        )
    axes.flat[0].legend()
    figure.tight_layout()
    figure.savefig(path, format='png', dpi=80)
    pyplot.close(figure)


def _label(disk: str, at_once: int) -> str:
    return disk if at_once == 1 else f'{disk}\n{at_once} at once'
