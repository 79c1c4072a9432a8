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

"""``/healthcheck``, for load balancers and supervisors."""

import webob

from nova_snap.api import request as request_lib


def show(request: request_lib.Request) -> webob.Response:
    """Say that the service answers, and that it accepts snapshots.

    oslo.middleware has this as an application of its own, for programs that
    are put together by PasteDeploy.
    """
    if request.services.snapshots.is_stopping:
        return webob.Response('STOPPING', status=503)
    return webob.Response('OK', content_type='text/plain')
