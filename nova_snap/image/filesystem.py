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


"""The image service that stores images in a directory of this host.

It is the default where no Glance is configured.  Each image is two files: its
record ``<id>.json``, in the schema of Glance's API v2, and its data ``<id>``.

After a crash at any point there is no image, a ``queued`` image, or a whole
image:

* data is written to ``<id>.upload``, synced to disk, and renamed; only then
  does the record say ``active``;
* a record is written to ``<id>.json.tmp``, synced to disk, and renamed;
* the record of an image that is deleted is renamed to ``<id>.json.deleted``,
  which goes after the data;
* a process that writes data holds a lock on the file, so the next process can
  tell a file that was left behind, which it removes, from one that is still
  being written.

Nothing is removed but files that belong to a record of this service, and the
directory has to be its own (``store_folder.py``): Glance's file store names
its images as this one does.

Records change only under a lock on the directory, so any number of processes
may use it.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import datetime
import errno
import fcntl
import json
import math
import os
import pathlib
import stat
from typing import Any
from typing import BinaryIO
from typing import Self
import uuid

from oslo_config import cfg
from oslo_log import log as logging

from nova_snap import concurrency
from nova_snap import durable
from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap import sparse_file
from nova_snap.image import api
from nova_snap.image import schema
from nova_snap.image import store_folder
from nova_snap.image import upload_data

LOG = logging.getLogger(__name__)

_RECORD = '.json'
_TEMPORARY = '.json.tmp'
_DELETED = '.json.deleted'
_UPLOAD = '.upload'

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_PERMISSION = (errno.EACCES, errno.EPERM, errno.EROFS)


class FilesystemImageService(api.LocalImageService):
    """Images in ``directory``, which is made when it is first needed.

    A directory with files of others in it is refused
    (InvalidConfiguration).  Errors of the file system are ImageNotPermitted
    where this user may not write there, ImageTooLarge where it is full, and
    otherwise ImageServiceUnavailable.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = pathlib.Path(directory)
        self._tidied = False

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> Self:
        """Make the service for [snapshot] filesystem_store_datadir."""
        return cls(
            conf.snapshot.filesystem_store_datadir
            or os.path.join(conf.state_path, 'images')
        )

    def create(self, record: api.Image) -> api.Image:
        self._check(record)
        now = _now()
        image = dataclasses.replace(
            record,
            status=api.ImageStatus.QUEUED,
            created_at=now,
            updated_at=now,
            size=None,
            hash_algorithm=None,
            hash_value=None,
        )
        with self._translated(record.id), self._locked():
            if any(
                os.path.lexists(self._path(record.id, suffix))
                for suffix in ('', _RECORD)
            ):
                raise exception.ImageConflict(
                    image_id=record.id, reason='an image has this ID already.'
                )
            self._write(image)
        return image

    def get(self, image_id: str) -> api.Image:
        with self._translated(image_id):
            self._tidy_once()
            return self._read(image_id)

    def list(self, **filters: str) -> Iterator[api.Image]:
        with self._translated('*'):
            self._tidy_once()
            images = [
                image
                for path in self._directory.glob(f'*{_RECORD}')
                if (image := self._read_if_sound(path.stem)) is not None
            ]
        images.sort(
            key=lambda image: (
                image.created_at or '',
                self._sent_at(image.id),
            ),
            reverse=True,
        )
        return (image for image in images if _matches(image, filters))

    def _sent_at(self, image_id: str) -> float:
        """Return when an image got its data: an order within a second."""
        try:
            return self._path(image_id).stat().st_mtime_ns
        except FileNotFoundError:
            return math.inf

    def update(self, image_id: str, **changes: Any) -> api.Image:
        if refused := sorted(changes.keys() - schema.WRITABLE):
            raise exception.ImageRejected(
                image_id=image_id,
                reason=f'{", ".join(refused)} cannot be changed.',
            )
        with self._translated(image_id), self._locked():
            old = self._read(image_id)
            merged = {**old.properties, **changes.pop('properties', {})}
            properties = {k: v for k, v in merged.items() if v is not None}
            image = dataclasses.replace(
                old, **changes, properties=properties, updated_at=_now()
            )
            self._check(image)
            self._write(image)
        return image

    def upload(
        self,
        image_id: str,
        data: BinaryIO,
        size: int | None,
        progress: progress_lib.Progress,
        at_end: api.AtEnd = api.no_call,
    ) -> api.Image:
        incoming = upload_data.UploadData(data, size, progress, at_end)
        # The file is closed inside _translated, since closing fails, too, on
        # a full disk.
        with (
            self._translated(image_id),
            self._upload_file(image_id) as file,
        ):
            writer = sparse_file.SparseWriter(file)
            while chunk := incoming.read():
                writer.write(chunk)
            writer.finish()
            concurrency.run_blocking(os.fsync, file.fileno())
            return self._activate(image_id, incoming)

    def opened(self, image_id: str) -> BinaryIO | None:
        with self._translated(image_id):
            if self.get(image_id).status != api.ImageStatus.ACTIVE:
                return None
            try:
                return open(self._path(image_id), 'rb')
            except FileNotFoundError:
                # Deleted meanwhile, or else the directory has lost it.
                raise exception.ImageNotFound(image_id=image_id) from None

    def delete(self, image_id: str) -> None:
        if not _is_uuid(image_id):
            return
        with self._translated(image_id), self._locked():
            try:
                os.replace(
                    self._path(image_id, _RECORD),
                    self._path(image_id, _DELETED),
                )
            except FileNotFoundError:
                return  # data without a record would not be ours
            durable.sync_directory(self._directory)
            self._remove_deleted(image_id)

    def _remove_deleted(self, image_id: str) -> None:
        """Remove what is left of an image whose record says "deleted"."""
        self._path(image_id).unlink(missing_ok=True)
        upload = self._path(image_id, _UPLOAD)
        if not _is_in_use(upload):
            upload.unlink(missing_ok=True)
        self._path(image_id, _DELETED).unlink()

    # Records ----------------------------------------------------------------

    def _path(self, image_id: str, suffix: str = '') -> pathlib.Path:
        """Return the path of a file of an image.

        The id has to be a uuid, so the path can't lead out of the directory.

        :raises ImageNotFound: the id is no uuid, so there is no such image.
        """
        if not _is_uuid(image_id):
            raise exception.ImageNotFound(image_id=image_id)
        return self._directory / f'{image_id}{suffix}'

    def _read(self, image_id: str) -> api.Image:
        image = self._read_if_there(image_id)
        if image is None:
            raise exception.ImageNotFound(image_id=image_id)
        return image

    def _read_if_there(self, image_id: str) -> api.Image | None:
        path = self._path(image_id, _RECORD)
        try:
            image = _parsed(path)
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError) as error:
            raise exception.ImageServiceUnavailable(
                endpoint=self._directory,
                reason=f'{path} is damaged ({error}); restore or remove it.',
            ) from error
        queued = image.status == api.ImageStatus.QUEUED
        if queued and _is_in_use(self._path(image_id, _UPLOAD)):
            return dataclasses.replace(image, status=api.ImageStatus.SAVING)
        return image

    def _read_if_sound(self, image_id: str) -> api.Image | None:
        """Read a record; return None for what is none, or is unreadable."""
        if not _is_uuid(image_id):
            return None
        try:
            return self._read_if_there(image_id)
        except (OSError, exception.ImageServiceUnavailable) as error:
            LOG.warning('Image %s is not listed: %s', image_id, error)
            return None

    def _write(self, image: api.Image) -> None:
        """Write the record to disk; the directory has to be locked."""
        temporary = self._path(image.id, _TEMPORARY)
        fields = schema.to_fields(image) | {
            'tags': [],
            'file': f'/v2/images/{image.id}/file',
            'schema': '/v2/schemas/image',
        }
        try:
            with open(temporary, 'w', encoding='utf-8') as file:
                json.dump(fields, file, indent=2, sort_keys=True)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._path(image.id, _RECORD))
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        durable.sync_directory(self._directory)

    @staticmethod
    def _check(image: api.Image) -> None:
        try:
            if not _is_uuid(image.id):
                raise ValueError('its ID is no UUID.')
            schema.check(image)
        except ValueError as error:
            raise exception.ImageRejected(
                image_id=image.id, reason=str(error)
            ) from error

    # Data -------------------------------------------------------------------

    @contextlib.contextmanager
    def _upload_file(self, image_id: str) -> Iterator[BinaryIO]:
        """Open and lock a file for the data of a queued image.

        The file is removed at the end, unless :meth:`_activate` has renamed
        it.
        """
        path = self._path(image_id, _UPLOAD)
        with self._locked():
            file = self._open_upload(image_id, path)
        with file:
            try:
                yield file
            finally:
                path.unlink(missing_ok=True)

    def _open_upload(self, image_id: str, path: pathlib.Path) -> BinaryIO:
        """Open and lock the file; the caller holds the directory's lock."""
        status = self._read(image_id).status
        if status != api.ImageStatus.QUEUED:
            raise exception.ImageConflict(
                image_id=image_id,
                reason=f'it is {status} and takes no data.',
            )
        path.unlink(missing_ok=True)
        file = open(path, 'xb')  # noqa: SIM115
        fcntl.flock(file, fcntl.LOCK_EX)
        return file

    def _activate(
        self, image_id: str, incoming: upload_data.UploadData
    ) -> api.Image:
        """Make the image active, unless its record was deleted meanwhile."""
        with self._locked():
            image = dataclasses.replace(
                self._read(image_id),
                status=api.ImageStatus.ACTIVE,
                size=incoming.done,
                hash_algorithm=upload_data.ALGORITHM,
                hash_value=incoming.digest(),
                updated_at=_now(),
            )
            data = self._path(image_id)
            os.replace(self._path(image_id, _UPLOAD), data)
            try:
                durable.sync_directory(self._directory)
                self._write(image)
            except OSError:
                data.unlink()
                raise
        return image

    # The directory ----------------------------------------------------------

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep every other process and thread from changing records."""
        self._tidy_once()
        with self._lock():
            yield

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        handle = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _tidy_once(self) -> None:
        """Make the directory and remove left-over files, at the first use."""
        if self._tidied:
            return
        store_folder.make(self._directory)
        with self._lock():
            store_folder.require_own(self._directory, self._is_own)
            for path in list(self._directory.iterdir()):
                self._tidy(path)
        self._tidied = True

    def _is_own(self, path: pathlib.Path) -> bool:
        """Return True if only this service makes files like this one."""
        image_id, _dot, suffix = path.name.partition('.')
        if not _is_uuid(image_id) or not _is_regular(path):
            return False
        if f'.{suffix}' == _RECORD:
            return self._read_if_sound(image_id) is not None
        return f'.{suffix}' in (_TEMPORARY, _DELETED, _UPLOAD)

    def _tidy(self, path: pathlib.Path) -> None:
        """Remove a file if it belongs to an image that is gone or not begun.

        Names that are not ours are left alone, and so is data that no record
        of ours names.
        """
        image_id, _dot, suffix = path.name.partition('.')
        if not _is_uuid(image_id) or not _is_regular(path):
            return
        suffix = f'.{suffix}' if suffix else ''
        if suffix == _DELETED:
            self._remove_deleted(image_id)
        elif (
            suffix == _TEMPORARY
            or (suffix == _UPLOAD and not _is_in_use(path))
            or (suffix == '' and self._is_queued(image_id))
        ):
            path.unlink()

    def _is_queued(self, image_id: str) -> bool:
        image = self._read_if_sound(image_id)
        return image is not None and image.status == api.ImageStatus.QUEUED

    @contextlib.contextmanager
    def _translated(self, image_id: str) -> Iterator[None]:
        """Turn errors of the file system into this project's."""
        try:
            yield
        except OSError as error:
            raise self._translate(image_id, error) from error

    def _translate(
        self, image_id: str, error: OSError
    ) -> exception.NovaSnapError:
        if error.errno in _NO_SPACE:
            return exception.ImageTooLarge(
                image_id=image_id,
                reason=f'{self._directory}: {error.strerror}; make room there',
            )
        if error.errno in _NO_PERMISSION:
            return exception.ImageNotPermitted(
                reason=f'{error}; use an account that may write to '
                f'{self._directory}, or set [snapshot] '
                f'filesystem_store_datadir to another directory.'
            )
        return exception.ImageServiceUnavailable(
            endpoint=self._directory, reason=str(error)
        )


