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

"""Requests that web pages of other origins have a browser send (CORS).

The options are those of oslo.middleware, ``[cors]``; open this file for their
defaults.  https://docs.openstack.org/oslo.middleware/latest/admin/cross-project-cors.html
"""

from collections.abc import Callable
from typing import Any

from oslo_config import cfg

GROUP = 'cors'

#: Headers of OpenStack's services, besides the few that every page may use.
REQUEST_HEADERS = (
    'Authorization',
    'OpenStack-API-Version',
    'Range',
    'X-Auth-Token',
    'X-OpenStack-Request-ID',
    'X-OpenStack-Nova-API-Version',
)
RESPONSE_HEADERS = (
    'Accept-Ranges',
    'Content-Range',
    'Location',
    'OpenStack-API-Version',
    'Retry-After',
    'X-Compute-Request-Id',
    'X-OpenStack-Request-ID',
    'X-OpenStack-Nova-API-Version',
)
METHODS = ('GET', 'HEAD', 'POST', 'DELETE')


def set_defaults() -> None:
    """Set the defaults of ``[cors]``, also those of the sample.

    Where the service is not installed, whoever lists the options calls this,
    too.
    """
    try:
        from oslo_middleware import cors
    except ImportError:
        return
    cors.set_defaults(
        allow_headers=list(REQUEST_HEADERS),
        allow_methods=list(METHODS),
        expose_headers=list(RESPONSE_HEADERS),
    )


def wrapped(
    application: Callable[..., Any], conf: cfg.ConfigOpts
) -> Callable[..., Any]:
    """Return an application that tells browsers which pages may use it.

    The same application if that is none: the middleware would answer every
    OPTIONS with 200.
    """
    from oslo_middleware import cors

    set_defaults()
    conf.register_opts(cors.OPTS, GROUP)
    if not conf[GROUP].allowed_origin:
        return application
    wrapped: Callable[..., Any] = cors.CORS(application, conf)
    return wrapped
