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

"""The arguments that name a server, and the disks of it that are meant."""

import argparse
import dataclasses
from typing import Any

from nova_snap.objects import instance as instance_lib
from nova_snap.virt import driver as driver_lib


class _OneDisk(argparse.Action):
    """An argument that is given once, or there would be several images."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Take the name of the disk."""
        if getattr(namespace, self.dest):
            raise argparse.ArgumentError(
                self,
                'only one disk can be taken here; "nova-snap image-create" '
                'takes several as of the same moment',
            )
        setattr(namespace, self.dest, [values])


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for one disk of a server to a parser."""
    parser.add_argument('server', metavar='SERVER', help='Name or ID.')
    parser.add_argument(
        '--disk',
        metavar='TARGET',
        dest='disks',
        action=_OneDisk,
        default=[],
        help='Take the disk with this target name, such as "vdb", for the '
        'root disk. Default: the disk that the server boots from.',
    )


def add_several(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for several disks of a server to a parser."""
    parser.add_argument('server', metavar='SERVER', help='Name or ID.')
    parser.add_argument(
        '--disk',
        metavar='TARGET',
        dest='disks',
        action='append',
        default=[],
        help='Take the disk with this target name, such as "vdb", for the '
        'root disk. May be given more than once: the first is then the root '
        'disk of the set, and the others are read as of the same moment, each '
        'for an image of its own. Default: the disk that the server boots '
        'from.',
    )
    add_all_disks(parser)


def add_all_disks(parser: argparse.ArgumentParser) -> None:
    """Add the argument for all disks of a server to a parser."""
    parser.add_argument(
        '--all-disks',
        action='store_true',
        help='Take all disks, as of the same moment, each for an image of '
        'its own; of a volume Cinder takes a snapshot. "nova-snap explain '
        '--all-disks" lists what becomes of each disk.',
    )


def instance(
    driver: driver_lib.ComputeDriver, parsed_args: argparse.Namespace
) -> instance_lib.Instance:
    """Return the instance that the arguments name.

    :raises InstanceNotFound, InstanceAmbiguous: as the driver does.
    """
    choice = instance_lib.DiskChoice(
        named=tuple(dict.fromkeys(parsed_args.disks)),
        is_every=getattr(parsed_args, 'all_disks', False),
    )
    return dataclasses.replace(
        driver.instance(parsed_args.server), disks=choice
    )