def _is_uuid(text: str) -> bool:
    """Return True if the text is a uuid as Glance writes it."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _parsed(path: pathlib.Path) -> api.Image:
    """Read a record.

    :raises ValueError: the file is no record of the image in its name.
    :raises RecursionError: its lists are nested too deeply.
    """
    # A FIFO of this name would keep whoever opens it waiting.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError('no regular file')
        with open(descriptor, 'rb', closefd=False) as file:
            fields = json.loads(file.read())
    finally:
        os.close(descriptor)
    try:
        image = schema.from_fields(fields)
    except (TypeError, AttributeError) as error:
        raise ValueError(str(error)) from error
    texts = (image.name, image.status, image.created_at or '')
    if image.id != path.stem or not all(isinstance(t, str) for t in texts):
        raise ValueError('no record of this image')
    return image


def _is_regular(path: pathlib.Path) -> bool:
    """Return True for a file, unless it is a link or gone meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        return stat.S_ISREG(path.lstat().st_mode)
    return False


def _is_in_use(path: pathlib.Path) -> bool:
    """Return True if a process holds the lock on this file."""
    with contextlib.suppress(FileNotFoundError), open(path, 'rb') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _matches(image: api.Image, filters: dict[str, str]) -> bool:
    fields = schema.to_fields(image)
    return all(str(fields.get(key)) == want for key, want in filters.items())


def _now() -> str:
    """Return the current time as Glance writes it."""
    return datetime.datetime.now(datetime.UTC).strftime('%Y-%m-%dT%H:%M:%SZ')
