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

"""``nova-snap boot``."""

import argparse
import os
import pathlib
from typing import Any

from cliff import show
from oslo_utils import units

from nova_snap import conf
from nova_snap import exception
from nova_snap import factory
from nova_snap import progress as progress_lib
from nova_snap.cmd import epilog
from nova_snap.cmd import interrupts
from nova_snap.cmd import progress as progress_view
from nova_snap.compute import boot
from nova_snap.image import api as image_api
from nova_snap.virt import creation


class Boot(epilog.NoEpilog, show.ShowOne):
    """Make a server of an image, and start it.

    The server gets a new ID and new MAC addresses. Of an image of several
    disks all disks are made. The image is compared with the hash in its
    record, and inspected, before it becomes a disk. If anything fails, nothing
    is left.

    The hardware is the one that the image carries, unless a server or a file
    is named. From an image nothing is taken but hardware: no path, no device
    of this host, and no network.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the arguments."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument('image', metavar='IMAGE', help='Name or ID.')
        parser.add_argument('name', metavar='NAME', help='Of the new server.')
        hardware = parser.add_mutually_exclusive_group()
        hardware.add_argument(
            '--like',
            metavar='SERVER',
            help='Take the hardware and the networks of this server.',
        )
        hardware.add_argument(
            '--definition',
            metavar='FILE',
            help="Take the definition in this file, in libvirt's XML, as it "
            'is, but for the name, the ID, MAC addresses, and the files of '
            'the disks that the image is of.',
        )
        place = parser.add_mutually_exclusive_group()
        place.add_argument(
            '--directory',
            metavar='DIR',
            help='Where the disks are made. Default: beside the disks of the '
            'server of --like, or /var/lib/libvirt/images.',
        )
        place.add_argument(
            '--pool',
            metavar='POOL',
            help='Storage pool of libvirt with a directory for the disks.',
        )
        parser.add_argument(
            '--network',
            metavar='NETWORK',
            help="Network of libvirt for the server's interfaces, or \"none\" "
            'to leave them out. Default: "default".',
        )
        parser.add_argument(
            '--no-start',
            action='store_true',
            help='Define the server without starting it.',
        )
        parser.add_argument(
            '--poll',
            action='store_true',
            help='Show progress: a bar on a terminal, else lines.',
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        """Make the server; return its columns and values."""
        images = image_api.from_conf(conf.CONF)
        image = image_api.find(images, parsed_args.image)
        chosen = boot.source(images, image)
        driver = factory.libvirt_driver(conf.CONF)
        with (
            progress_view.listener(parsed_args.poll) as listener,
            interrupts.cancelling(
                progress_lib.Progress(parsed_args.name, listener)
            ) as progress,
        ):
            instance = boot.boot(
                factory.snapshot_manager(conf.CONF, driver),
                driver,
                images,
                chosen,
                parsed_args.name,
                _wanted(parsed_args, chosen),
                progress,
            )
        return ('id', 'name'), (instance.uuid, instance.name)


def _wanted(
    parsed_args: argparse.Namespace, chosen: boot.Source
) -> creation.Wanted:
    directory, file = parsed_args.directory, parsed_args.definition
    return creation.Wanted(
        disks=chosen.disks(),
        of_image=chosen.definition,
        like=parsed_args.like,
        written=None if file is None else _text(file),
        directory=directory and pathlib.Path(os.path.abspath(directory)),
        pool=parsed_args.pool,
        network=parsed_args.network,
        starts=not parsed_args.no_start,
        max_disk=conf.CONF.snapshot.max_image_disk_gb * units.Gi,
    )


def _text(file: str) -> str:
    try:
        return pathlib.Path(file).read_text(encoding='utf-8')
    except (OSError, ValueError) as error:
        raise exception.Invalid(f'{file} cannot be read: {error}.') from error
