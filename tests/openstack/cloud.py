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

"""A whole cloud on loopback: started, and removed, by the tests themselves.

Open this file to see in which order the servers start, and why.
"""

import atexit
from concurrent import futures
import contextlib
import functools
import os
import pathlib
import shutil
import time

import openstack

from tests.lab import daemon
from tests.lab import fault_proxy
from tests.lab import libvirtd as libvirtd_lib
from tests.openstack import catalog
from tests.openstack import compute as compute_lib
from tests.openstack import environment
from tests.openstack import glance as glance_lib
from tests.openstack import infrastructure
from tests.openstack import keystone as keystone_lib
from tests.openstack import layout as layout_lib
from tests.openstack import mode as mode_lib
from tests.openstack import neutron as neutron_lib
from tests.openstack import nova as nova_lib
from tests.openstack import placement as placement_lib
from tests.openstack import seed
from tests.openstack import service as service_lib

#: Set: use the cloud of "python -m tests.openstack up".
BY_HAND = 'NOVA_SNAP_CLOUD'

#: Seconds until placement has the host's inventory.
INVENTORY_TIMEOUT = 90.0


class Cloud:
    """Keystone, Glance, placement, Neutron's API and Nova on one host.

    :param state: a short path on a real file system.
    :ivar image_proxy: stands between nova-compute and Glance.
    """

    def __init__(self, state: pathlib.Path) -> None:
        state.mkdir(parents=True, exist_ok=True)
        self.layout = layout_lib.Layout.at(state)
        self.mariadb = infrastructure.MariaDB(self.layout)
        self.memcached = infrastructure.Memcached(self.layout)
        self.rabbitmq = infrastructure.RabbitMQ(self.layout)
        self.libvirtd = libvirtd_lib.Libvirtd(state)
        self.keystone = keystone_lib.Keystone(self.layout)
        self.glance = glance_lib.Glance(self.layout)
        self.nova = nova_lib.Nova(self.layout)
        self.services: list[service_lib.Service] = [
            # The one that takes longest first.
            neutron_lib.Neutron(self.layout),
            self.nova,
            self.glance,
            placement_lib.Placement(self.layout),
        ]
        self.image_proxy = fault_proxy.FaultProxy(self.layout.url('glance'))
        self.compute = compute_lib.Compute(
            self.layout, self.libvirtd, self.nova, self.image_proxy.url
        )

    @functools.cached_property
    def connection(self) -> openstack.connection.Connection:
        """The administrator's connection."""
        return catalog.connect(self.layout)

    # Start ----------------------------------------------------------------

    def start(self, mode: mode_lib.Mode) -> None:
        """Start everything; nova-compute in this mode.

        :raises DaemonFailed, CommandFailed, NotInstalled: with the reason.
        """
        self.image_proxy.start()
        for service in (self.keystone, *self.services):
            service.configure()
        with futures.ThreadPoolExecutor(max_workers=8) as pool:
            project = pool.submit(environment.install_project)
            libvirt = pool.submit(self.libvirtd.start)
            rabbitmq = pool.submit(self.rabbitmq.start)
            self._start_databases()
            catalogue = pool.submit(self._start_keystone)
            starts = [pool.submit(_start, one) for one in self.services]
            for future in (catalogue, rabbitmq, *starts):
                future.result()
            seeded = pool.submit(seed.fill, self.layout, self.connection)
            # Neutron answers a GET of ports with 500 before one of networks.
            list(self.connection.network.networks())
            for future in (project, libvirt):
                future.result()
            self.compute.start(mode)
            self.nova.discover_hosts()
            self._wait_for_inventory()
            seeded.result()

    def _start_databases(self) -> None:
        names = [
            name
            for service in (self.keystone, *self.services)
            for name in service.databases
        ]
        self.memcached.start()
        self.mariadb.start(names)

    def _start_keystone(self) -> None:
        _start(self.keystone)
        names = ['glance', 'placement', 'neutron', 'nova']
        catalog.fill(self.layout, names)

    def _wait_for_inventory(self) -> None:
        """Until then the scheduler finds no valid host."""
        placement = self.connection.placement
        deadline = time.monotonic() + INVENTORY_TIMEOUT
        while True:
            for provider in placement.resource_providers():
                url = f'/resource_providers/{provider.id}/inventories'
                if 'VCPU' in placement.get(url).json()['inventories']:
                    return
            if time.monotonic() > deadline:
                raise daemon.DaemonFailed(self.compute.daemon.said())
            time.sleep(0.5)

    # End ------------------------------------------------------------------

    def remove(self) -> None:
        """End every process, the guests too, and delete the state."""
        self.image_proxy.stop()
        self.compute.daemon.end_session()
        # Threads can't be started any more when this process ends, so all
        # are told first, and then each is waited for.
        daemons = self._daemons()
        for each in daemons:
            each.terminate()
        for each in daemons:
            each.stop()
        # Those that some tests start beside it: Cinder, Ceph.
        daemon.end_abandoned(self.layout.state)
        self.libvirtd.remove()
        shutil.rmtree(self.layout.state, ignore_errors=True)

    def _daemons(self) -> list[daemon.Daemon]:
        """All processes of the cloud; what they stand on comes last."""
        return [
            *(
                each
                for service in (self.keystone, *self.services)
                for each in service.daemons()
            ),
            self.rabbitmq.daemon,
            self.memcached.daemon,
            self.mariadb.daemon,
            self.rabbitmq.epmd,
        ]


def _start(service: service_lib.Service) -> None:
    service.prepare()
    service.start()
    service.wait_until_up()


def shared_cloud() -> Cloud:
    """Return the cloud of this process; start it if need be.

    With ``NOVA_SNAP_CLOUD`` in the environment it is the one that a person
    started by hand, with the project that was installed then; it stays.

    :raises DaemonFailed, CommandFailed, NotInstalled: it did not start; no
        later call tries again.
    """
    found = _find_cloud()
    if isinstance(found, Exception):
        raise found
    return found


@functools.cache
def _find_cloud() -> Cloud | Exception:
    try:
        if os.environ.get(BY_HAND):
            cloud = Cloud(layout_lib.main_state())
            cloud.image_proxy.start()
            return cloud
        remove_abandoned_clouds()
        return _start_cloud()
    except Exception as error:
        return error


def _start_cloud() -> Cloud:
    cloud = Cloud(layout_lib.process_state())
    owner = os.getpid()

    def remove() -> None:
        # A forked child that ends must not end its parent's cloud.
        if os.getpid() == owner:
            cloud.remove()

    atexit.register(remove)
    cloud.start(mode_lib.Mode())
    return cloud


def remove_abandoned_clouds() -> None:
    """End the clouds of test processes that were killed."""
    for state in layout_lib.abandoned():
        with contextlib.suppress(FileNotFoundError):
            Cloud(state).remove()
