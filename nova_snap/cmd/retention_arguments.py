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

"""The arguments that say which backups are kept."""

import argparse

from nova_snap import exception
from nova_snap.compute import backups


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to a parser."""
    parser.add_argument(
        '--type',
        metavar='TYPE',
        dest='backup_type',
        required=True,
        help='Such as "daily": only backups of this type, of the same server '
        'and project, are counted and deleted.',
    )
    parser.add_argument(
        '--rotation',
        metavar='N',
        type=_count,
        default=0,
        help='Keep the N latest backups.',
    )
    for rule, period in (
        ('daily', 'days'),
        ('weekly', 'weeks (from Monday on)'),
        ('monthly', 'months'),
    ):
        parser.add_argument(
            f'--keep-{rule}',
            metavar='N',
            type=_count,
            default=0,
            help=f'Keep the latest backup of each of the last N {period}, in '
            'UTC, that have one.',
        )
    parser.add_argument(
        '--dry-run',
        action='store_true',
        help='Only show which backups would be kept and deleted.',
    )


def retention(parsed_args: argparse.Namespace) -> backups.Retention:
    """Return what the arguments say.

    :raises Invalid: no backup would be kept.
    """
    found = backups.Retention(
        latest=parsed_args.rotation,
        daily=parsed_args.keep_daily,
        weekly=parsed_args.keep_weekly,
        monthly=parsed_args.keep_monthly,
    )
    if found == backups.Retention():
        raise exception.Invalid(
            'Which backups are kept? Give --rotation, --keep-daily, '
            '--keep-weekly or --keep-monthly.'
        )
    return found


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f'{text} is less than 1')
    return count
