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

from oslo_utils import units

from nova_snap import progress as progress_lib
from nova_snap.cmd import columns
from nova_snap.cmd import domain_snapshot_change
from nova_snap.compute import domain_snapshots as domain_snapshots_lib
from nova_snap.image import api as image_api
from nova_snap.objects import instance as instance_lib
from nova_snap.virt import domain_snapshot as domain_snapshot_api


class DeleteDomainSnapshot(domain_snapshot_change.ChangeDomainSnapshots):
    """Delete a domain snapshot of a server; the server stays as it is.

    What was written after it is merged into the files below. If that is
    interrupted, the server and its other domain snapshots are as they were,
    and "nova-snap recover", or the next operation on the server, goes on.
    """

    also_forced = ' Also if it is not known which files other servers use.'

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments that only this command has."""
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

    def request(
        self, parsed_args: argparse.Namespace
    ) -> domain_snapshot_api.DeletionRequest:
        """Return what the user asks for."""
        return domain_snapshot_api.DeletionRequest(
            name=parsed_args.name,
            with_children=parsed_args.children,
            rate=parsed_args.rate_limit,
            forces=parsed_args.force,
        )

    def plan(
        self,
        snapshots: domain_snapshot_api.DomainSnapshots,
        request: domain_snapshot_api.DeletionRequest,
    ) -> domain_snapshot_change.Plan:
        """Plan it; nothing is changed yet."""
        return snapshots.plan_deletion(request)

    def change(
        self,
        manager: domain_snapshots_lib.DomainSnapshotManager,
        instance: instance_lib.Instance,
        request: domain_snapshot_api.DeletionRequest,
        images: image_api.ImageService,
        progress: progress_lib.Progress,
    ) -> domain_snapshot_change.Shown:
        """Delete it; return what is deleted."""
        names = manager.delete(instance, request, images, progress)
        return ('deleted',), (columns.Lines(names),)


def _rate(text: str) -> int:
    try:
        rate = float(text)
    except ValueError:
        rate = 0
    if not 0 < rate < units.Gi:
        raise argparse.ArgumentTypeError('a number of MiB above 0 is needed')
    return max(1, int(rate * units.Mi))
