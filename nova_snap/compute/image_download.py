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

"""Download of an image to a new file, compared with the record.

The data comes from outside.  No more bytes of it are written than the record
says, and a file is not used before its size and hash are those of the record.
"""

import errno
import hashlib
from typing import Any
from typing import BinaryIO

from oslo_log import log as logging

from nova_snap import concurrency
from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap import sparse_file
from nova_snap.image import api as image_api

LOG = logging.getLogger(__name__)


def require_data(image: image_api.Image) -> int:
    """Return the bytes of an image that has data.

    :raises ImageConflict: it has none, as the image of a server that boots
        from a volume, which names snapshots of Cinder.
    """
    if image.status != image_api.ImageStatus.ACTIVE or not image.size:
        raise exception.ImageConflict(
            image_id=image.id, reason=f'it is {image.status}, without data.'
        )
    return image.size


def write(
    images: image_api.ImageService,
    image: image_api.Image,
    file: BinaryIO,
    progress: progress_lib.Progress,
) -> None:
    """Write the data of an image to a new file, with holes for zeros.

    :param image: the record, as it was when the image was chosen.
    :raises DownloadCorrupt: the data has another size or hash.
    :raises SnapshotFailed: the file can't be written.
    """
    size, done = require_data(image), 0
    digest = _new_hash(image)
    writer = sparse_file.SparseWriter(file)
    for chunk in images.data(image.id):
        done += len(chunk)
        if done > size:
            raise _corrupt(image, 'the size', f'at least {done}', size)
        concurrency.run_blocking(_take, chunk, digest, writer)
        progress.report(progress_lib.Stage.DOWNLOADING, done, size)
    _write(writer, b'')
    if done != size:
        raise _corrupt(image, 'the size', done, size)
    if digest is not None and digest.hexdigest() != image.hash_value:
        what = f'the {image.hash_algorithm} hash'
        raise _corrupt(image, what, digest.hexdigest(), image.hash_value)


def _new_hash(image: image_api.Image) -> Any:
    """Return an object for the hash of the record, None if it has none."""
    algorithm = image.hash_algorithm or ''
    if image.hash_value and algorithm in hashlib.algorithms_available:
        found = hashlib.new(algorithm, usedforsecurity=False)
        if found.digest_size:  # others have digests of any length
            return found
    LOG.warning(
        'Of image %(image)s only the size is compared: its hash is '
        '%(algorithm)s, which cannot be computed here.',
        {'image': image.id, 'algorithm': algorithm or 'missing'},
    )
    return None


def _take(chunk: bytes, digest: Any, writer: sparse_file.SparseWriter) -> None:
    """Hash and write bytes, which keeps a processor or a disk busy."""
    if digest is not None:
        digest.update(chunk)
    _write(writer, chunk)


def _write(writer: sparse_file.SparseWriter, chunk: bytes) -> None:
    """Write bytes; none finish the file."""
    try:
        writer.write(chunk) if chunk else writer.finish()
    except OSError as error:
        advice = '; make room there' if error.errno == errno.ENOSPC else ''
        raise exception.SnapshotFailed(
            f'The image could not be written: {error.strerror}{advice}.'
        ) from error


def _corrupt(
    image: image_api.Image, what: str, found: object, expected: object
) -> exception.DownloadCorrupt:
    return exception.DownloadCorrupt(
        image_id=image.id, what=what, found=found, expected=expected
    )
