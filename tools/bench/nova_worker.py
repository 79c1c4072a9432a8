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

"""Takes one snapshot with Nova's own driver; runs in Nova's environment.

Run by the benchmark as ``python nova_worker.py nova.conf``; the conversation
is that of ``own_worker.py``.  What works is Nova's: ``LibvirtDriver.snapshot``
with its ``_live_snapshot``, its conversion and, by ``nova.image.glance``, its
upload.  Three things around it are stood in for, and none of them moves data:

* the instance: an object that is not in a database, with what ``snapshot()``
  reads of one;
* the task states: nova-compute would save each to its database by a message,
  here nothing is done, which is in Nova's favour;
* the login: the token is any, since this Glance asks for none.

The record is made first, as nova-api does it.  Native threads, as nova-compute
34 has them by default.
"""

from nova import monkey_patch

monkey_patch.patch(backend='threading')

# Below, since Nova chooses its threads first, too.
import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
import traceback  # noqa: E402
from typing import Any  # noqa: E402

from nova import config  # noqa: E402
from nova import context as nova_context  # noqa: E402
from nova import objects  # noqa: E402
import nova.conf  # noqa: E402
from nova.image import glance  # noqa: E402
from nova.network import model as network_model  # noqa: E402
import nova.privsep.path  # noqa: E402
from nova.virt import virtapi  # noqa: E402
from nova.virt.libvirt import driver as libvirt_driver  # noqa: E402
from oslo_log import log as logging  # noqa: E402
from oslo_privsep import priv_context  # noqa: E402

USER, PROJECT = 'user-1', 'project-1'
BASE_IMAGE = '00000000-0000-4000-8000-000000000001'


def main(config_file: str) -> None:
    """Take the snapshot that standard input asks for."""
    config.parse_args(['nova-compute', '--config-file', config_file])
    logging.setup(nova.conf.CONF, 'nova')
    priv_context.init(root_helper=['env'])
    objects.register_all()
    context = nova_context.RequestContext(USER, PROJECT, auth_token='any')
    driver = libvirt_driver.LibvirtDriver(virtapi.VirtAPI())
    # What nova-compute has done long before: connected to both, and started
    # the process that works for it as root.
    driver._host.initialize()
    list(glance.API().get_all(context))
    nova.privsep.path.utime(config_file)
    print('ready', flush=True)
    order = json.loads(sys.stdin.readline())
    image_id = _create_record(context, order)
    driver.snapshot(
        context, _instance(context, order['server']), image_id, _ignore
    )
    print(image_id, flush=True)
    sys.stdin.readline()


def _create_record(context: Any, order: dict[str, str]) -> str:
    properties = {
        'image_type': 'snapshot',
        'instance_uuid': order['server'],
        'user_id': USER,
        'base_image_ref': BASE_IMAGE,
    }
    record = {
        'name': order['name'],
        'min_disk': 1,
        'min_ram': 0,
        'properties': properties,
    }
    image_id: str = glance.API().create(context, record)['id']
    return image_id


def _instance(context: Any, uuid: str) -> Any:
    return objects.Instance(
        context=context,
        uuid=uuid,
        id=1,  # makes the name: instance-00000001
        user_id=USER,
        project_id=PROJECT,
        image_ref=BASE_IMAGE,
        kernel_id='',
        ramdisk_id='',
        os_type=None,
        display_name='bench',
        flavor=objects.Flavor(memory_mb=160, vcpus=1, root_gb=10),
        system_metadata={'image_min_disk': '1'},
        # Asked for when the guest is suspended.
        pci_devices=objects.PciDeviceList(objects=[]),
        info_cache=objects.InstanceInfoCache(
            network_info=network_model.NetworkInfo()
        ),
        numa_topology=None,
    )


def _ignore(**changes: Any) -> None:
    """Where nova-compute saves the task state."""


if __name__ == '__main__':
    # Nova's threads wait for work for ever.
    try:
        main(sys.argv[1])
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)
