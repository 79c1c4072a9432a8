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


"""Deletion of all images of a set.

Open this file when an image is left that should be deleted, or is deleted
though it should stay.
"""

from collections.abc import Iterator
import dataclasses

from nova_snap import exception
from nova_snap.compute import image_deletion
from nova_snap.compute import image_set_members
from nova_snap.image import api as image_api
from nova_snap.volume import api as volume_api


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Result of deleting one thing, as a person reads it.

    :ivar kind: such as "image vdb".
    :ivar stays: True if it still exists, or may still exist.
    """

    kind: str
    id: str
    text: str
    stays: bool = False


def delete(
    images: image_api.ImageService,
    members: image_set_members.Members,
    volumes: volume_api.VolumeService | None = None,
) -> Iterator[Outcome]:
    """Delete the images of a set, that of the root disk last.

    An interrupted deletion leaves a set that is not complete, and that can be
    found and deleted by its root disk's image.  So that one stays while
    another of them stays.

    :param volumes: deletes the snapshots, too, that the root disk's image
        names; None if they stay.
    :raises Conflict: an image is protected; nothing was deleted.
    """
    protected = [i.id for i in members.existing.values() if i.protected]
    if protected:
        raise exception.Conflict(
            f'Protected from deletion: {", ".join(protected)}. No image of '
            'the set was deleted.'
        )
    root_device, *_further = members.by_device
    all_gone = True
    for device, image in members.existing.items():
        if device != root_device:
            outcome = _delete(images, f'image {device}', image.id)
            all_gone = all_gone and not outcome.stays
            yield outcome
    kind = f'image {root_device}'
    if not all_gone:
        reason = 'it stays until the others are deleted'
        yield Outcome(kind, members.root.id, reason, stays=True)
    elif volumes is None:
        yield _delete(images, kind, members.root.id)
    else:
        yield from _with_snapshots(images, volumes, kind, members.root)


def _delete(
    images: image_api.ImageService, kind: str, image_id: str
) -> Outcome:
    try:
        images.delete(image_id)
    except exception.NovaSnapError as error:
        return Outcome(kind, image_id, str(error), stays=True)
    return Outcome(kind, image_id, image_deletion.DELETED)


def _with_snapshots(
    images: image_api.ImageService,
    volumes: volume_api.VolumeService,
    kind: str,
    root: image_api.Image,
) -> Iterator[Outcome]:
    try:
        found = list(image_deletion.delete(images, volumes, root))
    except exception.NovaSnapError as error:
        yield Outcome(kind, root.id, str(error), stays=True)
        return
    yield Outcome(kind, root.id, image_deletion.DELETED)
    for one in found:
        yield Outcome('snapshot', one.snapshot_id, one.text, one.stays)
