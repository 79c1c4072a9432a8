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


"""``nova-snap rebuild``."""

import argparse
import os
import pathlib

from cliff import command
from oslo_utils import units

from nova_snap import conf
from nova_snap import exception
from nova_snap import factory
from nova_snap import progress as progress_lib
from nova_snap.cmd import epilog
from nova_snap.cmd import interrupts
from nova_snap.cmd import progress as progress_view
from nova_snap.compute import boot
from nova_snap.compute import rebuild
from nova_snap.image import api as image_api
from nova_snap.virt import rebuilding


class Rebuild(epilog.NoEpilog, command.Command):
    """Replace the disks of a server by those of an image.

    The server keeps its ID, its addresses and its devices. Of an image of
    several disks all disks are replaced, of another one the disk that the
    server boots from. A server that runs is shut down and started again.

    The old disks are kept until --delete-old removes them, or --undo gives
    them back. If anything fails, the server has the disks that it had, and
    runs if it did.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the arguments."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument('server', metavar='SERVER', help='Name or ID.')
        parser.add_argument(
            'image', metavar='IMAGE', nargs='?', help='Name or ID.'
        )
        parser.add_argument(
            '--delete-old',
            action='store_true',
            help='Remove the old disks once the server has the new ones, and '
            'those that an earlier rebuild has kept. Without IMAGE, only '
            'those.',
        )
        parser.add_argument(
            '--undo',
            action='store_true',
            help='Give the server its old disks back, and remove the new ones '
            'with all that was written to them since.',
        )
        parser.add_argument(
            '--directory',
            metavar='DIR',
            help='Where the disks are made. Default: beside those that they '
            'replace.',
        )
        parser.add_argument(
            '--force',
            action='store_true',
            help='Rebuild a server that Nova manages, too. Nova does not know '
            'of the new disks: its next hard reboot boots the old ones.',
        )
        parser.add_argument(
            '--poll',
            action='store_true',
            help='Show progress: a bar on a terminal, else lines.',
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Replace the disks, or give them back."""
        _require_one(parsed_args)
        images = image_api.from_conf(conf.CONF)
        driver = factory.libvirt_driver(conf.CONF)
        instance = driver.instance(parsed_args.server)
        target = driver.rebuild(instance, parsed_args.force)
        manager = factory.snapshot_manager(conf.CONF, driver)
        with (
            progress_view.listener(parsed_args.poll) as listener,
            interrupts.cancelling(
                progress_lib.Progress(instance.uuid, listener)
            ) as progress,
        ):
            place = manager, instance, target
            if parsed_args.undo:
                rebuild.undo(*place, images, progress)
            if parsed_args.image is not None:
                image = image_api.find(images, parsed_args.image)
                chosen = boot.source(images, image)
                wanted = _wanted(parsed_args, image, chosen)
                both = rebuild.Images(images, images)
                rebuild.rebuild(*place, both, chosen, wanted, progress)
            if parsed_args.delete_old:
                rebuild.forget(*place, images, progress)


def _require_one(parsed_args: argparse.Namespace) -> None:
    """Raise Invalid unless the arguments say what to do."""
    has_image = parsed_args.image is not None
    if parsed_args.undo and (has_image or parsed_args.delete_old):
        raise exception.Invalid('With --undo, only a SERVER is given.')
    if not (has_image or parsed_args.undo or parsed_args.delete_old):
        raise exception.Invalid(
            'An IMAGE is needed, or --undo, or --delete-old.'
        )


def _wanted(
    parsed_args: argparse.Namespace,
    image: image_api.Image,
    chosen: boot.Source,
) -> rebuilding.Wanted:
    directory = parsed_args.directory
    return rebuilding.Wanted(
        image=image.id,
        disks=chosen.disks(),
        directory=directory and pathlib.Path(os.path.abspath(directory)),
        forgets=parsed_args.delete_old,
        max_disk=conf.CONF.snapshot.max_image_disk_gb * units.Gi,
    )
