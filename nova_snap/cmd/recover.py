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

"""``nova-snap recover``."""

import argparse

from cliff import lister

from nova_snap import conf
from nova_snap import exception
from nova_snap import factory
from nova_snap.cmd import epilog
from nova_snap.compute import operations
from nova_snap.image import api as image_api
from nova_snap.virt.libvirt import hooks


class Recover(epilog.NoEpilog, lister.Lister):
    """Undo interrupted snapshots.

    This command puts guests back as they were, and removes temporary files
    and image records. Running snapshots are left alone. Run it when the host
    starts, and after a snapshot was killed.

    After a restart of the host, a server is left alone if other hosts may
    reach its disks, since it may run on one of them by now.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the arguments."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument(
            '--none-moved',
            action='store_true',
            help='Put servers back even though other hosts may reach their '
            'disks: you have made sure that none of them runs on another '
            'host, or has run on one since its snapshot was interrupted.',
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Recover; return a row for each interrupted snapshot."""
        guest_hooks = hooks.Hooks(parsed_args.none_moved)
        snapshots = factory.snapshot_manager(
            conf.CONF, factory.libvirt_driver(conf.CONF, guest_hooks)
        )
        recoveries = list(snapshots.recover(image_api.from_conf(conf.CONF)))
        unreadable = snapshots.unreadable()
        self.failed = bool(unreadable) or any(
            recovery.left for recovery in recoveries
        )
        if not recoveries and not unreadable:
            self.app.stderr.write('Nothing was left behind.\n')
        return ('Server', 'Name', 'Begun At', 'Outcome'), [
            *(_row(recovery) for recovery in recoveries),
            *(('', '', '', str(file)) for file in unreadable),
        ]

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Print the rows; raise SnapshotFailed if a step is left."""
        super().run(parsed_args)
        if self.failed:
            raise exception.SnapshotFailed(
                'Not everything could be undone; remove the causes that are '
                'named above, then run "nova-snap recover" again.'
            )
        return 0


def _row(recovery: operations.Recovery) -> tuple[str, ...]:
    entry = recovery.entry
    return (
        entry.instance_uuid,
        entry.instance_name,
        entry.begun_at,
        _outcome(recovery),
    )


def _outcome(recovery: operations.Recovery) -> str:
    if recovery.running:
        return 'running'
    if recovery.elsewhere:
        return 'left to the host, or the libvirt, that has begun it'
    if recovery.left:
        return f'still to do: {", ".join(recovery.left)}'
    return 'recovered'
