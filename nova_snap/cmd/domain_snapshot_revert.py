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

from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap.cmd import domain_snapshot_change
from nova_snap.cmd import domain_snapshots
from nova_snap.compute import domain_snapshots as domain_snapshots_lib
from nova_snap.image import api as image_api
from nova_snap.objects import instance as instance_lib
from nova_snap.virt import domain_snapshot as domain_snapshot_api


class RevertDomainSnapshot(domain_snapshot_change.ChangeDomainSnapshots):
    """Go back to a domain snapshot of a server.

    The server runs, is paused or is off afterwards, as it was then; off, if
    its memory was not kept. What it was before is gone once it has been seen
    to start (see --keep); if it does not start, or this is interrupted, the
    server is what it was before.
    """

    also_forced = (
        ' Also with disks that were written to since its memory was kept.'
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments that only this command has."""
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

    def request(
        self, parsed_args: argparse.Namespace
    ) -> domain_snapshot_api.RevertRequest:
        """Return what the user asks for."""
        return domain_snapshot_api.RevertRequest(
            name=parsed_args.name,
            keeps=parsed_args.keep,
            paused=parsed_args.paused,
            forces=parsed_args.force,
        )

    def plan(
        self,
        snapshots: domain_snapshot_api.DomainSnapshots,
        request: domain_snapshot_api.RevertRequest,
    ) -> domain_snapshot_change.Plan:
        """Plan it; nothing is changed yet."""
        return snapshots.plan_revert(request)

    def change(
        self,
        manager: domain_snapshots_lib.DomainSnapshotManager,
        instance: instance_lib.Instance,
        request: domain_snapshot_api.RevertRequest,
        images: image_api.ImageService,
        progress: progress_lib.Progress,
    ) -> domain_snapshot_change.Shown:
        """Go back; return the columns and values of the domain snapshot."""
        found = manager.revert(instance, request, images, progress)
        if found is None:
            raise exception.DomainSnapshotNotFound(
                server=instance.uuid, name=request.name
            )
        shown = domain_snapshots.fields(found)
        return tuple(shown), tuple(shown.values())
