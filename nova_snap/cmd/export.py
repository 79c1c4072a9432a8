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

"""``nova-snap export``."""

import argparse
import sys

from cliff import command

from nova_snap import conf
from nova_snap import factory
from nova_snap import progress as progress_lib
from nova_snap.cmd import epilog
from nova_snap.cmd import interrupts
from nova_snap.cmd import progress as progress_view
from nova_snap.cmd import server_argument
from nova_snap.compute import export_target
from nova_snap.image import api as image_api

STANDARD_OUTPUT = '-'


class Export(epilog.NoEpilog, command.Command):
    """Write an image of a server to a file, without an image service.

    Where the image is a stream (see [snapshot] live_method), nothing else is
    written to this host's disk. The file appears when it is complete.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the arguments."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        server_argument.add(parser)
        parser.add_argument(
            '-o',
            '--output',
            metavar='FILE',
            required=True,
            help='File, device or FIFO to write; "-" is standard output.',
        )
        parser.add_argument(
            '--poll',
            action='store_true',
            help='Show progress: a bar on a terminal, else lines.',
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Write the image to the file."""
        target = _target(parsed_args.output)
        driver = factory.libvirt_driver(conf.CONF)
        instance = server_argument.instance(driver, parsed_args)
        manager = factory.snapshot_manager(conf.CONF, driver)
        images = image_api.from_conf(conf.CONF)
        with (
            progress_view.listener(parsed_args.poll) as listener,
            interrupts.cancelling(
                progress_lib.Progress(instance.uuid, listener)
            ) as progress,
        ):
            manager.export_instance(instance, target, images, progress)


def _target(output: str) -> export_target.Target:
    if output == STANDARD_OUTPUT:
        return export_target.Stream(sys.stdout.buffer)
    return export_target.at(output)
