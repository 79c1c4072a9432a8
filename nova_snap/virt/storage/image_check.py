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

"""Inspection of an image that came from outside, before it becomes a disk.

The format is always named by the caller, never probed.  QEMU opens the file
only after oslo.utils, which is plain Python, has found nothing against it.
"""

import pathlib

from oslo_utils import units

from nova_snap import exception
from nova_snap.virt.storage import disk_source as storage
from nova_snap.virt.storage import qemu_img
from nova_snap.virt.storage import raw_content

#: Formats of disks of guests here.
FORMATS = ('qcow2', 'raw')

#: Bytes at the beginning of a raw disk that are looked at.
_BEGINNING = 256 * units.Ki


def virtual_size(
    path: pathlib.Path, image_format: str, image: str, limit: int
) -> int:
    """Return the bytes of the disk in an image, if a guest may have it.

    :param image: a name for messages.
    :param limit: of the virtual size, in bytes.
    :raises UnsafeImage: it is of another format, refers to other files, is
        encrypted or is too large.
    :raises OSError: it can't be read.
    """
    require_format(image_format, image)
    check = _qcow2 if image_format == 'qcow2' else _raw
    size = check(path, image)
    if not size:
        raise exception.UnsafeImage(image=image, reason='its disk is empty.')
    if size > limit:
        raise exception.UnsafeImage(
            image=image,
            reason=f'its disk has {-(-size // units.Gi)} GiB; [snapshot] '
            f'max_image_disk_gb allows {limit // units.Gi}.',
        )
    return size


def require_format(image_format: str, image: str) -> None:
    """Raise UnsafeImage if images of a format become no disks.

    :param image: a name for messages.
    """
    if image_format not in FORMATS:
        raise exception.UnsafeImage(
            image=image,
            reason=f'its format is {image_format}, and not one of '
            f'{", ".join(FORMATS)}.',
        )


def _raw(path: pathlib.Path, image: str) -> int:
    with path.open('rb') as file:
        beginning = file.read(_BEGINNING)
    try:
        raw_content.require(beginning)
    except raw_content.NotRaw as error:
        raise exception.UnsafeImage(image=image, reason=str(error)) from error
    return path.stat().st_size


def _qcow2(path: pathlib.Path, image: str) -> int:
    # It takes a tenth of a second, and most commands need no inspector.
    from oslo_utils.imageutils import format_inspector

    try:
        found = format_inspector.detect_file_format(str(path))
        if found is None or str(found) != 'qcow2':
            raise exception.UnsafeImage(
                image=image, reason=f'it is not qcow2, but {found}.'
            )
        found.safety_check()
        source = storage.DiskSource('file', 'qcow2', str(path))
        header = qemu_img.info(source)
    except (
        format_inspector.ImageFormatError,
        format_inspector.SafetyCheckFailed,
        exception.UnsafeDisk,
        exception.ProgramFailed,
    ) as error:
        raise exception.UnsafeImage(image=image, reason=str(error)) from error
    if header.backing_file is not None or header.is_encrypted:
        raise exception.UnsafeImage(
            image=image, reason='it has a backing file, or is encrypted.'
        )
    return header.virtual_size
