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

"""``nova-snap snapshot-revert``."""

import argparse
from typing import Any

from cliff import show

from nova_snap import conf
from nova_snap import exception
from nova_snap import factory
from nova_snap import progress as progress_lib
from nova_snap.cmd import columns
from nova_snap.cmd import domain_snapshots
from nova_snap.cmd import epilog
from nova_snap.cmd import interrupts
from nova_snap.cmd import progress as progress_view
from nova_snap.compute import domain_snapshots as domain_snapshots_lib
from nova_snap.image import api as image_api
from nova_snap.virt import domain_snapshot as domain_snapshot_api


class RevertDomainSnapshot(epilog.NoEpilog, show.ShowOne):
    """Go back to a domain snapshot of a server.

    The server runs, is paused or is off afterwards, as it was then; off, if
    its memory was not kept. What it was before is gone once it has been seen
    to start (see --keep); if it does not start, or this is interrupted, the
    server is what it was before.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the arguments."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument('server', metavar='SERVER', help='Name or ID.')
        parser.add_argument(
            'name', metavar='SNAPSHOT', help='Name of the domain snapshot.'
        )
        parser.add_argument(
            '--keep',
            action='store_true',
            help='Take a domain snapshot of the state before, with memory if '
            'the server runs.',
        )
        states = parser.add_mutually_exclusive_group()
        states.add_argument(
            '--start',
            dest='paused',
            action='store_const',
            const=False,
            help='Let the server run.',
        )
        states.add_argument(
            '--pause',
            dest='paused',
            action='store_const',
            const=True,
            help='Start the server, and leave it paused.',
        )
        parser.add_argument(
            '--force',
            action='store_true',
            help='Also a server that Nova manages: its next hard reboot '
            'starts it from the old files. Also with disks that were written '
            'to since its memory was kept.',
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
        """Go back; return the columns and values of the domain snapshot."""
        request = domain_snapshot_api.RevertRequest(
            name=parsed_args.name,
            keeps=parsed_args.keep,
            paused=parsed_args.paused,
            forces=parsed_args.force,
        )
        driver = factory.libvirt_driver(conf.CONF)
        instance = driver.instance(parsed_args.server)
        if parsed_args.only_print:
            plan = driver.domain_snapshots(instance).plan_revert(request)
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
            found = snapshots.revert(
                instance, request, image_api.from_conf(conf.CONF), progress
            )
        if found is None:
            raise exception.DomainSnapshotNotFound(
                server=instance.uuid, name=request.name
            )
        shown = domain_snapshots.fields(found)
        return tuple(shown), tuple(shown.values())
