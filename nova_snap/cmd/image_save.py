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

"""``nova-snap image-save``."""

import argparse
import os
import pathlib

from cliff import command

from nova_snap import conf
from nova_snap import progress as progress_lib
from nova_snap.cmd import epilog
from nova_snap.cmd import interrupts
from nova_snap.cmd import progress as progress_view
from nova_snap.compute import image_file
from nova_snap.image import api as image_api


class SaveImage(epilog.NoEpilog, command.Command):
    """Write the data of an image to a new file.

    The file appears when it is complete, and has been compared with the hash
    in the image's record. A file that exists is not replaced.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the arguments."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument('image', metavar='IMAGE', help='Name or ID.')
        parser.add_argument(
            '-o',
            '--output',
            metavar='FILE',
            required=True,
            help='File to make. Zeros become holes in it.',
        )
        parser.add_argument(
            '--poll',
            action='store_true',
            help='Show progress: a bar on a terminal, else lines.',
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Write the file."""
        images = image_api.from_conf(conf.CONF)
        image = image_api.find(images, parsed_args.image)
        path = pathlib.Path(os.path.abspath(parsed_args.output))
        with (
            progress_view.listener(parsed_args.poll) as listener,
            interrupts.cancelling(
                progress_lib.Progress(image.name, listener)
            ) as progress,
        ):
            image_file.save(images, image, path, progress)
