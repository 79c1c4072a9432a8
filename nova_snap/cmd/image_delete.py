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

"""``nova-snap image-delete``."""

import argparse
import contextlib

from cliff import lister

from nova_snap import conf
from nova_snap import exception
from nova_snap import factory
from nova_snap.cmd import epilog
from nova_snap.compute import image_deletion
from nova_snap.compute import image_set_deletion
from nova_snap.compute import image_set_members
from nova_snap.image import api as image_api
from nova_snap.volume import api as volume_api


class DeleteImage(epilog.NoEpilog, lister.Lister):
    """Delete an image.

    The image of a server that boots from a volume has no data, but names
    snapshots in Cinder. These stay, unless --with-snapshots is given; the
    result for each snapshot is then a row. A snapshot from which a volume was
    made stays in any case. A snapshot that Cinder does not find is deleted
    already, or hidden from the login in [cinder]; that is no error.

    Of the images of several disks of a server only this one is deleted,
    unless --set is given; the result for each image is then a row. The image
    of the root disk is deleted last, and stays as long as another stays: by
    it, the deletion can be repeated.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the arguments."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument('image', metavar='IMAGE', help='Name or ID.')
        parser.add_argument(
            '--with-snapshots',
            action='store_true',
            help='Also delete the volume snapshots that the image names.',
        )
        parser.add_argument(
            '--set',
            action='store_true',
            dest='is_set',
            help='Delete all images of the set that the image belongs to.',
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Delete the image or the set; return a row for each outcome."""
        images = image_api.from_conf(conf.CONF)
        image = image_api.find(images, parsed_args.image)
        volumes = None
        if parsed_args.with_snapshots:
            volumes = factory.volume_service(conf.CONF)
            if volumes is None:
                raise exception.InvalidConfiguration(
                    option='[cinder] auth_type',
                    reason='is not set, and the snapshots are in Cinder.',
                )
        if parsed_args.is_set:
            return self._delete_set(images, image, volumes)
        return self._delete(images, image, volumes)

    def _delete_set(
        self,
        images: image_api.ImageService,
        image: image_api.Image,
        volumes: volume_api.VolumeService | None,
    ) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        members = _members(images, image)
        if members is None:
            raise exception.Invalid(
                f'Image {image.id} belongs to no set, or the image of the '
                'root disk of its set does not exist. Nothing was deleted.'
            )
        outcomes = list(image_set_deletion.delete(images, members, volumes))
        self.any_stays = any(outcome.stays for outcome in outcomes)
        return ('Type', 'ID', 'Outcome'), [
            (outcome.kind, outcome.id, outcome.text) for outcome in outcomes
        ]

    def _delete(
        self,
        images: image_api.ImageService,
        image: image_api.Image,
        volumes: volume_api.VolumeService | None,
    ) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        others = _others(images, image)
        outcomes: list[image_deletion.Outcome] = []
        if volumes is None:
            images.delete(image.id)
        else:
            outcomes = list(image_deletion.delete(images, volumes, image))
        if others:
            self.app.stderr.write(
                f'Other images of the set of image {image.id} still exist: '
                f'{", ".join(others)}.\n'
            )
        self.any_stays = any(outcome.stays for outcome in outcomes)
        return ('Snapshot', 'Outcome'), [
            (outcome.snapshot_id, outcome.text) for outcome in outcomes
        ]

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Print the rows; raise Conflict if something may be left."""
        super().run(parsed_args)
        if self.any_stays:
            raise exception.Conflict(
                'Not all of the set is deleted; the rows above have the '
                'reasons.'
                if parsed_args.is_set
                else 'The image is deleted, but not all of its snapshots; the '
                'rows above have the reasons.'
            )
        return 0


def _members(
    images: image_api.ImageService, image: image_api.Image
) -> image_set_members.Members | None:
    find = image_set_members.in_service(images)
    return image_set_members.of_image(find, image)


def _others(
    images: image_api.ImageService, image: image_api.Image
) -> list[str]:
    """Return the IDs of the other images of a set, for information."""
    # One image can be deleted where others may not be looked at.
    with contextlib.suppress(exception.NovaSnapError):
        members = _members(images, image)
        if members is not None:
            found = members.existing.values()
            return [other.id for other in found if other.id != image.id]
    return []
