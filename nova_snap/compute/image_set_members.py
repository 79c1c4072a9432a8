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


"""The images of a set, as they are found in an image service.

Anybody may write the properties of a set into an image of his own, and copies
of an image have those of the original.  Open this file to change which images
belong to a set, and when a set is complete.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
import re

from oslo_utils import uuidutils

from nova_snap import exception
from nova_snap.compute import image_set
from nova_snap.image import api as image_api

#: Disks of a set, at most: the image service is asked for each.
MAX_DISKS = 256

#: Shown for the images of a set that is not complete.
INCOMPLETE = 'incomplete'

#: Target names of disks, as libvirt has them: a script may read the output.
_DEVICE = re.compile('[a-zA-Z0-9_]+')

#: Finds an image by its ID; None if there is none.
Find = Callable[[str], image_api.Image | None]


@dataclasses.dataclass(frozen=True)
class Members:
    """The images of a set that exist.

    :ivar root: that of the root disk.
    :ivar by_device: those of all disks, the root disk first, by the target
        names of the disks; None where there is none.
    """

    root: image_api.Image
    by_device: Mapping[str, image_api.Image | None]

    @property
    def is_complete(self) -> bool:
        """True if there is an active image of each disk."""
        return all(map(_is_active, self.by_device.values()))

    @property
    def existing(self) -> dict[str, image_api.Image]:
        """The images that exist, by device."""
        return {
            device: image
            for device, image in self.by_device.items()
            if image is not None
        }


def claims(image: image_api.Image) -> bool:
    """Return True if the properties of an image say that it is of a set."""
    return image_set.SET in image.properties


def of_image(find: Find, image: image_api.Image) -> Members | None:
    """Return the set that an image belongs to; None if it belongs to none.

    A set without the image of its root disk is none.
    """
    root = _root(find, image)
    if root is None:
        return None
    first, *further = _devices(root)
    found: dict[str, image_api.Image | None] = {first: root}
    for device in further:
        member = find(image_set.member_id(root.id, device))
        is_member = member is not None and _belongs(member, root, device)
        found[device] = member if is_member else None
    if image.id not in (one.id for one in found.values() if one is not None):
        return None
    return Members(root, found)


def in_service(images: image_api.ImageService) -> Find:
    """Return a function that asks an image service for images."""

    def find(image_id: str) -> image_api.Image | None:
        with contextlib.suppress(exception.ImageNotFound):
            return images.get(image_id)
        return None

    return find


def _root(find: Find, image: image_api.Image) -> image_api.Image | None:
    """Return the image of the root disk, if it may be of the image's set."""
    root_id = image.properties.get(image_set.SET, '')
    if not uuidutils.is_uuid_like(root_id):
        return None
    root = image if root_id == image.id else find(root_id)
    if root is None or root.properties.get(image_set.SET) != root.id:
        return None
    devices = _devices(root)
    if not 1 < len(devices) <= MAX_DISKS:
        return None
    if not all(map(_DEVICE.fullmatch, devices)):
        return None
    return root if _belongs(root, root, devices[0]) else None


def _devices(root: image_api.Image) -> list[str]:
    text = root.properties.get(image_set.DISKS, '')
    return list(dict.fromkeys(text.split(',')))


def _belongs(
    image: image_api.Image, root: image_api.Image, device: str
) -> bool:
    """Return True if an image is the one of a disk, and nobody else's."""
    expected = {
        image_set.SET: root.id,
        image_set.DEVICE: device,
        image_set.DISKS: root.properties[image_set.DISKS],
    }
    return (
        image.owner == root.owner
        and expected.items() <= image.properties.items()
        and not image_api.ImageStatus.is_gone(image.status)
    )


def _is_active(image: image_api.Image | None) -> bool:
    return image is not None and image.status == image_api.ImageStatus.ACTIVE


def labelled(
    images: Iterator[image_api.Image],
) -> Iterator[tuple[image_api.Image, str]]:
    """Yield each image of a list with the ID of its set.

    It is INCOMPLETE if there are not active images of all disks in the list,
    and empty if the image belongs to no set.
    """
    by_id = {image.id: image for image in images}
    for image in by_id.values():
        found = of_image(by_id.get, image) if claims(image) else None
        if found is None:
            yield image, ''
        else:
            yield image, found.root.id if found.is_complete else INCOMPLETE
