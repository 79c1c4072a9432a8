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

"""``/metrics``, for Prometheus."""

import webob

from nova_snap.api import auth
from nova_snap.api import errors
from nova_snap.api import metrics
from nova_snap.api import request as request_lib
from nova_snap.conf import api as api_conf


def show(request: request_lib.Request) -> webob.Response:
    """Show what the service has measured.

    Prometheus asks without an identity, as is its custom.

    :raises NotFound: ``[api] metrics`` is ``off``.
    :raises Forbidden: it is ``local``, and the request is not of this host.
    """
    services = request.services
    if services.options.metrics == api_conf.METRICS_OFF:
        raise errors.NotFound('The resource could not be found.')
    if services.options.metrics == api_conf.METRICS_LOCAL:
        auth.require_this_host(request, '[api] metrics local')
    answer = webob.Response(services.metrics.text())
    answer.headers['Content-Type'] = metrics.CONTENT_TYPE
    return answer
