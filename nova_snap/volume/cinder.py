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

"""The volume service Cinder: python-cinderclient on a keystoneauth session.

Open this file for the requests to Cinder and their retries.  Only this module
knows cinderclient, which comes with the extra ``cinder``.  The session and the
login are made in ``cinder_session.py``; error responses are translated in
``cinder_errors.py``.
"""

from collections.abc import Callable
from collections.abc import Mapping
import contextlib
import importlib
from typing import Any
from typing import Self
from typing import TypeVar

from keystoneauth1 import session as ks_session
from oslo_config import cfg

from nova_snap import exception
from nova_snap.clients import retry
from nova_snap.volume import api
from nova_snap.volume import cinder_errors
from nova_snap.volume import cinder_session

T = TypeVar('T')

#: The microversion.  3.5 (Cinder 10, Ocata) is the first that finds the user
#: message of a snapshot; from 3.66 on the parameter "force" is not accepted.
API_VERSION = '3.5'


class CinderVolumeService(api.VolumeService):
    """Volumes in Cinder, by version 3 of its API.

    :param http_retries: how often a request is retried after a transient
        error.
    :raises InvalidConfiguration: python-cinderclient is not installed.
    """

    def __init__(
        self, connection: cinder_session.Connection, http_retries: int
    ) -> None:
        self._connection = connection
        self._tries = http_retries + 1
        self._client = _client(connection.session, connection.adapter)
        self._urgent = _client(connection.urgent_session, connection.adapter)

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> Self:
        """Make the service from the options of [cinder].

        :raises InvalidConfiguration: the options are not complete.
        """
        connection = cinder_session.Connection.from_conf(conf)
        return cls(connection, conf.cinder.http_retries)

    def volume(self, volume_id: str) -> api.Volume:
        subject = cinder_errors.Subject(volume_id=volume_id)
        found = self._call(
            subject, lambda: self._client.volumes.get(volume_id)
        )
        return _volume(found.to_dict())

    def volumes_of_snapshot(self, snapshot_id: str) -> list[api.Volume]:
        # Only an administrator can filter by the snapshot; Cinder ignores
        # all_tenants from any other user.
        found = self._call(
            cinder_errors.Subject(),
            lambda: self._client.volumes.list(
                search_opts={'all_tenants': True}
            ),
        )
        volumes = [_volume(volume.to_dict()) for volume in found]
        return [v for v in volumes if v.snapshot_id == snapshot_id]

    def project_id(self) -> str | None:
        with self._connection.translated(cinder_errors.Subject()):
            project_id: str | None = self._connection.session.get_project_id()
        return project_id

    def snapshot_quota(self) -> api.SnapshotQuota:
        found = self._call(cinder_errors.Subject(), self._client.limits.get)
        limits = found.to_dict()['absolute']
        limit = limits['maxTotalSnapshots']
        return api.SnapshotQuota(
            used=limits['totalSnapshotsUsed'],
            limit=None if limit < 0 else limit,
        )

    def create_snapshot(
        self,
        volume_id: str,
        name: str,
        description: str | None,
        metadata: Mapping[str, str],
    ) -> api.Snapshot:
        with self._connection.translated(
            cinder_errors.Subject(volume_id=volume_id)
        ):
            made = self._urgent.volume_snapshots.create(
                volume_id,
                force=True,
                name=name,
                description=description,
                metadata=dict(metadata),
            )
        return _snapshot(made.to_dict())

    def snapshot(self, snapshot_id: str, urgent: bool = False) -> api.Snapshot:
        subject = cinder_errors.Subject(snapshot_id=snapshot_id)
        if urgent:
            with self._connection.translated(subject):
                found = self._urgent.volume_snapshots.get(snapshot_id)
        else:
            found = self._call(
                subject,
                lambda: self._client.volume_snapshots.get(snapshot_id),
            )
        return _snapshot(found.to_dict())

    def snapshots(
        self, volume_id: str, metadata: Mapping[str, str]
    ) -> list[api.Snapshot]:
        found = self._call(
            cinder_errors.Subject(),
            lambda: self._client.volume_snapshots.list(
                search_opts={'volume_id': volume_id}
            ),
        )
        snapshots = [_snapshot(snapshot.to_dict()) for snapshot in found]
        return [
            snapshot
            for snapshot in snapshots
            if snapshot.volume_id == volume_id
            and metadata.items() <= snapshot.metadata.items()
        ]

    def failure(self, snapshot_id: str) -> str | None:
        messages = self._call(
            cinder_errors.Subject(),
            lambda: self._client.messages.list(
                search_opts={'resource_uuid': snapshot_id}
            ),
        )
        texts = [message.to_dict()['user_message'] for message in messages]
        return ' '.join(texts) or None

    def delete_snapshot(self, snapshot_id: str) -> None:
        with contextlib.suppress(exception.VolumeSnapshotNotFound):
            self._call(
                cinder_errors.Subject(snapshot_id=snapshot_id),
                lambda: self._client.volume_snapshots.delete(snapshot_id),
            )

    def _call(
        self, subject: cinder_errors.Subject, function: Callable[[], T]
    ) -> T:
        """Make a request, with retries, and translate its errors."""
        with self._connection.translated(subject):
            return retry.retrying('Cinder', self._tries)(function)


def _client(session: ks_session.Session, adapter: dict[str, Any]) -> Any:
    try:
        module: Any = importlib.import_module('cinderclient.client')
    except ImportError as error:
        raise exception.InvalidConfiguration(
            option='[cinder]',
            reason='python-cinderclient is not installed here; install '
            'nova-snap with the extra "cinder".',
        ) from error
    return module.Client(API_VERSION, session=session, **adapter)


def _volume(fields: Mapping[str, Any]) -> api.Volume:
    return api.Volume(
        id=fields['id'],
        name=fields.get('name') or '',
        description=fields.get('description'),
        status=fields['status'],
        size=fields['size'],
        snapshot_id=fields.get('snapshot_id'),
        image_metadata=fields.get('volume_image_metadata') or {},
    )


def _snapshot(fields: Mapping[str, Any]) -> api.Snapshot:
    return api.Snapshot(
        id=fields['id'],
        volume_id=fields['volume_id'],
        status=fields['status'],
        metadata=fields.get('metadata') or {},
        project_id=fields.get('os-extended-snapshot-attributes:project_id'),
    )
