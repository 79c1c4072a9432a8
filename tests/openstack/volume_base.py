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

"""Servers that boot from a volume of a real Cinder.

Only these tests need Cinder and what it keeps volumes in, so the cloud starts
without; each class of tests has its own.
"""

import contextlib
import json
import pathlib
import subprocess
import sys
import time
from typing import Any
from typing import ClassVar

from tests.lab import cinder as cinder_lib
from tests.lab import keystone as keystone_lib
from tests.openstack import base
from tests.openstack import catalog
from tests.openstack import cloud as cloud_lib
from tests.openstack import conf
from tests.openstack import records
from tests.openstack import seed
from tests.openstack import server as server_lib
from tests.openstack import storage as storage_lib

#: Seconds.
TIMEOUT = 240

#: What Cinder keeps of an image, besides its own properties.
KEPT = (
    'kernel_id',
    'ramdisk_id',
    'min_disk',
    'min_ram',
    'container_format',
    'disk_format',
)


class VolumeTestCase(base.CloudTestCase):
    """Servers on volumes."""

    #: Where the volumes are.
    STORAGE: ClassVar[type[storage_lib.Storage]]

    _stack: ClassVar[contextlib.ExitStack]
    _storage: ClassVar[storage_lib.Storage | None]
    _cinder: ClassVar[cinder_lib.Cinder]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls._stack = contextlib.ExitStack()
        cls._storage = None

    @classmethod
    def tearDownClass(cls) -> None:
        cls._stack.close()
        super().tearDownClass()

    def setUp(self) -> None:
        super().setUp()
        if self._storage is None:
            self._start(self.cloud)
        assert self._storage is not None
        self.storage = self._storage
        self.volumes = self._cinder.client('admin', 'admin')

    @classmethod
    def _start(cls, cloud: cloud_lib.Cloud) -> None:
        """Start Cinder beside the cloud's Keystone and Glance."""
        layout = cloud.layout
        keystone = keystone_lib.Keystone(layout.folder('unused'))
        keystone.url = layout.url('keystone', '/v3')
        # What fails half-way ends what it began, so that the next test can.
        with contextlib.ExitStack() as stack:
            storage = stack.enter_context(cls.STORAGE(cloud))
            cls._cinder = cinder_lib.Cinder(
                layout.folder('cinder'),
                keystone,
                storage.backend,
                port=layout.ports.cinder,
                nova=conf.credentials(layout, 'nova'),
            )
            stack.callback(cls._cinder.stop)
            cls._cinder.prepare()
            if not list(cloud.connection.identity.services(type='volumev3')):
                cls._cinder.register()
            cls._cinder.start()
            cls._stack = stack.pop_all()
        # A token knows the services that were there when it was issued.
        cloud.connection.session.invalidate()
        cls._storage = storage

    def volume_server(self) -> server_lib.Server:
        """Make a server on a volume with the guest that ticks."""
        connection = self.cloud.connection
        volume = self.volumes.volumes.create(1)
        self.wait_for_volume(volume.id)
        self.storage.write_file_system(volume.id)
        # As if Cinder had made it of the image.
        image = connection.image.find_image(seed.IMAGE)
        fields = records.record(self, image.id)
        kept = {
            name: str(fields[name])
            for name in (*KEPT, *seed.PROPERTIES)
            if fields.get(name) is not None
        }
        self.volumes.volumes.set_image_metadata(
            volume, {**kept, 'image_id': image.id, 'image_name': seed.IMAGE}
        )
        self.volumes.volumes.set_bootable(volume, True)
        answer = connection.compute.create_server(
            name='on a volume',
            flavor_id=connection.compute.find_flavor(seed.FLAVOR).id,
            networks='none',
            block_device_mapping=[
                {
                    'uuid': volume.id,
                    'source_type': 'volume',
                    'destination_type': 'volume',
                    'boot_index': 0,
                    'delete_on_termination': False,
                }
            ],
        )
        server = server_lib.Server(self.cloud, answer.id)
        self.addCleanup(server.delete)
        self._wait_until_up(server)
        return server

    def wait_for_volume(self, volume_id: str) -> None:
        """Wait until a volume is made."""
        deadline = time.monotonic() + TIMEOUT
        while (
            status := self.volumes.volumes.get(volume_id).status
        ) != 'available':
            self.assertNotIn('error', status)
            self.assertLess(time.monotonic(), deadline, status)
            time.sleep(0.2)

    def wait_for_no_volume(self, volume_id: str) -> None:
        """Wait until a volume is deleted."""
        deadline = time.monotonic() + TIMEOUT
        while volume_id in {v.id for v in self.volumes.volumes.list()}:
            self.assertLess(time.monotonic(), deadline, volume_id)
            time.sleep(0.2)

    def take(self, server: server_lib.Server, name: str = 'image') -> str:
        """Nova's; its snapshots are not waited for."""
        image_id = super().take(server, name)
        for entry in json.loads(self.record(image_id)['block_device_mapping']):
            self.wait_for_snapshot(entry['snapshot_id'])
        return image_id

    def wait_for_snapshot(self, snapshot_id: str) -> None:
        """Wait until a snapshot is made."""
        deadline = time.monotonic() + TIMEOUT
        get = self.volumes.volume_snapshots.get
        while (status := get(snapshot_id).status) != 'available':
            self.assertLess(time.monotonic(), deadline, status)
            time.sleep(0.2)

    def record(self, image_id: str) -> dict[str, Any]:
        """Glance's record of an image."""
        return records.record(self, image_id)

    def command(
        self, server: server_lib.Server, name: str, *options: str
    ) -> str:
        """Take an image by the stand-alone command; return its id."""
        done = self.run_command(
            'image-create', server.id, name, '-f', 'json', *options
        )
        self.assertEqual(0, done.returncode, done.stderr)
        image_id = str(json.loads(done.stdout)['id'])
        self.addCleanup(self._delete_image, image_id)
        return image_id

    def run_command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the stand-alone command with the administrator's login."""
        config = self.cloud.layout.folder('command') / 'nova_snap.conf'
        config.write_text(self.configuration(config.parent))
        return subprocess.run(
            [
                *(sys.executable, '-m', 'nova_snap.cmd.shell'),
                *('--config-file', str(config), '-v', *words),
            ],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )

    def configuration(self, folder: pathlib.Path) -> str:
        """Return the configuration, with the administrator's login."""
        login = catalog.client_options(self.cloud.layout)
        region = login.pop('region_name')
        words = ['auth_type = password']
        words += [f'{name} = {value}' for name, value in login.items()]
        lines = [
            *('[DEFAULT]', f'state_path = {folder}'),
            *('[libvirt]', f'connection_uri = {self.cloud.libvirtd.uri}'),
            *('[snapshot]', 'image_service = glance'),
            *('[glance]', f'region_name = {region}', *words),
            *('[cinder]', f'os_region_name = {region}', *words),
        ]
        return '\n'.join(lines) + '\n'
