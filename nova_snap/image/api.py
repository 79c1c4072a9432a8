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

"""The interface of image services, and the choice of the configured one.

Open this file to write another adapter; ``glance.py`` and ``filesystem.py``
are the two that come with the project.  An adapter is an entry point of the
group ``nova_snap.image_services``: a function that takes the configuration
and returns an :class:`ImageService`.
"""

import abc
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import enum
from typing import Any
from typing import BinaryIO

from oslo_config import cfg
from oslo_utils import uuidutils
import stevedore
import stevedore.exception

from nova_snap import exception
from nova_snap import progress as progress_lib

#: Bytes of an image that are read at a time.
CHUNK = 256 * 1024

NAMESPACE = 'nova_snap.image_services'


class ImageStatus(enum.StrEnum):
    """A status of an image in Glance; only those that this project uses.

    https://docs.openstack.org/glance/latest/user/statuses.html
    """

    QUEUED = 'queued'
    SAVING = 'saving'
    IMPORTING = 'importing'
    ACTIVE = 'active'
    DELETED = 'deleted'
    PENDING_DELETE = 'pending_delete'
    KILLED = 'killed'

    @classmethod
    def is_gone(cls, status: str) -> bool:
        """Return True if an image of this status can never become active."""
        return status in (cls.DELETED, cls.PENDING_DELETE, cls.KILLED)


@dataclasses.dataclass(frozen=True)
class Image:
    """An image record as the image service has it.

    ``size`` (bytes) is None until the data is there.  ``properties`` holds
    every property that has no field of its own; values are strings, as in
    Glance.  ``hash_algorithm`` and ``hash_value`` are Glance's os_hash_algo
    and os_hash_value.  A ``protected`` image can't be deleted.
    """

    id: str
    name: str
    status: str
    disk_format: str | None = None
    container_format: str | None = None
    visibility: str = 'private'
    size: int | None = None
    min_disk: int = 0
    min_ram: int = 0
    owner: str | None = None
    created_at: str | None = None
    updated_at: str | None = None
    hash_algorithm: str | None = None
    hash_value: str | None = None
    protected: bool = False
    properties: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Sent:
    """The size of data that was sent, in bytes, and its hash."""

    size: int
    algorithm: str
    digest: str

    def is_in(self, image: Image) -> bool:
        """Return True if an image is known to have this size and hash."""
        found = (image.size, image.hash_algorithm, image.hash_value)
        return found == (self.size, self.algorithm, self.digest)


#: Called with what was sent; an error that it raises ends the upload.
AtEnd = Callable[[Sent], None]


def no_call(_sent: Sent) -> None:
    """Do nothing at the end of the data."""


