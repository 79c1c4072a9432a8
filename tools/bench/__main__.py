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

"""``tools/bench.sh``: what a snapshot costs, beside Nova's own code.

Never fails for a time: it measures, and who reads the table judges.
"""

import argparse
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import json
import pathlib
import sys
from typing import Any
from typing import TypeVar

from tests.lab import base as lab_base
from tests.lab import libvirtd as libvirtd_lib
from tests.lab import paths
from tools.bench import bench
from tools.bench import disks
from tools.bench import glance_options
from tools.bench import growth
from tools.bench import methods
from tools.bench import rbd_bench
from tools.bench import rbd_methods
from tools.bench import report
from tools.bench import snapshot_bench
from tools.bench import snapshot_kinds
from tools.bench import snapshot_report

Machine = TypeVar('Machine', bound=bench.Bench)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='tools/bench.sh', description=__doc__
    )
    parser.add_argument(
        '--json', type=pathlib.Path, metavar='FILE', help='write all rows'
    )
    parser.add_argument(
        '--rounds', type=int, default=2, metavar='N', help='default 2'
    )
    parser.add_argument(
        '--methods',
        nargs='+',
        choices=dict.fromkeys((*methods.METHODS, *rbd_methods.METHODS)),
        help='default: all but mirror-compressed; with --growth or --nova '
        'nova, mirror and pull-zstd; with --rbd '
        + ', '.join(rbd_methods.METHODS),
    )
    parser.add_argument(
        '--disks',
        nargs='+',
        choices=disks.DISKS,
        help='default: both; with --nova one with 1 GiB in use; not with '
        '--rbd, which has one with 2 GiB in use',
    )
    parser.add_argument(
        '--glance',
        nargs='+',
        choices=glance_options.ALL,
        default=[glance_options.DEFAULT],
        help="Glance's options: its defaults, a larger chunk of its store and "
        'a hash that takes less, or both in one table; default: default',
    )
    parser.add_argument(
        '--small',
        action='store_true',
        help='a sixteenth of the data: a quick check that all of it works',
    )
    parser.add_argument(
        '--busy',
        action='store_true',
        help='guests that use their processor all the time; not with --nova '
        'or --rbd',
    )
    parser.add_argument(
        '--profile',
        action='store_true',
        help='print where the processor time of each program goes, by perf, '
        'whose own is among the noise; not with --nova or --rbd',
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        '--nova',
        action='store_true',
        help="a server in a whole Nova, by Nova's driver and by this one's, "
        'each within nova-compute',
    )
    what.add_argument(
        '--rbd',
        action='store_true',
        help='a disk in Ceph: inside Ceph, by pull and cold, and by what '
        "Nova's driver has for such a disk",
    )
    what.add_argument(
        '--growth',
        action='store_true',
        help='how the cost grows with data, with size and with the number of '
        'snapshots at once, instead of the two disks',
    )
    what.add_argument(
        '--domain-snapshots',
        action='store_true',
        help='each kind of domain snapshot, by nova-snap and by virsh, and an '
        'image snapshot: taking it, going back to it, deleting it',
    )
    parser.add_argument(
        '--kinds',
        nargs='+',
        choices=snapshot_kinds.KINDS,
        default=[*snapshot_kinds.KINDS],
        help='with --domain-snapshots; default: all',
    )
    parser.add_argument(
        '--memory',
        nargs=2,
        type=int,
        metavar=('MIB', 'USED'),
        help='with --domain-snapshots: the memory of the guest, and how much '
        'of it is filled; default 512 256',
    )
    parser.add_argument(
        '--since',
        type=int,
        metavar='MIB',
        help='with --domain-snapshots: how much is written after it was taken;'
        ' default 64',
    )
    parser.add_argument(
        '--plot', type=pathlib.Path, metavar='PNG', help='with --growth'
    )
    return parser


def _series(arguments: argparse.Namespace) -> list[growth.Case]:
    """Return the cases to measure, in order."""
    if arguments.growth:
        cases = growth.CASES
    elif arguments.rbd:
        cases = [growth.Case(rbd_bench.DISK)]
    elif arguments.nova and not arguments.disks:
        cases = growth.CASES[:1]
    else:
        names = arguments.disks or disks.DISKS
        cases = [growth.Case(disks.DISKS[name]) for name in names]
    return [case.small() for case in cases] if arguments.small else cases


