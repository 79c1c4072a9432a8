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

"""What an image service offers: the interface of all adapters.

Open this file to write another adapter; ``glance.py`` and ``filesystem.py``
are the two that come with the project.  Adapters are found by the entry
points of the group ``nova_snap.image_services`` and made by a function that
takes the configuration and returns an :class:`ImageService`.
"""

import abc
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

NAMESPACE = 'nova_snap.image_services'


class ImageStatus(enum.StrEnum):
    """Glance's states of an image, those that matter here.

    https://docs.openstack.org/glance/latest/user/statuses.html
    """

    QUEUED = 'queued'
    SAVING = 'saving'
    ACTIVE = 'active'
    DELETED = 'deleted'
    PENDING_DELETE = 'pending_delete'
    KILLED = 'killed'

    @classmethod
    def is_gone(cls, status: str) -> bool:
        """Whether an image of this status can never become active."""
        return status in (cls.DELETED, cls.PENDING_DELETE, cls.KILLED)


@dataclasses.dataclass(frozen=True)
class Image:
    """An image record as the image service has it.

    ``size`` (bytes) is None until the data is there.  ``properties`` holds
    every property that has no field of its own; values are strings, as in
    Glance.  ``hash_algorithm`` and ``hash_value`` are Glance's os_hash_algo
    and os_hash_value.
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
    properties: Mapping[str, str] = dataclasses.field(default_factory=dict)


class ImageService(abc.ABC):
    """A place where images are kept.

    Every method raises, besides what it names:

    * :class:`~nova_snap.exception.ImageNotFound`: no such image, or it is
      deleted;
    * :class:`~nova_snap.exception.ImageNotPermitted`: not logged in, or not
      allowed;
    * :class:`~nova_snap.exception.ImageServiceUnavailable`: no answer, after
      as many tries as the adapter is configured for.
    """

    @abc.abstractmethod
    def create(self, record: Image) -> Image:
        """Make the record, in status ``queued``, under the id it has.

        The caller chooses the id, so that it is in the journal before the
        record exists.

        :raises ImageConflict: the id is taken.
        :raises ImageRejected: a value is not accepted.
        :raises ImageTooLarge: a quota is used up.
        """

    @abc.abstractmethod
    def get(self, image_id: str) -> Image:
        """The record as it is now."""

    @abc.abstractmethod
    def list(self, **filters: str) -> Iterator[Image]:
        """The images that this user may see; filters are equalities."""

    @abc.abstractmethod
    def update(self, image_id: str, **changes: Any) -> Image:
        """Change fields of :class:`Image`, ``properties`` by addition."""

    def set_location(self, image_id: str, url: str) -> None:
        """Make an image of bytes that are where the image service has access.

        :raises MethodUnavailable: the service takes no locations.
        """
        raise exception.MethodUnavailable(
            method='adding a location',
            reason='this image service supports no locations.',
        )

    @abc.abstractmethod
    def upload(
        self,
        image_id: str,
        data: BinaryIO,
        size: int | None,
        progress: progress_lib.Progress,
    ) -> Image:
        """Send the data and return the record, which is then ``active``.

        What the service says it received is compared with what was sent,
        by size and by hash; the adapter reports Stage.UPLOADING.

        :param data: read once from its start; where it is seekable it may
            be read again after a passing failure.
        :param size: bytes, where known before the first is read.
        :raises ImageCorrupt: the comparison failed.
        :raises ImageConflict: the image is in no state to take data.
        :raises ImageTooLarge: larger than a limit or quota.
        :raises ImageRejected: the content is not accepted.
        :raises SnapshotCancelled: somebody cancelled it.
        """

    @abc.abstractmethod
    def delete(self, image_id: str) -> None:
        """Delete the record and the data; an image that is gone is fine."""


def find(images: ImageService, image: str) -> Image:
    """The image with this id or name.

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
    """The image service that ``[snapshot] image_service`` names.

    :raises InvalidConfiguration: there is no such adapter, or what it needs
        is not configured.
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
