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

"""The argument of a file that an image is made of."""

import argparse
import pathlib

from oslo_utils import units

from nova_snap import conf
from nova_snap import exception
from nova_snap import factory
from nova_snap import progress as progress_lib
from nova_snap.cmd import interrupts
from nova_snap.cmd import progress as progress_view
from nova_snap.compute import image_file
from nova_snap.image import api as image_api
from nova_snap.virt.storage import image_check


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        '--file',
        metavar='FILE',
        help='Make the image of this file; no SERVER is given then.',
    )
    parser.add_argument(
        '--disk-format',
        choices=image_check.FORMATS,
        help='Format of FILE, which is not guessed.',
    )


def is_given(parsed_args: argparse.Namespace) -> bool:
    """Return True if the image is to be made of a file.

    :raises Invalid: the arguments are not those of one or the other.
    """
    if parsed_args.file is None:
        if parsed_args.name is None:
            raise exception.Invalid('A SERVER and a NAME are needed.')
        if parsed_args.disk_format:
            raise exception.Invalid('--disk-format is of a --file.')
        return False
    if parsed_args.name is not None or parsed_args.disks:
        raise exception.Invalid('With --file only a NAME is given.')
    if parsed_args.all_disks or parsed_args.disk_format is None:
        raise exception.Invalid('With --file, --disk-format is needed.')
    return True


def created(parsed_args: argparse.Namespace) -> image_api.Image:
    """Make the image; return its record."""
    name = parsed_args.server
    with (
        progress_view.listener(parsed_args.poll) as listener,
        interrupts.cancelling(
            progress_lib.Progress(name, listener)
        ) as progress,
    ):
        return image_file.create(
            factory.snapshot_manager(conf.CONF),
            image_api.from_conf(conf.CONF),
            pathlib.Path(parsed_args.file),
            name,
            parsed_args.disk_format,
            dict(parsed_args.metadata),
            conf.CONF.snapshot.max_image_disk_gb * units.Gi,
            progress,
        )
