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

"""What the commands that take backups share."""

import argparse
import dataclasses

from nova_snap import conf
from nova_snap import factory
from nova_snap import progress as progress_lib
from nova_snap.cmd import retention_arguments
from nova_snap.compute import backups
from nova_snap.compute import manager as manager_lib
from nova_snap.image import api as image_api
from nova_snap.objects import instance as instance_lib
from nova_snap.virt import driver as driver_lib
from nova_snap.volume import api as volume_api


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that all commands have which take backups."""
    retention_arguments.add(parser)
    parser.add_argument(
        '--poll',
        action='store_true',
        help='Show progress: a bar on a terminal, else lines.',
    )


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What the arguments ask for, and the services that do it."""

    driver: driver_lib.ComputeDriver
    manager: manager_lib.SnapshotManager
    images: image_api.ImageService
    volumes: volume_api.VolumeService | None
    backup_type: str
    retention: backups.Retention
    is_dry_run: bool

    @classmethod
    def from_arguments(cls, parsed_args: argparse.Namespace) -> 'Wanted':
        """Make it of the arguments and the configuration.

        :raises Invalid: no backup would be kept.
        """
        retention = retention_arguments.retention(parsed_args)
        driver = factory.libvirt_driver(conf.CONF)
        return cls(
            driver,
            factory.snapshot_manager(conf.CONF, driver),
            image_api.from_conf(conf.CONF),
            factory.volume_service(conf.CONF),
            parsed_args.backup_type,
            retention,
            parsed_args.dry_run,
        )

    def taken(
        self,
        instance: instance_lib.Instance,
        name: str,
        progress: progress_lib.Progress,
    ) -> list[backups.Outcome]:
        """Take a backup; return what became of each, the new one first.

        In a dry run none is taken, and none deleted.
        """
        series = backups.Series(
            self.images, instance.uuid, self.backup_type, self.retention
        )
        if self.is_dry_run:
            judged = series.judged(series.imagined(name))
            return [backups.Outcome(backup, '') for backup in judged]
        return backups.take(
            self.manager, series, instance, name, self.volumes, progress
        )


def text(outcome: backups.Outcome, is_dry_run: bool) -> str:
    """Return what became of a backup, or would become of it."""
    if outcome.hindrance:
        return f'not deleted: {outcome.hindrance}'
    rules = ', '.join(outcome.backup.rules)
    verb = f'kept ({rules})' if rules else 'deleted'
    return f'would be {verb}' if is_dry_run else verb


def summary(outcomes: list[backups.Outcome], is_dry_run: bool) -> str:
    """Return what became of the backups of one server, in a few words."""
    kept = sum(bool(outcome.backup.rules) for outcome in outcomes)
    deleted = len(outcomes) - kept
    if is_dry_run:
        return f'{kept} would be kept, {deleted} would be deleted'
    left = [outcome for outcome in outcomes if outcome.hindrance]
    found = f'{kept} kept, {deleted - len(left)} deleted'
    return '; '.join(
        (found, *(f'{one.backup.image.id} {text(one, False)}' for one in left))
    )
