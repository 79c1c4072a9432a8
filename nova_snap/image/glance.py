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


"""The image service Glance: python-glanceclient on a keystoneauth session.

Open this file for the requests to Glance, their retries, and the end of an
upload.  The session and the login are made in ``glance_session.py``; error
responses are translated in ``glance_errors.py``.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
from typing import Any
from typing import BinaryIO
from typing import Self
from typing import TypeVar

import glanceclient
from oslo_config import cfg
from oslo_log import log as logging

from nova_snap import exception
from nova_snap import progress as progress_lib
from nova_snap import waiting
from nova_snap.clients import http_errors
from nova_snap.clients import retry
from nova_snap.image import api
from nova_snap.image import glance_errors
from nova_snap.image import glance_location
from nova_snap.image import glance_session
from nova_snap.image import preparation
from nova_snap.image import schema
from nova_snap.image import upload_data

LOG = logging.getLogger(__name__)

T = TypeVar('T')

#: Seconds that Glance is given to notice that an upload was cut off, and to
#: set the image back to ``queued``.
SETTLE_TIMEOUT = 30.0

#: Images that are looked at for the hash that Glance computes; some have none.
NEWEST = 5


class GlanceImageService(api.ImageService):
    """Images in Glance, by version 2 of its API.

    Threads may share an object of this class.

    :param connection: session, login and endpoint.
    :param num_retries: how often a request is retried after a transient
        error.
    """

    def __init__(
        self, connection: glance_session.Connection, num_retries: int
    ) -> None:
        self._connection = connection
        self._num_retries = num_retries
        self._tries = num_retries + 1
        self._preparations = preparation.Preparations(self._prepare)
        self._client = glanceclient.Client(
            '2', session=connection.session, **connection.adapter
        )

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> Self:
        """Make the service from the options of [glance] and [service_user].

        :raises InvalidConfiguration: the options are not complete.
        """
        connection = glance_session.Connection.from_conf(conf)
        return cls(connection, conf.glance.num_retries)

    def create(self, record: api.Image) -> api.Image:
        with self._rejecting(record.id):
            fields = _given(
                schema.writable_fields(
                    {name: getattr(record, name) for name in schema.WRITABLE}
                )
                | {'id': record.id, 'owner': record.owner}
            )
            create = _Create(self._client, fields, self._connection.endpoint)
            return self._call(record.id, create)

    def get(self, image_id: str) -> api.Image:
        return self._call(image_id, lambda: self._get(image_id))

    def list(self, **filters: str) -> Iterator[api.Image]:
        def fetch() -> list[api.Image]:
            found = self._client.images.list(filters=filters)
            return [schema.from_fields(fields) for fields in found]

        return iter(self._call(None, fetch))

    def update(self, image_id: str, **changes: Any) -> api.Image:
        with self._rejecting(image_id):
            fields = schema.writable_fields(changes)
            removed = [
                key
                for key, value in changes.get('properties', {}).items()
                if value is None
            ]
            return self._call(
                image_id,
                lambda: schema.from_fields(
                    self._client.images.update(
                        image_id, removed, **_given(fields)
                    )
                ),
            )

    def share(self, image_id: str, project_id: str) -> None:
        """Let another project use an image, whose visibility is shared."""
        # A retry may find the member that an earlier try has made.
        with contextlib.suppress(exception.ImageConflict):
            self._call(
                image_id,
                lambda: self._client.image_members.create(
                    image_id, project_id
                ),
            )

    def delete(self, image_id: str) -> None:
        with contextlib.suppress(exception.ImageNotFound):
            self._call(image_id, lambda: self._client.images.delete(image_id))

    def as_user(
        self, access: Any, shared_with: str | None = None
    ) -> 'UserImageService':
        return UserImageService(
            self._connection.as_user(access),
            self._num_retries,
            shared_with,
            self,
        )

    def may_hide(self, owner: str | None) -> bool:
        with self._connection.translated(None):
            return not self._connection.sees(owner)

    def set_location(self, image_id: str, url: str) -> None:
        self._call(
            image_id,
            glance_location.AddLocation(self._client, image_id, url),
        )
        with self._connection.translated(image_id):
            glance_location.wait_until_active(
                self._client, image_id, lambda: self.get(image_id)
            )

    def prepare(self, image_id: str) -> None:
        """Begin the requests that come before an upload, in a thread."""
        self._preparations.begin(image_id)

    def upload(
        self,
        image_id: str,
        data: BinaryIO,
        size: int | None,
        progress: progress_lib.Progress,
        at_end: api.AtEnd = api.no_call,
    ) -> api.Image:
        incoming = upload_data.UploadData(
            data, size, progress, at_end, self._preparations.result(image_id)
        )
        upload = _Upload(
            self._client,
            image_id,
            incoming,
            size,
            progress,
            self._connection.invalidate,
        )
        self._call(image_id, upload, progress, upload.can_repeat)
        image = self.get(image_id)
        _compare(image, incoming)
        return image

    def data(self, image_id: str) -> Iterator[bytes]:
        # The caller compares the hash, where Glance has one.
        body = self._call(
            image_id,
            lambda: self._client.images.data(image_id, do_checksum=False),
        )
        try:
            yield from body or ()
        except OSError as error:  # of requests, in the middle of the data
            raise exception.ImageServiceUnavailable(
                endpoint=self._connection.endpoint,
                reason=f'the connection broke ({error}); try again.',
            ) from error

    # ------------------------------------------------------------------------

    def _prepare(self, image_id: str) -> str:
        """Return the hash to compute once the record can take data."""
        algorithm = self._hash_algorithm()
        self._call(None, self._connection.renew_login)
        # Glance would read all of the data before it answers with an error.
        self._check_queued(self._before_upload(image_id))
        return algorithm

    def _before_upload(self, image_id: str) -> api.Image:
        """Return the record as it is just before its data is sent."""
        return self.get(image_id)

    def _get(self, image_id: str) -> api.Image:
        return schema.from_fields(self._client.images.get(image_id))

    def _hash_algorithm(self) -> str:
        """Return the hash that Glance is likely to compute of new data.

        No request asks for its option hashing_algorithm, but the newest image
        has a hash by it.
        """

        def newest() -> list[Any]:
            found = self._client.images.list(
                filters={'status': str(api.ImageStatus.ACTIVE)},
                sort='created_at:desc',
                page_size=NEWEST,
                limit=NEWEST,
            )
            return list(found)

        # A user who may upload need not be allowed to list images, and a list
        # may take Glance too long.
        try:
            for image in self._call(None, newest):
                if image.get('os_hash_algo'):
                    return str(image['os_hash_algo'])
        except exception.NovaSnapError as error:
            LOG.info('The newest images could not be listed: %s', error)
        return upload_data.ALGORITHM

    @staticmethod
    def _check_queued(image: api.Image) -> None:
        if api.ImageStatus.is_gone(image.status):
            raise exception.ImageNotFound(image_id=image.id)
        if image.status != api.ImageStatus.QUEUED:
            raise exception.ImageConflict(
                image_id=image.id,
                reason=f'it is {image.status} and takes no data.',
            )

    def _call(
        self,
        image_id: str | None,
        function: Callable[[], T],
        progress: progress_lib.Progress | None = None,
        can_repeat: Callable[[], bool] = lambda: True,
    ) -> T:
        """Make a request, with retries, and translate its errors."""
        retrying = retry.retrying('Glance', self._tries, progress, can_repeat)
        with self._connection.translated(None):
            # glanceclient asks Glance for its schema once.  Asking first
            # tells a wrong endpoint from an image that does not exist.
            retrying(lambda: self._client.images.unvalidated_model)
        with self._connection.translated(image_id):
            return retrying(function)

    @contextlib.contextmanager
    def _rejecting(self, image_id: str) -> Iterator[None]:
        """Turn errors of checking a value into ImageRejected.

        glanceclient checks values against the schema that it gets from
        Glance, and raises TypeError or ValueError, as our own checks do.
        """
        try:
            yield
        except (TypeError, ValueError) as error:
            raise exception.ImageRejected(
                image_id=image_id, reason=str(error).partition('\n')[0]
            ) from error


class UserImageService(GlanceImageService):
    """Images of the user of a request, by the user's token.

    A record can be looked at and deleted after the token was revoked, so that
    what was begun before can be undone.

    :param shared_with: the server's project, if it is not the user's.
    :param own: the image service with a login of ours; None if there is none.
    """

    def __init__(
        self,
        connection: glance_session.Connection,
        num_retries: int,
        shared_with: str | None = None,
        own: GlanceImageService | None = None,
    ) -> None:
        super().__init__(connection, num_retries)
        self._shared_with = shared_with
        self._own = own

    def get(self, image_id: str) -> api.Image:
        try:
            return super().get(image_id)
        except exception.ImageLoginRefused:
            if self._own is None:
                raise
            return self._own.get(image_id)

    def delete(self, image_id: str) -> None:
        try:
            super().delete(image_id)
        except exception.ImageLoginRefused:
            if self._own is None:
                raise
            self._own.delete(image_id)

    def create(self, record: api.Image) -> api.Image:
        """Make a record, and share it as nova-api shares its own."""
        if self._shared_with is None:
            return super().create(record)
        made = super().create(dataclasses.replace(record, visibility='shared'))
        self.share(made.id, self._shared_with)
        return made


class _Create:
    """Request for a record; a retry finds the record of an earlier try."""

    def __init__(
        self, client: Any, fields: dict[str, Any], endpoint: str
    ) -> None:
        self._client = client
        self._fields = fields
        self._endpoint = endpoint
        self._tried = False

    def __call__(self) -> api.Image:
        again, self._tried = self._tried, True
        try:
            made = self._client.images.create(**self._fields)
        except http_errors.HTTPError as error:
            if again and error.status == 409:
                return self._made_before(error)
            if error.status == 404:  # the endpoint, since no image exists yet
                raise glance_errors.translate(
                    error, None, self._endpoint
                ) from error
            raise
        return schema.from_fields(made)

    def _made_before(self, error: http_errors.HTTPError) -> api.Image:
        found = self._client.images.get(self._fields['id'])
        if any(found.get(k) != v for k, v in self._fields.items()):
            raise error
        return schema.from_fields(found)


class _Upload:
    """Upload of an image's data; each call is one try.

    A later try first checks whether the data has arrived by an earlier one.

    :param renew_login: gets a new token; returns False if it can't.
    """

    def __init__(
        self,
        client: Any,
        image_id: str,
        incoming: upload_data.UploadData,
        size: int | None,
        progress: progress_lib.Progress,
        renew_login: Callable[[], bool],
    ) -> None:
        self._client = client
        self._id = image_id
        self._incoming = incoming
        self._size = size
        self._progress = progress
        self._renew_login = renew_login
        self._failure: Exception | None = None

    def can_repeat(self) -> bool:
        """Return True if another try can succeed."""
        return self._incoming.can_restart or self._incoming.finished

    def __call__(self) -> None:
        if self._failure and self._arrived_after_all(self._failure):
            return
        try:
            self._send_logged_in()
        except Exception as error:
            self._failure = error
            raise

    def _send_logged_in(self) -> None:
        """Send the data; send it again if the token has expired meanwhile."""
        try:
            self._send()
        except http_errors.HTTPError as error:
            if error.status != 401 or not self._incoming.can_restart:
                raise
            if not self._renew_login():
                raise
            self._send_again(error)

    def _send_again(self, refused: http_errors.HTTPError) -> None:
        self._failure = refused
        try:
            if not self._arrived_after_all(refused):
                self._send()
        except http_errors.HTTPError as error:
            # Glance deletes an image if the token expires during the upload.
            # Report the expired token rather than ImageNotFound, which would
            # mean that a user has deleted the image.
            raise refused if error.status == 404 else error from None

    def _send(self) -> None:
        try:
            self._client.images.upload(self._id, self._incoming, self._size)
        except http_errors.HTTPError as error:
            if error.status in (409, 410):
                # Raises a 404 if the image was deleted in the meantime.
                self._client.images.get(self._id)
            if error.status == 409 and self._failure is not None:
                # Glance is still storing the data of the earlier try: a
                # transient error.
                raise http_errors.HTTPError(503, error.reason) from error
            raise

    def _arrived_after_all(self, failure: Exception) -> bool:
        """Return True if a failed try has stored all of the data.

        The connection can break after the last byte: then the image is
        active, and only the response was lost.
        """
        status = self._settled_status()
        if status == api.ImageStatus.ACTIVE and self._incoming.finished:
            return True
        if status != api.ImageStatus.QUEUED or not self._incoming.can_restart:
            raise failure
        self._incoming.restart()
        return False

    def _settled_status(self) -> str:
        """Return the image's status once Glance has noticed the failed try."""
        for _poll in waiting.polls(SETTLE_TIMEOUT, self._progress):
            status: str = self._client.images.get(self._id)['status']
            if status != api.ImageStatus.SAVING:
                break
        return status


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def _compare(image: api.Image, sent: upload_data.UploadData) -> None:
    """Compare status, size and hash in Glance with those of the sent data.

    :raises ImageCorrupt: they differ.
    """
    facts = [
        ('status', image.status, api.ImageStatus.ACTIVE),
        ('size', image.size, sent.done),
    ]
    digest = sent.digest(image.hash_algorithm or '')
    if digest is not None:
        what = f'{image.hash_algorithm} hash'
        facts.append((what, image.hash_value, digest))
    for what, found, expected in facts:
        if found != expected:
            raise exception.ImageCorrupt(
                image_id=image.id, what=what, found=found, sent=expected
            )
    if digest is None:
        LOG.warning(
            'Of image %(image)s only the size was compared with what was '
            'sent: the hash in Glance is %(algorithm)s, which was not '
            'computed here.',
            {
                'image': image.id,
                'algorithm': image.hash_algorithm or 'missing',
            },
        )
