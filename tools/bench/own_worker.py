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

"""Takes one snapshot with this project, as a service that runs would.

Run by the benchmark as ``python own_worker.py nova_snap.conf``: says "ready"
when everything is loaded, is told the server's uuid and the image's name, and
says the image's id when it is active.
"""

import json
import sys

from nova_snap import concurrency

concurrency.choose_backend()

# Below, since eventlet has to patch before anything else is imported.
from nova_snap import conf  # noqa: E402
from nova_snap import factory  # noqa: E402
from nova_snap import progress  # noqa: E402
from nova_snap.image import api as image_api  # noqa: E402


def main(config_file: str) -> None:
    """Take the snapshot that standard input asks for."""
    conf.register_opts(conf.CONF)
    conf.CONF([], project='nova_snap', default_config_files=[config_file])
    driver = factory.libvirt_driver(conf.CONF)
    manager = factory.snapshot_manager(conf.CONF, driver)
    images = image_api.from_conf(conf.CONF)
    # What a service has done long before: connected to both.
    driver.instances()
    list(images.list())
    print('ready', flush=True)
    order = json.loads(sys.stdin.readline())
    instance = driver.instance(order['server'])
    image, *_further = manager.snapshot_instance(
        instance,
        order['name'],
        {},
        images,
        progress.Progress(instance.uuid),
    )
    print(image.id, flush=True)
    sys.stdin.readline()


if __name__ == '__main__':
    main(sys.argv[1])
