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

"""``nova-snap nova-check``."""

import argparse
import json
import subprocess  # nosec B404
import sys

from cliff import lister

from nova_snap import exception
from nova_snap.cmd import epilog

#: The module that checks the host, in a process of its own: Nova's options and
#: ours have the same names, and one process can't have both.
MODULE = 'nova_snap.nova.check'

FAILED = 'failed'

#: Columns of the table if the output is no terminal.
WIDTH = 100


class NovaCheck(epilog.NoEpilog, lister.Lister):
    """Check that nova-compute on this host is set up for the driver.

    Run this command as the user of nova-compute, with the nova-snap of its
    environment. It checks the import path, versions, permissions, folders,
    and libraries, and shows for each server how its snapshot would be taken.
    It changes nothing. The exit status is 1 if a result is "failed":
    snapshots, or the recovery of one, would fail until that is changed.
    Warnings do not change the exit status; a server of which no snapshot can
    be taken now is a warning.
    """

    #: False, since the other process reads nova.conf instead.
    reads_configuration = False

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the arguments."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument(
            '--nova-config-file',
            metavar='FILE',
            action='append',
            default=[],
            help='Configuration file of nova-compute; may be given more than '
            'once. Default: the files that nova-compute reads.',
        )
        if not sys.stdout.isatty() and not parser.get_default('max_width'):
            parser.set_defaults(max_width=WIDTH)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return the columns and a row for each finding."""
        if self.app.options.config_file:
            raise exception.Invalid(
                'nova-check reads the configuration of nova-compute, not '
                'nova_snap.conf: name files with --nova-config-file.'
            )
        rows = _findings(parsed_args.nova_config_file)
        self.failed = [row[0] for row in rows if row[1] == FAILED]
        return ('Check', 'Result', 'Detail'), rows

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Print the rows; raise SnapshotFailed if a check has failed."""
        super().run(parsed_args)
        if self.failed:
            raise exception.SnapshotFailed(
                'This host is not ready for the snapshots of nova-compute: '
                f'see {", ".join(dict.fromkeys(self.failed))} above.'
            )
        return 0


def _findings(config_files: list[str]) -> list[tuple[str, ...]]:
    # -P keeps the current folder out of sys.path; without it, a nova.py there
    # would be run, often as root.
    argv = [sys.executable, '-P', '-m', MODULE]
    for file in config_files:
        argv += ['--config-file', file]
    process = subprocess.run(  # nosec B603
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False
    )
    if process.returncode != 0:
        raise exception.Invalid(
            'The process that checks Nova failed: see its error above.'
        )
    return [tuple(finding.values()) for finding in json.loads(process.stdout)]
