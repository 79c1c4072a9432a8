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

"""Images from files, and files from images."""

from collections.abc import Mapping
import pathlib
import stat
import uuid

from oslo_utils import units

from nova_snap import durable
from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap.compute import image_download
from nova_snap.compute import image_record
from nova_snap.compute import image_set
from nova_snap.compute import image_upload
from nova_snap.compute import manager as manager_lib
from nova_snap.image import api as image_api
from nova_snap.objects import instance as instance_lib
from nova_snap.virt import driver as driver_lib
from nova_snap.virt.storage import image_check


def save(
    images: image_api.ImageService,
    image: image_api.Image,
    path: pathlib.Path,
    progress: progress_lib.Progress,
) -> None:
    """Write the data of an image to a new file, which appears when whole.

    :raises Conflict: a file has that name.
    :raises DownloadCorrupt: the data is not what the record says.
    :raises SnapshotFailed: the file can't be written.
    """
    image_download.require_data(image)
    try:
        if path.is_symlink() or path.exists():
            raise FileExistsError
        with durable.created(path) as file:
            image_download.write(images, image, file, progress)
    except FileExistsError:
        raise exception.Conflict(
            f'{path} exists, and is not replaced.'
        ) from None
    except OSError as error:
        raise exception.SnapshotFailed(
            f'The image could not be written to {path}: {error.strerror}.'
        ) from error


def create(
    manager: manager_lib.SnapshotManager,
    images: image_api.ImageService,
    path: pathlib.Path,
    name: str,
    disk_format: str,
    metadata: Mapping[str, str],
    limit: int,
    progress: progress_lib.Progress,
) -> image_api.Image:
    """Make an image of a file; return its record.

    :param limit: of the virtual size of the disk in it, in bytes.
    :raises UnsafeImage: the file is of another format, or refers to others.
    :raises Invalid: there is no such file, or a name is not accepted.
    """
    image_record.validate(name, metadata)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise exception.Invalid(f'{path} is no regular file.')
        size = image_check.virtual_size(path, disk_format, str(path), limit)
        with path.open('rb') as file:
            data = driver_lib.ImageData(
                file, disk_format, path.stat().st_size, progress
            )
            record = _record(name, disk_format, size, metadata)
            return _stored(manager, images, record, data)
    except OSError as error:
        raise exception.Invalid(
            f'{path} cannot be read: {error.strerror}.'
        ) from error


def _record(
    name: str, disk_format: str, size: int, metadata: Mapping[str, str]
) -> image_api.Image:
    return image_api.Image(
        id=str(uuid.uuid4()),
        name=name,
        status=image_api.ImageStatus.QUEUED,
        disk_format=disk_format,
        container_format='bare',
        visibility='private',
        min_disk=-(-size // units.Gi),
        properties=dict(metadata),
    )


def _stored(
    manager: manager_lib.SnapshotManager,
    images: image_api.ImageService,
    record: image_api.Image,
    data: driver_lib.ImageData,
) -> image_api.Image:
    """Send the data; what is begun is in the journal, as of a snapshot."""
    # There is no server; the frame takes the image's ID for its lock.
    instance = instance_lib.Instance(record.id, record.name)
    with (
        manager.begun(instance, data.progress, images) as operation,
        image_set.created(operation, images, [record]),
    ):
        image_upload.store(
            images, image_upload.Outcome(record.id), data, operation.entry
        )
    return images.get(record.id)
