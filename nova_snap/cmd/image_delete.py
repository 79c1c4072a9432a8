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

from cliff import lister

from nova_snap import conf
from nova_snap import exception
from nova_snap import factory
from nova_snap.cmd import epilog
from nova_snap.compute import image_deletion
from nova_snap.image import api as image_api


class DeleteImage(epilog.NoEpilog, lister.Lister):
    """Delete an image.

    The image of a server that boots from a volume has no data, but names
    snapshots in Cinder. These stay, unless --with-snapshots is given; the
    result for each snapshot is then a row. A snapshot from which a volume was
    made stays in any case. A snapshot that Cinder does not find is deleted
    already, or hidden from the login in [cinder]; that is no error.
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
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Delete the image; return a row for each snapshot."""
        images = image_api.from_conf(conf.CONF)
        image = image_api.find(images, parsed_args.image)
        outcomes: list[image_deletion.Outcome] = []
        if parsed_args.with_snapshots:
            volumes = factory.volume_service(conf.CONF)
            if volumes is None:
                raise exception.InvalidConfiguration(
                    option='[cinder] auth_type',
                    reason='is not set, and the snapshots are in Cinder.',
                )
            outcomes = list(image_deletion.delete(images, volumes, image))
        else:
            images.delete(image.id)
        self.any_stays = any(outcome.stays for outcome in outcomes)
        return ('Snapshot', 'Outcome'), [
            (outcome.snapshot_id, outcome.text) for outcome in outcomes
        ]

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Print the rows; raise Conflict if a snapshot may be left."""
        super().run(parsed_args)
        if self.any_stays:
            raise exception.Conflict(
                'The image is deleted, but not all of its snapshots; the '
                'rows above have the reasons.'
            )
        return 0
