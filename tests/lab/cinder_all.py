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

"""All of Cinder in one process: API, scheduler, and cinder-volume.

Run by ``cinder.py`` with the Python of Cinder's environment; imports nothing
of this project.  What the services send to each other goes through
oslo.messaging's driver for one process, so no message broker is needed; all
else is as in ``cinder.cmd``.
"""

from cinder import monkey_patch

monkey_patch.patch()

# Below, since eventlet has to patch before anything else is imported.
import sys  # noqa: E402

from cinder import coordination  # noqa: E402
from cinder import objects  # noqa: E402
from cinder import rpc  # noqa: E402
from cinder import service  # noqa: E402
from cinder import utils  # noqa: E402
from cinder import version  # noqa: E402
from cinder.cmd import volume  # noqa: E402
from cinder.common import config  # noqa: E402
import os_brick  # noqa: E402
from oslo_config import cfg  # noqa: E402
from oslo_log import log as logging  # noqa: E402
from oslo_privsep import priv_context  # noqa: E402
import oslo_service.service  # noqa: E402

CONF = cfg.CONF


def main() -> None:
    """Run until it is killed."""
    objects.register_all()
    CONF(sys.argv[1:], project='cinder', version=version.version_string())
    config.set_middleware_defaults()
    logging.setup(CONF, 'cinder')
    priv_context.init(root_helper=utils.get_root_helper().split())
    os_brick.setup(CONF)
    coordination.COORDINATOR.start()
    rpc.init(CONF)
    launcher = oslo_service.service.ServiceLauncher(CONF)
    launcher.launch_service(service.Service.create(binary='cinder-scheduler'))
    for backend in CONF.enabled_backends:
        CONF.register_opt(volume.host_opt, group=backend)
        launcher.launch_service(
            service.Service.create(
                host=f'{CONF.host}@{backend}',
                service_name=backend,
                binary='cinder-volume',
                coordination=True,
            )
        )
    launcher.launch_service(service.WSGIService('osapi_volume'))
    launcher.wait()


if __name__ == '__main__':
    main()
