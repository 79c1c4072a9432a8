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

"""New instances of images.

Open this file for the steps at the highest level, and for which images become
disks.
"""

from collections.abc import Sequence
import dataclasses
from typing import BinaryIO
import uuid

from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap.compute import image_definition
from nova_snap.compute import image_download
from nova_snap.compute import image_set_members
from nova_snap.compute import manager as manager_lib
from nova_snap.image import api as image_api
from nova_snap.objects import instance as instance_lib
from nova_snap.virt import creation as creation_lib
from nova_snap.virt import driver as driver_lib


@dataclasses.dataclass(frozen=True)
class Source:
    """The images that become the disks of an instance, the root disk first.

    :ivar devices: the target names of the disks; None for an image of one
        disk, which does not say of which.
    """

    images: Sequence[image_api.Image]
    devices: Sequence[str | None]

    @property
    def definition(self) -> str:
        """The definition of the guest; empty if there is none."""
        return self.images[0].properties.get(image_definition.PROPERTY, '')

    def disks(self) -> list[creation_lib.Disk]:
        """Return the disks.

        :raises ImageConflict: an image has no data.
        """
        return [
            creation_lib.Disk(
                device,
                image.id,
                image.disk_format or 'unknown',
                image_download.require_data(image),
            )
            for image, device in zip(self.images, self.devices, strict=True)
        ]

    def download(
        self,
        images: image_api.ImageService,
        files: Sequence[BinaryIO],
        progress: progress_lib.Progress,
    ) -> None:
        """Write the data of each image into its file."""
        parts = progress_lib.parts(progress, [d.size for d in self.disks()])
        for image, file, part in zip(self.images, files, parts, strict=True):
            image_download.write(images, image, file, part)


def source(images: image_api.ImageService, image: image_api.Image) -> Source:
    """Return the images of all disks, if an image is one of a set.

    :raises ImageConflict: an image of the set is missing.
    """
    if not image_set_members.claims(image):
        return Source([image], [None])
    find = image_set_members.in_service(images)
    members = image_set_members.of_image(find, image)
    if members is None or not members.is_complete:
        raise exception.ImageConflict(
            image_id=image.id,
            reason='it is of several disks, and not all of them are there.',
        )
    found = members.existing
    return Source(list(found.values()), list(found))


def boot(
    manager: manager_lib.SnapshotManager,
    driver: driver_lib.ComputeDriver,
    images: image_api.ImageService,
    chosen: Source,
    name: str,
    wanted: creation_lib.Wanted,
    progress: progress_lib.Progress,
) -> instance_lib.Instance:
    """Make an instance of images; if that fails, nothing of it is left.

    :raises NovaSnapError: as the driver and the image service do.
    """
    instance = instance_lib.Instance(str(uuid.uuid4()), name)
    with manager.begun(instance, progress, images) as operation:
        new = driver.creation(instance, wanted)
        with new.files(operation.entry) as files:
            chosen.download(images, files, progress)
            new.finish(operation.entry)
    return instance
