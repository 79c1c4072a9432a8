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

"""Take a snapshot as another user of the host.

    python -m tests.functional.as_user UID CONFIG SERVER

All code is loaded first, also what is imported on demand: the other user may
not be able to read it.
"""

import importlib
import os
import pkgutil
import sys

from oslo_config import cfg

import nova_snap
from nova_snap import conf as nova_snap_conf
from nova_snap import exception
from nova_snap import factory
from nova_snap import progress
from nova_snap.image import api as image_api
from nova_snap.qcow2 import libnbd

#: Packages that no command needs: the first imports Nova, which is not there;
#: the second has a module that only alembic can import.
NOT_NEEDED = ('nova_snap.nova.', 'nova_snap.api.')


def load_everything() -> None:
    """Import every module that a command may need."""
    for module in pkgutil.walk_packages(nova_snap.__path__, 'nova_snap.'):
        if not module.name.startswith(NOT_NEEDED):
            importlib.import_module(module.name)


def main(uid: int, config: str, server: str) -> int:
    """Print the id of the image."""
    conf = cfg.ConfigOpts()
    nova_snap_conf.register_opts(conf)
    conf(args=[], default_config_files=[config])
    images = image_api.from_conf(conf)
    load_everything()
    libnbd.load()
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    try:
        driver = factory.libvirt_driver(conf)
        instance = driver.instance(server)
        manager = factory.snapshot_manager(conf, driver)
        (image,) = manager.snapshot_instance(
            instance, 'image', {}, images, progress.Progress()
        )
    except exception.NovaSnapError as error:
        print(error, file=sys.stderr)
        return 1
    print(image.id)
    return 0


if __name__ == '__main__':
    sys.exit(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
