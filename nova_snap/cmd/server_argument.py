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

"""The arguments that name a server, and the disk of it that is meant."""

import argparse
import dataclasses

from nova_snap.objects import instance as instance_lib
from nova_snap.virt import driver as driver_lib


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to a parser."""
    parser.add_argument('server', metavar='SERVER', help='Name or ID.')
    parser.add_argument(
        '--disk',
        metavar='TARGET',
        help='Take the disk with this target name, such as "vdb", for the '
        'root disk. Default: the disk that the server boots from.',
    )


def instance(
    driver: driver_lib.ComputeDriver, parsed_args: argparse.Namespace
) -> instance_lib.Instance:
    """Return the instance that the arguments name.

    :raises InstanceNotFound, InstanceAmbiguous: as the driver does.
    """
    return dataclasses.replace(
        driver.instance(parsed_args.server), root_device=parsed_args.disk
    )