class ImageService(abc.ABC):
    """A service that stores images.

    Every method raises, besides the errors that it names:

    * :class:`~nova_snap.exception.ImageNotFound`: the image does not exist,
      or is deleted;
    * :class:`~nova_snap.exception.ImageNotPermitted`: not logged in, or not
      allowed;
    * :class:`~nova_snap.exception.ImageServiceUnavailable`: no answer, after
      the configured number of retries.
    """

    @abc.abstractmethod
    def create(self, record: Image) -> Image:
        """Make the record in status ``queued``, with the id that it has.

        The caller chooses the id, so that it is in the journal before the
        record exists.

        :raises ImageConflict: the id is taken.
        :raises ImageRejected: a value is not accepted.
        :raises ImageTooLarge: a quota is used up.
        """

    @abc.abstractmethod
    def get(self, image_id: str) -> Image:
        """Return the record as it is now."""

    @abc.abstractmethod
    def list(self, **filters: str) -> Iterator[Image]:
        """Return the images that this user may see, the newest first.

        :param filters: names of fields and the values that they must have.
        """

    @abc.abstractmethod
    def update(self, image_id: str, **changes: Any) -> Image:
        """Change fields of a record; given properties are added to its own.

        A property whose value is None is removed.
        """

    def as_user(
        self, access: Any, shared_with: str | None = None
    ) -> 'ImageService':
        """Return the service with a user's token in place of its login.

        A service that knows no users returns itself.

        :param access: what Keystone knows of the token (AccessInfo).
        :param shared_with: the project that the images which the user makes
            are shared with; None: only the user's own has them.
        """
        return self

    def may_hide(self, owner: str | None) -> bool:
        """Return True if images of a project may be hidden from this login.

        :param owner: the project; None if it is not known.
        """
        return False

    def set_location(self, image_id: str, url: str) -> None:
        """Make an image of data that the image service can reach by a URL.

        :raises MethodUnavailable: the service supports no locations.
        """
        raise exception.MethodUnavailable(
            method='adding a location',
            reason='this image service supports no locations.',
        )

    def prepare(self, image_id: str) -> None:
        """Begin what comes before an upload, so that its data can be made.

        Errors are raised by the upload.
        """
        return

    @abc.abstractmethod
    def upload(
        self,
        image_id: str,
        data: BinaryIO,
        size: int | None,
        progress: progress_lib.Progress,
        at_end: AtEnd = no_call,
    ) -> Image:
        """Send the data and return the record, which is then ``active``.

        The adapter compares size and hash of the stored data with those of
        the sent data, and reports Stage.UPLOADING.  It logs a warning where
        only the sizes can be compared.

        :param data: read once from its start; a seekable file may be read
            again after a transient error.
        :param size: in bytes, if known before the first is read.
        :param at_end: called when all data was read, and before the image can
            become active.
        :raises ImageCorrupt: the comparison failed.
        :raises ImageConflict: the image is in no status to take data.
        :raises ImageTooLarge: the image is larger than a limit or quota.
        :raises ImageRejected: the content is not accepted.
        :raises SnapshotCancelled: the snapshot was cancelled.
        """

    def data(self, image_id: str) -> Iterator[bytes]:
        """Yield the data of an active image, from its start to its end.

        The caller compares it with the record.

        :raises Invalid: this service gives no data back.
        """
        raise exception.Invalid('This image service gives no data back.')

    @abc.abstractmethod
    def delete(self, image_id: str) -> None:
        """Delete the record and the data, if they still exist."""


class LocalImageService(ImageService):
    """An image service whose data lies on this host."""

    @abc.abstractmethod
    def opened(self, image_id: str) -> BinaryIO | None:
        """Open the data of an image; return None if there is none yet.

        What is open can be read to its end, even if the image is deleted
        meanwhile.
        """

    def data(self, image_id: str) -> Iterator[bytes]:
        file = self.opened(image_id)
        if file is None:
            raise exception.ImageConflict(
                image_id=image_id, reason='it has no data yet.'
            )
        with file:
            while chunk := file.read(CHUNK):
                yield chunk


def find(images: ImageService, image: str) -> Image:
    """Return the image with this id or name.

    :raises ImageNotFound: there is none.
    :raises ImageAmbiguous: several have the name.
    """
    if uuidutils.is_uuid_like(image):
        return images.get(image)
    found = list(images.list(name=image))
    if not found:
        raise exception.ImageNotFound(image_id=repr(image))
    if len(found) > 1:
        raise exception.ImageAmbiguous(
            name=image, ids=', '.join(sorted(i.id for i in found))
        )
    return found[0]


def from_conf(conf: cfg.ConfigOpts) -> ImageService:
    """Make the image service that ``[snapshot] image_service`` names.

    :raises InvalidConfiguration: there is no such adapter, or its options
        are not complete.
    """
    name = conf.snapshot.image_service
    try:
        manager: Any = stevedore.DriverManager(NAMESPACE, name)
    except stevedore.exception.NoMatches:
        raise exception.InvalidConfiguration(
            option='[snapshot] image_service',
            reason=f'there is no image service {name!r}.',
        ) from None
    service: ImageService = manager.driver(conf)
    return service
