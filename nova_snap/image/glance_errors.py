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

"""Translation of Glance's error responses to exceptions.

Open this file when a response of Glance leads to the wrong exception.  Pure
functions; the requests are made in ``glance.py``, and the message in a
response is read by ``nova_snap/clients/http_errors.py``.
"""

from nova_snap import exception
from nova_snap.clients import http_errors


def translate(
    refused: http_errors.HTTPError, image_id: str | None, endpoint: str
) -> exception.NovaSnapError:
    """Return the exception for an error response of Glance.

    :param image_id: the image of the request; None for a request about no
        image, so that a 404 means a wrong endpoint.
    """
    reason = refused.reason or f'HTTP {refused.status}'
    match refused.status:
        case 401:
            return exception.ImageLoginRefused(
                reason=f'the login is not accepted (401: {reason}); check '
                f'the credentials in [glance].'
            )
        case 403:
            return exception.ImageNotPermitted(
                reason=f'{reason}; ask for the role that this needs, or '
                f'log in as another user in [glance].'
            )
        case 404 if image_id is not None:
            return exception.ImageNotFound(image_id=image_id)
        case 409 | 410:
            return exception.ImageConflict(image_id=image_id, reason=reason)
        case 413:
            return exception.ImageTooLarge(
                image_id=image_id,
                reason=f'{reason}; delete images, or have the limit raised',
            )
        case status if status == 404 or status < 400:
            return _unavailable(
                endpoint,
                f'there is no image API v2 there (HTTP {refused.status}); '
                f'check the endpoint in [glance] or in the catalog.',
            )
        case status if status < 500 and status not in http_errors.RETRIABLE:
            return exception.ImageRejected(image_id=image_id, reason=reason)
        case status:
            return _unavailable(
                endpoint,
                f'it fails with HTTP {status} ({reason}); see the log of '
                f'Glance, and try again when it is well.',
            )


def _unavailable(
    endpoint: str, reason: str
) -> exception.ImageServiceUnavailable:
    return exception.ImageServiceUnavailable(endpoint=endpoint, reason=reason)
