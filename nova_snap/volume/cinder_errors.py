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

"""Translation of Cinder's error responses to exceptions.

Open this file when a response of Cinder leads to the wrong exception.  Pure
functions; the requests are made in ``cinder.py``, and the message in a
response is read by ``nova_snap/clients/http_errors.py``.
"""

import dataclasses

from nova_snap import exception
from nova_snap.clients import http_errors


@dataclasses.dataclass(frozen=True)
class Subject:
    """The volume or snapshot of a request; a list or a quota has neither."""

    volume_id: str | None = None
    snapshot_id: str | None = None

    def __str__(self) -> str:
        if self.snapshot_id is not None:
            return f'volume snapshot {self.snapshot_id}'
        if self.volume_id is not None:
            return f'volume {self.volume_id}'
        return 'the request'

    def not_found(self) -> exception.NovaSnapError | None:
        """Return the exception for a 404, or None without a subject."""
        if self.snapshot_id is not None:
            return exception.VolumeSnapshotNotFound(
                snapshot_id=self.snapshot_id
            )
        if self.volume_id is not None:
            return exception.VolumeNotFound(volume_id=self.volume_id)
        return None


def translate(
    refused: http_errors.HTTPError, subject: Subject, endpoint: str
) -> exception.NovaSnapError:
    """Return the exception for an error response of Cinder."""
    reason = (refused.reason or f'HTTP {refused.status}').rstrip('.')
    not_found = subject.not_found()
    match refused.status:
        case 401:
            return exception.VolumeNotPermitted(
                reason=f'the login is not accepted (401: {reason}); check '
                'the credentials in [cinder].'
            )
        case 403:
            return exception.VolumeNotPermitted(
                reason=f'{reason}; ask for the role that this needs, or log '
                'in as another user in [cinder].'
            )
        case 404 if not_found is not None:
            return not_found
        case 409:
            return exception.VolumeConflict(what=str(subject), reason=reason)
        case 413:
            return exception.VolumeQuotaExceeded(
                reason=f'{reason}; delete snapshots, or have the quota raised.'
            )
        case status if status == 404 or status < 400:
            return _unavailable(
                endpoint,
                f'there is no volume API v3 there (HTTP {status}); check '
                '[cinder] catalog_info and endpoint_template.',
            )
        case status if status < 500 and status not in http_errors.RETRIABLE:
            return _rejected(subject, reason)
        case status:
            return _unavailable(
                endpoint,
                f'it fails with HTTP {status} ({reason}); see the log of '
                'Cinder, and try again when it is well.',
            )


def _rejected(subject: Subject, reason: str) -> exception.NovaSnapError:
    # If the status of a volume or snapshot does not allow a request, Cinder
    # answers 400 (InvalidVolume, InvalidSnapshot) with no code of its own.
    if reason.startswith(('Invalid volume:', 'Invalid snapshot:')):
        return exception.VolumeConflict(what=str(subject), reason=reason)
    return exception.VolumeRejected(what=str(subject), reason=reason)


def _unavailable(
    endpoint: str, reason: str
) -> exception.VolumeServiceUnavailable:
    return exception.VolumeServiceUnavailable(endpoint=endpoint, reason=reason)
