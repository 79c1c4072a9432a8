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

"""The upload of an image into its record, and the removal of failed records.

Open this file when a record stays that got no data, or when deleting a record
does not cancel its snapshot.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import threading

from oslo_log import log as logging

from nova_snap import concurrency
from nova_snap import exception
from nova_snap import journal
from nova_snap import progress as progress_lib
from nova_snap import undo
from nova_snap.image import api as image_api
from nova_snap.objects import instance as instance_lib
from nova_snap.virt import driver as driver_lib

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class RemoveRecord(undo.Step, kind='remove the image record'):
    """Remove an image record that got no data."""

    image_id: str

    # A record that is left does not keep the next operation from running.
    is_blocking = False

    def undo(self, resources: undo.Resources) -> None:
        """Delete the record, unless the image is active."""
        images = resources.get(image_api.ImageService)
        try:
            image = images.get(self.image_id)
        except exception.ImageNotFound:
            return
        if image.status != image_api.ImageStatus.ACTIVE:
            images.delete(self.image_id)


@dataclasses.dataclass
class Outcome:
    """What the running process knows of an image that it sends.

    :ivar is_verified: it is what was sent.
    :ivar is_deleted: it was not, and this process has deleted it.
    :ivar size: bytes that were sent; 0 until they are known.
    """

    image_id: str
    size: int = 0
    is_verified: bool = False
    is_deleted: bool = False


@dataclasses.dataclass(frozen=True)
class VerifyImage(undo.Step, kind='verify or delete the image'):
    """Delete an image that may not be what was sent.

    Glance makes an image active before anybody can compare it.

    :ivar others: images that a recovery deletes with it: those of its set.
    :ivar outcome: only the process that sends the data has it.
    """

    image_id: str
    size: int
    algorithm: str
    digest: str
    others: Sequence[str] = ()
    outcome: Outcome | None = dataclasses.field(
        default=None, compare=False, repr=False, metadata=undo.VOLATILE
    )

    is_blocking = False

    def undo(self, resources: undo.Resources) -> None:
        """Delete the image unless it is known to be what was sent."""
        images = resources.get(image_api.ImageService)
        if self.outcome is None:
            self._delete_unless_equal(images)
        elif not self.outcome.is_verified:
            self._delete_unless_gone(images, self.outcome)

    def _delete_unless_gone(
        self, images: image_api.ImageService, outcome: Outcome
    ) -> None:
        try:
            images.get(self.image_id)
        except exception.ImageNotFound:
            # Somebody else has deleted it, which cancels the operation.
            return
        # First, since whoever watches the record must not take it for that.
        outcome.is_deleted = True
        images.delete(self.image_id)

    def _delete_unless_equal(self, images: image_api.ImageService) -> None:
        try:
            image = images.get(self.image_id)
        except exception.ImageNotFound:
            # It may be hidden from this login; somebody may have to look.
            LOG.info(
                'Image %(image)s is not there to be verified. What was sent: '
                '%(size)d bytes, %(algorithm)s %(digest)s.',
                {
                    'image': self.image_id,
                    'size': self.size,
                    'algorithm': self.algorithm,
                    'digest': self.digest,
                },
            )
            return
        sent = image_api.Sent(self.size, self.algorithm, self.digest)
        if not sent.is_in(image):
            LOG.warning(
                'Image %s is deleted, since it is not known to be what an '
                'interrupted snapshot has sent.',
                self.image_id,
            )
            # The last one deleted is the one that this step looks for.
            for image_id in (*self.others, self.image_id):
                images.delete(image_id)


def _nothing() -> None:
    """Do nothing before an image becomes active."""


def store(
    images: image_api.ImageService,
    outcome: Outcome,
    data: driver_lib.ImageData | driver_lib.Location,
    entry: journal.Entry,
    before_active: Callable[[], None] = _nothing,
    others: Sequence[str] = (),
) -> None:
    """Put the data of a disk, or its location, into a record.

    An image that fails to be what was sent is deleted.

    :param outcome: that of the record, from :func:`watched`.
    :param before_active: called before the image can become active; an error
        that it raises keeps it from that.
    :param others: images that are worth nothing without this one.
    :raises NovaSnapError: as the image service does.
    """
    if isinstance(data, driver_lib.Location):
        before_active()
        images.set_location(outcome.image_id, data.url)
    else:
        _upload(images, outcome, data, entry, before_active, others)


def _upload(
    images: image_api.ImageService,
    outcome: Outcome,
    data: driver_lib.ImageData,
    entry: journal.Entry,
    before_active: Callable[[], None],
    others: Sequence[str],
) -> None:
    image_id = outcome.image_id
    with contextlib.ExitStack() as stack:

        def register(sent: image_api.Sent) -> None:
            before_active()
            outcome.size = sent.size
            step = VerifyImage(
                image_id,
                *(sent.size, sent.algorithm, sent.digest),
                others,
                outcome,
            )
            stack.enter_context(entry.undoing(step))

        images.upload(
            image_id, data.stream, data.size, data.progress, register
        )
        outcome.is_verified = True


@contextlib.contextmanager
def watched(
    images: image_api.ImageService,
    image_ids: Sequence[str],
    instance: instance_lib.Instance,
    progress: progress_lib.Progress,
    interval: float,
) -> Iterator[tuple[Outcome, ...]]:
    """Cancel the operation when somebody else deletes one of its records.

    Yield the outcome of each record.

    :param interval: seconds between two checks.
    :raises SnapshotCancelled: somebody has deleted a record.
    """
    ended = threading.Event()
    outcomes = tuple(map(Outcome, image_ids))

    def watch() -> None:
        while not ended.wait(interval):
            # In this order: what is gone may be what this process deletes.
            if any(
                _is_deleted(images, outcome.image_id, instance)
                and not outcome.is_deleted
                for outcome in outcomes
            ):
                progress.cancel('its image was deleted.')
                return

    concurrency.start_thread(f'watch-{image_ids[0]}', watch)
    try:
        yield outcomes
    except (exception.ImageNotFound, exception.ImageConflict) as error:
        if any(outcome.is_deleted for outcome in outcomes) or not any(
            _is_deleted(images, i, instance) for i in image_ids
        ):
            raise
        raise exception.SnapshotCancelled(
            server=instance.uuid, reason='its image was deleted.'
        ) from error
    finally:
        ended.set()


def require_there(
    images: image_api.ImageService,
    image_id: str,
    instance: instance_lib.Instance,
) -> None:
    """Raise ImageNotFound if somebody has deleted an image."""
    if _is_deleted(images, image_id, instance):
        raise exception.ImageNotFound(image_id=image_id)


def _is_deleted(
    images: image_api.ImageService,
    image_id: str,
    instance: instance_lib.Instance,
) -> bool:
    try:
        image = images.get(image_id)
    except exception.ImageNotFound:
        return True
    except exception.NovaSnapError as error:
        LOG.debug(
            'Image record %(image)s could not be read: %(error)s',
            {'image': image_id, 'error': error},
            instance_uuid=instance.uuid,
        )
        return False
    return image_api.ImageStatus.is_gone(image.status)
