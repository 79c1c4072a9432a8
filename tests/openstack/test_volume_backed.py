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

"""Images of a server that boots from a volume: Nova's record, and ours.

Cinder and Ceph are those of the functional tests (``tests/lab/volumes.py``);
only these tests need them, so the cloud starts without.
"""

from collections.abc import Iterator
import contextlib
import json
import pathlib
import subprocess
import sys
import time
from typing import Any
from typing import ClassVar

from tests.lab import ceph as ceph_lib
from tests.lab import cinder as cinder_lib
from tests.lab import keystone as keystone_lib
from tests.lab import volumes as volumes_lib
from tests.openstack import base
from tests.openstack import catalog
from tests.openstack import mode
from tests.openstack import records
from tests.openstack import seed
from tests.openstack import server as server_lib

#: Seconds.
TIMEOUT = 240

#: What only Nova's database knows of a server: who made it, and what Nova
#: chose for its guest where the image did not say.
ONLY_NOVA_KNOWS = {
    'boot_roles',
    'owner_user_name',
    'owner_project_name',
    'hw_cdrom_bus',
    'hw_disk_bus',
    'hw_input_bus',
    'hw_machine_type',
    'hw_pointer_model',
    'hw_video_model',
    'hw_vif_model',
}

#: What Cinder keeps of an image, besides its own properties.
KEPT = (
    'kernel_id',
    'ramdisk_id',
    'min_disk',
    'min_ram',
    'container_format',
    'disk_format',
)

#: What each mapping has of its own.
OWN = {'snapshot_id'}


class VolumeBackedTest(base.CloudTestCase):
    """One server, by unmodified Nova and by the command."""

    MODE = mode.UNMODIFIED

    _stack: ClassVar[contextlib.ExitStack]
    _cinder: ClassVar[cinder_lib.Cinder | None] = None

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls._stack = contextlib.ExitStack()

    @classmethod
    def tearDownClass(cls) -> None:
        cls._stack.close()
        super().tearDownClass()

    def setUp(self) -> None:
        super().setUp()
        if self._cinder is None:
            type(self)._cinder = self._stack.enter_context(
                running(self.cloud.layout)
            )
            # A token knows the services that were there when it was issued.
            self.cloud.connection.session.invalidate()
        assert self._cinder is not None
        self.cinder = self._cinder
        self.volumes = self.cinder.client('admin', 'admin')

    def test_records_and_boot(self) -> None:
        server = self.volume_server()
        theirs = self.record(self.take(server, 'theirs'))
        mine = self.record(self.command(server, 'ours'))
        their_mapping = mapping(theirs)
        our_mapping = mapping(mine)
        self.assertEqual(their_mapping, our_mapping)
        self.assertEqual(
            ONLY_NOVA_KNOWS & theirs.keys(), theirs.keys() - mine.keys()
        )
        for name in ('name', *ONLY_NOVA_KNOWS):
            theirs.pop(name, None)
            mine.pop(name, None)
        self.assertEqual(theirs, mine)
        self.assert_ours_boots(server)

    def assert_ours_boots(self, server: server_lib.Server) -> None:
        """``openstack server create`` from the image of the command."""
        ticks = server.ticks()
        image_id = self.command(server, 'to boot from')
        new = self.make_server(image_id, name='from ours')
        found = new.found_at_boot()
        self.assertIsNotNone(found, new.console())
        self.assertGreaterEqual(found or 0, ticks)

    def volume_server(self) -> server_lib.Server:
        """A server on a volume with the guest that ticks."""
        connection = self.cloud.connection
        volume = self.volumes.volumes.create(1)
        self.wait_for_volume(volume.id)
        volumes_lib.write_file_system(
            self.cinder.ceph,
            pathlib.Path(f'{cinder_lib.POOL}/volume-{volume.id}'),
            self.cinder.directory,
        )
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

    def command(self, server: server_lib.Server, name: str) -> str:
        """An image by the stand-alone command; its id."""
        config = self.cloud.layout.folder('command') / 'nova_snap.conf'
        config.write_text(self.configuration(config.parent))
        done = subprocess.run(
            [
                *(sys.executable, '-m', 'nova_snap.cmd.shell'),
                *('--config-file', str(config), '-v'),
                *('image-create', server.id, name, '-f', 'json'),
            ],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        self.assertEqual(0, done.returncode, done.stderr)
        image_id = str(json.loads(done.stdout)['id'])
        self.addCleanup(self._delete_image, image_id)
        return image_id

    def configuration(self, folder: pathlib.Path) -> str:
        """The command's configuration, with the administrator's login."""
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


def mapping(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The block device mapping, taken out of a record."""
    entries = json.loads(record.pop('block_device_mapping'))
    return [
        {k: v for k, v in entry.items() if k not in OWN} for entry in entries
    ]


@contextlib.contextmanager
def running(layout: Any) -> Iterator[cinder_lib.Cinder]:
    """Ceph and Cinder beside the cloud's Keystone and Glance."""
    keystone = keystone_lib.Keystone(layout.folder('unused'))
    keystone.url = layout.url('keystone', '/v3')
    ceph = ceph_lib.Ceph(layout.state / 'ceph')
    cinder = cinder_lib.Cinder(
        layout.folder('cinder'),
        keystone,
        ceph,
        port=layout.ports.cinder,
    )
    try:
        ceph.start([cinder_lib.POOL])
        cinder.prepare()
        cinder.register()
        cinder.start()
        yield cinder
    finally:
        cinder.stop()
        ceph.stop()
