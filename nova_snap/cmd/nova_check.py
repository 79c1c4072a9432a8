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

#: Looks at the host in a Python of its own: Nova's options and ours have the
#: same names, and one process can't have both.
MODULE = 'nova_snap.nova.check'

FAILED = 'failed'

#: Columns of the table where there is no terminal that has a width.
WIDTH = 100


class NovaCheck(lister.Lister):
    """Say whether nova-compute on this host is set up for the driver.

    Run it as the user of nova-compute, with the nova-snap of its environment.
    Looks at the import path, versions, permissions, folders, and libraries,
    and says for each server how its snapshot would be taken. Changes nothing.
    Ends with status 1 if something is "failed": snapshots, or the recovery of
    one, would fail until it is changed. What is a "warning" does not end so,
    also a server that cannot be snapshot as it is now.
    """

    #: nova.conf is read instead, by the other Python.
    reads_configuration = False

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The arguments."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument(
            '--nova-config-file',
            metavar='FILE',
            action='append',
            default=[],
            help='Configuration file of nova-compute; may be given more than '
            'once. Default: those that nova-compute reads.',
        )
        if not sys.stdout.isatty() and not parser.get_default('max_width'):
            parser.set_defaults(max_width=WIDTH)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Columns and rows, one for each finding."""
        if self.app.options.config_file:
            raise exception.Invalid(
                'nova-check reads the configuration of nova-compute, and '
                'no nova_snap.conf: name files with --nova-config-file.'
            )
        rows = _findings(parsed_args.nova_config_file)
        self.failed = [row[0] for row in rows if row[1] == FAILED]
        return ('Check', 'Result', 'Detail'), rows

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Print the rows; an error if one has failed."""
        super().run(parsed_args)
        if self.failed:
            raise exception.SnapshotFailed(
                'This host is not ready for the snapshots of nova-compute: '
                f'see {", ".join(dict.fromkeys(self.failed))} above.'
            )
        return 0


def _findings(config_files: list[str]) -> list[tuple[str, ...]]:
    # -P: what lies in the current folder is nobody's business; without it,
    # a nova.py there would be run, often as root.
    argv = [sys.executable, '-P', '-m', MODULE]
    for file in config_files:
        argv += ['--config-file', file]
    process = subprocess.run(  # nosec B603
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False
    )
    if process.returncode != 0:
        raise exception.Invalid(
            'What Nova was asked for is not answered: see its error above.'
        )
    return [tuple(finding.values()) for finding in json.loads(process.stdout)]
