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

"""Gives a new cloud its flavors and the image of the guest that ticks."""

import pathlib
import tempfile

import openstack

from tests.lab import guest_image
from tests.lab import root_disk
from tests.openstack import layout as layout_lib

#: Bytes of the guest's file system.
SIZE = 128 * root_disk.MIB

IMAGE = 'tick'
#: Its disk is larger than the image's, as most are.
FLAVOR = 'tick'
#: Its disk is as large as the image's: less for Glance to hash.
FLAVOR_SMALL = 'tick-small'
#: With an ephemeral disk (GiB) and swap (MiB).
FLAVOR_WITH_DISKS = 'tick-disks'

#: What image properties must survive a snapshot, and what must not.
PROPERTIES = {
    'os_command_line': 'console=ttyS0 quiet bus=virtio tick=50',
    'hw_rng_model': 'virtio',
    'os_distro': 'busybox',
    'team': 'lab',
}


def fill(
    layout: layout_lib.Layout, connection: openstack.connection.Connection
) -> None:
    """Make flavors and images."""
    for name, size in (
        (FLAVOR, {'disk': 1}),
        (FLAVOR_SMALL, {'disk': 0}),
        (FLAVOR_WITH_DISKS, {'disk': 1, 'ephemeral': 1, 'swap': 64}),
    ):
        connection.compute.create_flavor(name=name, ram=160, vcpus=1, **size)
    guest = guest_image.get()
    kernel = upload(connection, 'kernel', guest.kernel, 'aki')
    ramdisk = upload(connection, 'ramdisk', guest.initrd, 'ari')
    with tempfile.TemporaryDirectory(dir=layout.state) as work:
        disk = root_disk.make(
            pathlib.Path(work), root_disk.Kind.QCOW2, size=SIZE
        )
        upload(
            connection,
            IMAGE,
            disk.path,
            'qcow2',
            kernel_id=kernel,
            ramdisk_id=ramdisk,
            min_ram=64,
            **PROPERTIES,
        )


def upload(
    connection: openstack.connection.Connection,
    name: str,
    path: pathlib.Path,
    disk_format: str,
    **properties: object,
) -> str:
    """Upload a public image; returns its id."""
    own_container = disk_format in ('aki', 'ari')
    image = connection.create_image(
        name,
        filename=str(path),
        disk_format=disk_format,
        container_format=disk_format if own_container else 'bare',
        visibility='public',
        wait=True,
        validate_checksum=False,
        **properties,
    )
    return str(image.id)
