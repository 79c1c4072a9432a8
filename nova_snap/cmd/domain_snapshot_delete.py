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

"""``nova-snap snapshot-delete``."""

import argparse
from typing import Any

from cliff import show
from oslo_utils import units

from nova_snap import conf
from nova_snap import factory
from nova_snap import progress as progress_lib
from nova_snap.cmd import columns
from nova_snap.cmd import epilog
from nova_snap.cmd import interrupts
from nova_snap.cmd import progress as progress_view
from nova_snap.compute import domain_snapshots as domain_snapshots_lib
from nova_snap.image import api as image_api
from nova_snap.virt import domain_snapshot as domain_snapshot_api


class DeleteDomainSnapshot(epilog.NoEpilog, show.ShowOne):
    """Delete a domain snapshot of a server; the server stays as it is.

    What was written after it is merged into the files below. If that is
    interrupted, the server and its other domain snapshots are as they were,
    and "nova-snap recover", or the next operation on the server, goes on.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the arguments."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument('server', metavar='SERVER', help='Name or ID.')
        parser.add_argument(
            'name', metavar='SNAPSHOT', help='Name of the domain snapshot.'
        )
        parser.add_argument(
            '--children',
            action='store_true',
            help='Also all that come after it.',
        )
        parser.add_argument(
            '--rate-limit',
            metavar='MIB',
            type=_rate,
            default=0,
            help='Move at most so many MiB a second. Default: no limit.',
        )
        parser.add_argument(
            '--force',
            action='store_true',
            help='Also of a server that Nova manages: its next hard reboot '
            'starts it from the old files. Also if it is not known which '
            'files other servers use.',
        )
        parser.add_argument(
            '--print',
            action='store_true',
            dest='only_print',
            help='Print what would be done, and do nothing.',
        )
        parser.add_argument(
            '--poll',
            action='store_true',
            help='Show progress: a bar on a terminal, else lines.',
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        """Delete it; return what is deleted."""
        request = domain_snapshot_api.DeletionRequest(
            name=parsed_args.name,
            with_children=parsed_args.children,
            rate=parsed_args.rate_limit,
            forces=parsed_args.force,
        )
        driver = factory.libvirt_driver(conf.CONF)
        instance = driver.instance(parsed_args.server)
        if parsed_args.only_print:
            plan = driver.domain_snapshots(instance).plan_deletion(request)
            described = plan.described()
            return tuple(described), tuple(
                columns.TextLines(text) for text in described.values()
            )
        snapshots = domain_snapshots_lib.DomainSnapshotManager(
            driver, factory.snapshot_manager(conf.CONF, driver)
        )
        with (
            progress_view.listener(parsed_args.poll) as listener,
            interrupts.cancelling(
                progress_lib.Progress(instance.uuid, listener)
            ) as progress,
        ):
            names = snapshots.delete(
                instance, request, image_api.from_conf(conf.CONF), progress
            )
        return ('deleted',), (columns.Lines(names),)


def _rate(text: str) -> int:
    rate = float(text)
    if not 0 < rate < units.Gi:
        raise argparse.ArgumentTypeError('a number of MiB above 0 is needed')
    return max(1, int(rate * units.Mi))
