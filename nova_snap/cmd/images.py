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

"""``nova-snap image-create``, ``image-list`` and ``image-show``."""

import argparse
from collections.abc import Iterator
from typing import Any

from cliff import lister
from cliff import show

from nova_snap import conf
from nova_snap import factory
from nova_snap import progress as progress_lib
from nova_snap.cmd import columns
from nova_snap.cmd import epilog
from nova_snap.cmd import image_file_argument
from nova_snap.cmd import interrupts
from nova_snap.cmd import progress as progress_view
from nova_snap.cmd import server_argument
from nova_snap.compute import image_set
from nova_snap.compute import image_set_members
from nova_snap.image import api as image_api


class CreateImage(epilog.NoEpilog, show.ShowOne):
    """Take an image of a server, or make one of a file.

    Returns when the image is complete. An interrupt (Ctrl-C) cancels the
    snapshot and cleans up.

    Of several disks (--all-disks, or --disk more than once), each becomes an
    image of its own; the names of the further images end with the names of
    their disks. All of them show the same moment. If one fails, no image
    stays; the image of the root disk becomes active when all the others are.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the arguments, those of "nova image-create"."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        server_argument.add_several(parser)
        name = parser.add_argument(
            'name',
            metavar='NAME',
            help='Name of the image; of several disks, that of the root disk.',
        )
        # With --file there is no server: the only argument is the name then.
        name.required = False
        image_file_argument.add(parser)
        parser.add_argument(
            '--metadata',
            metavar='KEY=VALUE',
            action='append',
            default=[],
            type=_metadata_item,
            help='Property of the image; may be given more than once.',
        )
        parser.add_argument(
            '--no-definition',
            action='store_true',
            help='Do not write into the image which hardware the server has. '
            '"nova-snap boot" then needs another definition.',
        )
        parser.add_argument(
            '--poll',
            action='store_true',
            help='Show progress: a bar on a terminal, else lines.',
        )
        parser.add_argument(
            '--show',
            action='store_true',
            help='Print all fields of the image, not only its ID and status.',
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        """Take the image; return its columns and values."""
        if image_file_argument.is_given(parsed_args):
            image = image_file_argument.created(parsed_args)
            return self._shown(parsed_args, image, [])
        driver = factory.libvirt_driver(conf.CONF)
        instance = server_argument.instance(driver, parsed_args)
        manager = factory.snapshot_manager(conf.CONF, driver)
        with (
            progress_view.listener(parsed_args.poll) as listener,
            interrupts.cancelling(
                progress_lib.Progress(instance.uuid, listener)
            ) as progress,
        ):
            image, *further = manager.snapshot_instance(
                instance,
                parsed_args.name,
                dict(parsed_args.metadata),
                image_api.from_conf(conf.CONF),
                progress,
                not parsed_args.no_definition,
            )
        return self._shown(parsed_args, image, further)

    def _shown(
        self,
        parsed_args: argparse.Namespace,
        image: image_api.Image,
        further: list[image_api.Image],
    ) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        fields = (
            _fields(image)
            if parsed_args.show
            else {
                'id': image.id,
                'name': columns.Text(image.name),
                'status': image.status,
            }
        )
        if further:
            fields['further_images'] = columns.pairs(
                {
                    other.properties[image_set.DEVICE]: other.id
                    for other in further
                },
                parsed_args.formatter,
            )
        return tuple(fields), tuple(fields.values())


class ListImages(epilog.NoEpilog, lister.Lister):
    """List the images in the image service.

    The images of several disks of a server, as of one moment, have the ID of
    their set: that of the root disk's image. If one of them is missing or not
    active, the set is incomplete.
    """

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], Iterator[tuple[Any, ...]]]:
        """Return the columns and a row for each image."""
        images = image_api.from_conf(conf.CONF).list()
        return ('ID', 'Name', 'Status', 'Size', 'Server', 'Set'), (
            (
                image.id,
                columns.Text(image.name),
                image.status,
                image.size,
                columns.Text(image.properties.get('instance_uuid', '')),
                in_set,
            )
            for image, in_set in image_set_members.labelled(images)
        )


class ShowImage(epilog.NoEpilog, show.ShowOne):
    """Show an image.

    Of the images of several disks of a server, each shows all of its set, and
    whether the set is complete.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the arguments."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument('image', metavar='IMAGE', help='Name or ID.')
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        """Return the columns and values of the image."""
        images = image_api.from_conf(conf.CONF)
        image = image_api.find(images, parsed_args.image)
        fields = _fields(image)
        if image_set_members.claims(image):
            find = image_set_members.in_service(images)
            members = image_set_members.of_image(find, image)
            fields |= _set_fields(members, parsed_args.formatter)
        return tuple(fields), tuple(fields.values())


def _set_fields(
    members: image_set_members.Members | None, formatter: str
) -> dict[str, Any]:
    """Return what is shown of a set; None is one that has no root disk."""
    if members is None:
        return {'set_complete': False}
    ids = {
        device: image.id if image is not None else None
        for device, image in members.by_device.items()
    }
    return {
        'set_complete': members.is_complete,
        'set_images': columns.pairs(ids, formatter),
    }


def _metadata_item(text: str) -> tuple[str, str]:
    key, separator, value = text.partition('=')
    if not separator or not key:
        raise argparse.ArgumentTypeError(
            f'{text!r} is not of the form KEY=VALUE'
        )
    return key, value


def _fields(image: image_api.Image) -> dict[str, Any]:
    return {
        'id': image.id,
        'name': columns.Text(image.name),
        'status': image.status,
        'size': image.size,
        'disk_format': image.disk_format,
        'container_format': image.container_format,
        'visibility': image.visibility,
        'min_disk': image.min_disk,
        'min_ram': image.min_ram,
        'owner': image.owner,
        'created_at': image.created_at,
        'updated_at': image.updated_at,
        'os_hash_algo': image.hash_algorithm,
        'os_hash_value': image.hash_value,
        **{
            columns.printable(key): columns.Text(image.properties[key])
            for key in sorted(image.properties)
        },
    }