def _chosen(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace
) -> list[methods.Method]:
    every: Mapping[str, methods.Method] = methods.METHODS
    default = methods.DEFAULT
    if arguments.rbd:
        every, default = rbd_methods.METHODS, [*rbd_methods.METHODS]
    elif arguments.growth or arguments.nova:
        default = growth.METHODS
    names = arguments.methods or default
    if unknown := [name for name in names if name not in every]:
        parser.error(f'not measured there: {", ".join(unknown)}')
    first, *further = dict.fromkeys(arguments.glance)
    if arguments.rbd and (first, further) != (glance_options.DEFAULT, []):
        parser.error('--rbd has Glances of its own')
    return [
        dataclasses.replace(every[name], glance=glance)
        for glance in (first, *further)
        for name in names
        # What sends nothing to Glance is measured once.
        if every[name].makes_image or glance == first
    ]


@contextlib.contextmanager
def _lab(
    new: Callable[[libvirtd_lib.Libvirtd], Machine],
) -> Iterator[Machine]:
    """Start a libvirtd and what a benchmark needs, without a Nova."""
    lab_base.remove_abandoned_labs()
    libvirtd = libvirtd_lib.Libvirtd(paths.process_lab())
    try:
        with libvirtd, new(libvirtd) as machine:
            yield machine
    finally:
        libvirtd.remove()


def main() -> int:
    """Run the benchmark; return the exit status."""
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.domain_snapshots:
        return _domain_snapshots(arguments)
    chosen = _chosen(parser, arguments)
    if arguments.nova or arguments.rbd:
        for option in ('busy', 'profile'):
            if getattr(arguments, option):
                parser.error(f'--{option}: not with --nova or --rbd')
    if arguments.rbd:
        return _run(
            arguments,
            chosen,
            _lab(rbd_bench.RbdBench),
            rbd_bench.COLUMNS,
            rbd_methods.REFERENCE,
        )
    if not arguments.nova:
        lab = _lab(
            lambda libvirtd: bench.Bench(
                libvirtd,
                arguments.glance,
                int(arguments.busy),
                arguments.profile,
            )
        )
        return _run(arguments, chosen, lab)
    if not all(method.makes_image for method in chosen):
        parser.error('--nova: virtnbdbackup is no driver of nova-compute')
    # Needs openstacksdk, which is there for --nova only.
    from tools.bench import nova_cloud

    cloud = nova_cloud.running()
    return _run(arguments, chosen, cloud, nova_cloud.COLUMNS)


def _domain_snapshots(arguments: argparse.Namespace) -> int:
    """Measure each kind by itself: its guests are made anew."""
    case = snapshot_bench.Case()
    if arguments.small:
        case = case.small()
    if arguments.memory:
        memory, used = arguments.memory
        case = dataclasses.replace(case, memory=memory, used=used)
    if arguments.since:
        case = dataclasses.replace(case, since=arguments.since)
    rows: list[snapshot_bench.Row] = []
    with _lab(
        lambda libvirtd: snapshot_bench.SnapshotBench(libvirtd, case)
    ) as machine:
        versions = machine.versions()
        for name in arguments.kinds:
            bench.say(f'{name}')
            kind = snapshot_kinds.KINDS[name]
            for row in machine.measure_kind(kind, arguments.rounds):
                rows.append(row)
                bench.say(f'{row}')
            if arguments.json:
                _write_json(arguments.json, rows)
    print(snapshot_report.table(rows, case, versions))
    return 0


def _run(
    arguments: argparse.Namespace,
    chosen: list[methods.Method],
    lab: contextlib.AbstractContextManager[growth.Machine],
    columns: Sequence[report.Column] = (),
    reference: str = report.REFERENCE,
) -> int:
    rows: list[bench.Row] = []
    with lab as machine:
        for case in _series(arguments):
            rows += case.measure(machine, chosen, arguments.rounds)
            _save(arguments, rows)
    print(report.table(rows, columns, reference))
    return 0


def _save(arguments: argparse.Namespace, rows: list[bench.Row]) -> None:
    """After each disk: a long run that is ended has not run in vain."""
    if arguments.json:
        _write_json(arguments.json, rows)
    if arguments.growth and arguments.plot:
        from tools.bench import plot

        plot.draw(rows, arguments.plot)


def _write_json(path: pathlib.Path, rows: Sequence[Any]) -> None:
    text = json.dumps([dataclasses.asdict(row) for row in rows], indent=1)
    path.write_text(f'{text}\n')


if __name__ == '__main__':
    sys.exit(main())
