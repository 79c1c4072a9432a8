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

"""What is measured: one disk or more, and how the cost grows with each."""

from collections.abc import Sequence
import contextlib
import dataclasses
from typing import Protocol

from tests.lab import guest as guest_lib
from tools.bench import bench
from tools.bench import disks
from tools.bench import methods

GIB = disks.GIB
TIB = 1024 * GIB

#: What is compared where no methods are named.
METHODS = ['nova', 'mirror', 'pull-zstd']


class Machine(Protocol):
    """What measures: ``bench.Bench``, ``nova_cloud.NovaCloud``."""

    def guests(
        self, disk: disks.Disk, count: int = 1
    ) -> contextlib.AbstractContextManager[list[guest_lib.Guest]]:
        """Guests that tick on such a disk each, while the block runs."""

    def measure(
        self,
        method: methods.Method,
        disk: disks.Disk,
        guests: list[guest_lib.Guest],
        run: int,
    ) -> Sequence[bench.Row]:
        """Take a snapshot of each guest, all at once."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A disk, and how many guests with one each are snapshot at once."""

    disk: disks.Disk
    at_once: int = 1

    def small(self) -> 'Case':
        """Return the case with less data."""
        return dataclasses.replace(self, disk=self.disk.small())

    def measure(
        self,
        machine: Machine,
        chosen: list[methods.Method],
        rounds: int,
    ) -> list[bench.Row]:
        """Measure A B C A B C: what the host does meanwhile hits them all."""
        rows: list[bench.Row] = []
        bench.say(f'making {self.at_once} x {self.disk.name}')
        with machine.guests(self.disk, self.at_once) as guests:
            for run in range(rounds):
                for method in chosen:
                    rows += machine.measure(method, self.disk, guests, run)
                    bench.say(f'{rows[-1]}')
        return rows


def _in_use(gib: int, virtual_size: int) -> disks.Disk:
    """So many GiB of an operating system's files, half in the overlay."""
    size = 'T' if virtual_size >= TIB else 'G'
    unit = TIB if virtual_size >= TIB else GIB
    return disks.Disk(
        f'{gib} GiB in {virtual_size // unit} {size}iB',
        content='os',
        base=gib * GIB // 2,
        overlay=gib * GIB // 2,
        virtual_size=virtual_size,
    )


#: What all of the axes begin with.
_ONE = Case(_in_use(1, 10 * GIB))

#: What grows: by its name the cases, from small to large, by their labels.
AXES: dict[str, dict[str, Case]] = {
    'GiB in use': {
        '1': _ONE,
        '4': Case(_in_use(4, 10 * GIB)),
        '16': Case(_in_use(16, 40 * GIB)),
    },
    'size of the disk': {'10 GiB': _ONE, '1 TiB': Case(_in_use(1, 1 * TIB))},
    'snapshots at once': {
        '1': _ONE,
        '2': dataclasses.replace(_ONE, at_once=2),
        '4': dataclasses.replace(_ONE, at_once=4),
    },
}

CASES = list(
    dict.fromkeys(case for axis in AXES.values() for case in axis.values())
)
