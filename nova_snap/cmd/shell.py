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

"""The command ``nova-snap``: options, configuration, exit codes."""

import argparse
import importlib.metadata
import logging
import os
import sys
from typing import Any

from nova_snap import concurrency

concurrency.choose_backend()

# Below, since eventlet has to patch before anything else is imported.
from cliff import app  # noqa: E402
from cliff import commandmanager  # noqa: E402
from oslo_config import cfg  # noqa: E402
import pbr.version  # noqa: E402

from nova_snap import conf  # noqa: E402
from nova_snap import exception  # noqa: E402

#: Exit status by category; anything else is 1, and 0 is success.
EXIT_STATUS: dict[type[BaseException], int] = {
    exception.Invalid: 2,
    cfg.Error: 2,
    exception.NotFound: 3,
    exception.Conflict: 4,
    exception.NotPermitted: 5,
    exception.Unavailable: 6,
    exception.SnapshotCancelled: 7,
    KeyboardInterrupt: 130,
}

#: Libraries whose debug messages do not help with a snapshot.
QUIET_LOGGERS = ('stevedore', 'urllib3')

EPILOG = """
Exit status: 0 success, 1 failed, 2 wrong usage or configuration, 3 not found,
4 conflict with another operation, 5 not permitted, 6 libvirt, the image
service or Cinder does not answer, 7 cancelled.
"""


class Commands(commandmanager.CommandManager):
    """The entry points of a namespace, each imported when it is called.

    cliff (4.17) imports all of them at every start.
    """

    def load_commands(self, namespace: str) -> None:
        """Find the commands."""
        self.group_list.append(namespace)
        for found in importlib.metadata.entry_points(group=namespace):
            self.commands[found.name] = found


class Shell(app.App):
    """The application; commands are entry points of ``nova_snap.cli``."""

    #: Warnings and errors; -v adds informational messages, --debug all.
    DEFAULT_VERBOSE_LEVEL = 0

    def __init__(self) -> None:
        super().__init__(
            description='Images of running and stopped libvirt guests.',
            version=pbr.version.VersionInfo('nova-snap').version_string(),
            command_manager=Commands('nova_snap.cli'),
            deferred_help=True,
        )
        self.status = 0

    def build_option_parser(
        self, *args: Any, **kwargs: Any
    ) -> argparse.ArgumentParser:
        """Add the options that come before the command."""
        parser: argparse.ArgumentParser = super().build_option_parser(
            *args, **kwargs
        )
        parser.epilog = EPILOG
        parser.add_argument(
            '--config-file',
            metavar='FILE',
            action='append',
            help='Configuration file; may be given more than once. Default: '
            'nova_snap.conf in ~/.nova_snap, ~, /etc/nova_snap or /etc.',
        )
        return parser

    def initialize_app(self, argv: list[str]) -> None:
        """Register the options, before a command is made."""
        for name in QUIET_LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)
        conf.register_opts(conf.CONF)

    def prepare_to_run_command(self, cmd: Any) -> None:
        """Read the configuration, before a command runs.

        A command whose ``reads_configuration`` is False does not use it.

        :raises oslo_config.cfg.Error: a file is missing, or invalid.
        :raises Invalid: a file can't be read.
        """
        if not getattr(cmd, 'reads_configuration', True):
            return
        try:
            conf.CONF(
                args=[],
                project='nova_snap',
                default_config_files=self.options.config_file,
            )
        except (OSError, UnicodeDecodeError) as error:
            # oslo.config does not translate the error of a file that is no
            # text.
            files = ', '.join(self.options.config_file or ['nova_snap.conf'])
            raise exception.Invalid(
                f'The configuration ({files}) cannot be read: {error}'
            ) from error

    def interact(self) -> None:
        """Print an error for a missing command, instead of cliff's session."""
        self.status = EXIT_STATUS[exception.Invalid]
        print(
            'nova-snap: no command was given; "nova-snap --help" lists them.',
            file=sys.stderr,
        )

    def clean_up(
        self, cmd: Any, result: int, err: BaseException | None
    ) -> None:
        """Choose the exit status after a command has run."""
        self.status = exit_status(err) if err is not None else result


def exit_status(error: BaseException) -> int:
    """Return the exit status for an error."""
    for category, status in EXIT_STATUS.items():
        if isinstance(error, category):
            return status
    return 1


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    shell = Shell()
    try:
        result = shell.run(arguments or ['--help'])
    except (cfg.Error, KeyboardInterrupt) as error:
        print(f'nova-snap: {error or "interrupted"}', file=sys.stderr)
        return _printed(exit_status(error))
    return _printed(shell.status or result)


def _printed(status: int) -> int:
    """Flush the output and return the exit status.

    If the reader of a pipe has ended or a disk is full, Python itself would
    end with a status of its own (120).
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            status = status or 1
    return status


if __name__ == '__main__':
    sys.exit(main())
