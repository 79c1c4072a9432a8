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

"""``nova-snap backup-all``."""

import argparse
import dataclasses
import fnmatch
from typing import Any

from cliff import lister
from oslo_log import log as logging
from oslo_utils import timeutils

from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap.cmd import backup_command
from nova_snap.cmd import columns
from nova_snap.cmd import epilog
from nova_snap.cmd import interrupts
from nova_snap.cmd import progress as progress_view
from nova_snap.cmd import server_argument
from nova_snap.compute import image_record
from nova_snap.objects import instance as instance_lib
from nova_snap.virt import driver as driver_lib

LOG = logging.getLogger(__name__)

#: How the name of an image says when it was begun.
TIME = '%Y%m%dT%H%M%SZ'


class BackupAll(epilog.NoEpilog, lister.Lister):
    """Take a backup of each server of this host, one after the other.

    As "nova-snap backup-create" does; the name of an image is that of the
    server, the type and the time. A backup that fails does not keep the
    others from being taken; the exit status is then 1. Each server is a row.
    An interrupt (Ctrl-C) cancels the backup that is being taken, and those
    that would follow.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the arguments."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument(
            '--match',
            metavar='PATTERN',
            action='append',
            default=[],
            help='Only servers with a name that matches this shell pattern, '
            'such as "web-?"; may be given more than once.',
        )
        server_argument.add_all_disks(parser)
        backup_command.add_arguments(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Take the backups; return a row for each server."""
        wanted = backup_command.Wanted.from_arguments(parsed_args)
        instances = _matching(wanted.driver, parsed_args)
        self.failed = 0
        self.running = _Running()
        with (
            progress_view.listener(parsed_args.poll) as listener,
            interrupts.calling(self.running.cancel),
        ):
            return ('ID', 'Name', 'Image', 'Outcome'), [
                self._row(wanted, instance, listener) for instance in instances
            ]

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Print the rows; raise SnapshotFailed if something went wrong."""
        super().run(parsed_args)
        if self.failed:
            raise exception.SnapshotFailed(
                'Servers without a new backup, or with old ones that should '
                f'be deleted: {self.failed}; the rows above have the reasons.'
            )
        return 0

    def _row(
        self,
        wanted: backup_command.Wanted,
        instance: instance_lib.Instance,
        listener: progress_view.Listener | None,
    ) -> tuple[Any, ...]:
        """Take the backup of a server; return what became of it."""
        image_id = ''
        try:
            outcomes = wanted.taken(
                instance,
                _name(instance, wanted.backup_type),
                self.running.next(instance, listener),
            )
        except Exception as error:
            # Whatever it is, the others have theirs.
            is_known = isinstance(error, exception.NovaSnapError)
            outcome = str(error) or type(error).__name__
            LOG.error(
                'No backup of server %(server)s: %(why)s',
                {'server': instance.uuid, 'why': outcome},
                instance_uuid=instance.uuid,
                exc_info=None if is_known else error,
            )
            is_right = False
        else:
            image_id = outcomes[0].backup.image.id
            outcome = backup_command.summary(outcomes, wanted.is_dry_run)
            is_right = not any(one.hindrance for one in outcomes)
        self.failed += not is_right
        return instance.uuid, columns.Text(instance.name), image_id, outcome


class _Running:
    """The backup that is being taken now; a signal cancels all to come."""

    def __init__(self) -> None:
        self._progress: progress_lib.Progress | None = None
        self._reason: str | None = None

    def cancel(self, reason: str) -> None:
        """Cancel the backup that is being taken, and the others."""
        self._reason = reason
        if self._progress is not None:
            self._progress.cancel(reason)

    def next(
        self,
        instance: instance_lib.Instance,
        listener: progress_view.Listener | None,
    ) -> progress_lib.Progress:
        """Return what the next backup reports to, and is cancelled by."""
        self._progress = progress_lib.Progress(instance.uuid, listener)
        if self._reason is not None:
            self._progress.cancel(self._reason)
        return self._progress


def _matching(
    driver: driver_lib.ComputeDriver, parsed_args: argparse.Namespace
) -> list[instance_lib.Instance]:
    """Return the servers that are meant, sorted by name.

    :raises InstanceNotFound: there is none with such a name.
    """
    patterns = parsed_args.match
    choice = instance_lib.DiskChoice(is_every=parsed_args.all_disks)
    found = [
        dataclasses.replace(instance, disks=choice)
        for instance, _state in driver.instances()
        if not patterns
        or any(fnmatch.fnmatchcase(instance.name, p) for p in patterns)
    ]
    if patterns and not found:
        raise exception.InstanceNotFound(server=' '.join(patterns))
    return sorted(found, key=lambda instance: instance.name)


def _name(instance: instance_lib.Instance, backup_type: str) -> str:
    """Return the name of an image that is begun now."""
    behind = f'-{backup_type}-{timeutils.utcnow().strftime(TIME)}'
    name = instance.name if instance.name.isprintable() else instance.uuid
    return name[: image_record.MAX_NAME - len(behind)] + behind
