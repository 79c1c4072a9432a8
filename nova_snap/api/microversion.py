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

"""Microversions: which is asked for, and the headers that say so.

https://docs.openstack.org/nova/latest/reference/api-microversion-history.html
"""

import microversion_parse
import webob

from nova_snap.api import errors

SERVICE = 'compute'
LEGACY_HEADER = 'X-OpenStack-Nova-API-Version'

MIN = microversion_parse.Version(2, 1)
MAX = microversion_parse.Version(2, 90)


def negotiated(request: webob.Request) -> microversion_parse.Version:
    """Return the version that a request asks for; the lowest if it does not.

    :raises BadRequest: what it asks for is no version.
    :raises NotAcceptable: the version is not offered.
    """
    asked = microversion_parse.get_version(
        request.headers, service_type=SERVICE, legacy_headers=[LEGACY_HEADER]
    )
    if asked is None:
        return MIN
    try:
        found = microversion_parse.parse_version_string(
            str(MAX) if asked == 'latest' else asked
        )
    except (TypeError, ValueError):
        raise errors.BadRequest(
            f'API Version String {asked} is of invalid format. Must be of '
            'format MajorNum.MinorNum.'
        ) from None
    if not MIN <= found <= MAX:
        raise errors.NotAcceptable(
            f'Version {asked} is not supported by the API. Minimum is {MIN} '
            f'and maximum is {MAX}.'
        )
    return found


def announce(
    response: webob.Response, version: microversion_parse.Version
) -> None:
    """Add the headers that say in which version a request is answered."""
    response.headers['OpenStack-API-Version'] = f'{SERVICE} {version}'
    response.headers[LEGACY_HEADER] = str(version)
    response.headers.add('Vary', f'OpenStack-API-Version, {LEGACY_HEADER}')
