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

"""``nova-snap backup-create``."""

import argparse
from typing import Any

from cliff import lister

from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap.cmd import backup_command
from nova_snap.cmd import columns
from nova_snap.cmd import epilog
from nova_snap.cmd import interrupts
from nova_snap.cmd import progress as progress_view
from nova_snap.cmd import server_argument


class CreateBackup(epilog.NoEpilog, lister.Lister):
    """Take a backup of a server: an image of which only some are kept.

    When the image is active, those backups of the same server, type and
    project are deleted that neither --rotation nor a --keep option keeps. A
    backup that fails deletes none. An interrupt (Ctrl-C) cancels it.

    Each backup is a row. One of several disks (--all-disks) is deleted with
    all images of its set.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the arguments."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        server_argument.add_several(parser)
        parser.add_argument('name', metavar='NAME', help='Of the image.')
        backup_command.add_arguments(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Take the backup; return a row for each backup of the series."""
        wanted = backup_command.Wanted.from_arguments(parsed_args)
        instance = server_argument.instance(wanted.driver, parsed_args)
        with (
            progress_view.listener(parsed_args.poll) as listener,
            interrupts.cancelling(
                progress_lib.Progress(instance.uuid, listener)
            ) as progress,
        ):
            outcomes = wanted.taken(instance, parsed_args.name, progress)
        self.all_deleted = not any(one.hindrance for one in outcomes)
        return ('ID', 'Name', 'Created At', 'Outcome'), [
            (
                outcome.backup.image.id,
                columns.Text(outcome.backup.image.name),
                outcome.backup.image.created_at,
                backup_command.text(outcome, wanted.is_dry_run),
            )
            for outcome in outcomes
        ]

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Print the rows; raise Conflict if an old backup may be left."""
        super().run(parsed_args)
        if not self.all_deleted:
            raise exception.Conflict(
                'The backup is made, but not all backups that no rule keeps '
                'are deleted; the rows above have the reasons.'
            )
        return 0
