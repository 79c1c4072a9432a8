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

"""The WSGI application of ``nova-snap-api``, for any WSGI server.

It reads the configuration when it is imported.  One process has to serve all
requests, with as many threads as the server likes: the operations of a guest
run in it.
"""

from nova_snap import conf
from nova_snap.api import deploy
from nova_snap.conf import api as api_conf

api_conf.set_up(conf.CONF, [])

application = deploy.application(
    deploy.from_conf(conf.CONF), deploy.authentication(conf.CONF), conf.CONF
)
