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

"""The base of the tests with volumes: guests on them, and where Cinder is.

Cinder, Keystone, Glance and Ceph are real; see ``tests/lab/volumes.py``.
"""

import json
from typing import Any
from typing import ClassVar
import uuid

from oslo_config import cfg

from nova_snap import conf
from nova_snap.conf import glance as glance_conf
from nova_snap.image import api as image_api
from nova_snap.image import glance as glance_image
from tests.functional import base
from tests.lab import cinder as cinder_lib
from tests.lab import fault_proxy
from tests.lab import guest as guest_lib
from tests.lab import volumes as volumes_lib


class VolumeTestCase(base.SnapshotTestCase):
    """A test whose guests boot from volumes.

    :ivar proxy: stands between nova-snap and Cinder.
    :ivar image_proxy: stands between nova-snap and Glance.
    """

    #: What Cinder knows of the image that the root volume was made from.
    IMAGE_METADATA: ClassVar[dict[str, str] | None] = None

    #: By class and number of volumes: the uuid of the guest and its volumes.
    _guests: ClassVar[
        dict[str, tuple[str, tuple[volumes_lib.VolumeDisk, ...]]]
    ] = {}

    def setUp(self) -> None:
        self.lab = volumes_lib.shared_lab()
        self.proxy = self._proxy(self.lab.cinder.url)
        self.image_proxy = self._proxy(self.lab.glance.url)
        self.OPTIONS = {
            'snapshot': {'image_service': 'glance'},
            'glance': {
                'auth_type': 'none',
                'endpoint_override': self.image_proxy.url,
                'num_retries': '0',
            },
            'cinder': {
                'auth_type': 'password',
                'endpoint_template': f'{self.proxy.url}/v3',
                'http_retries': '0',
                **self.lab.keystone.credentials(
                    cinder_lib.USER, cinder_lib.USER
                ),
            },
        }
        super().setUp()
        self.glance = self._image_service()

    def _proxy(self, url: str) -> fault_proxy.FaultProxy:
        proxy = fault_proxy.FaultProxy(url)
        proxy.start()
        self.addCleanup(proxy.stop)
        return proxy

    def _image_service(self) -> image_api.ImageService:
        """Return our own adapter for the lab's Glance."""
        options = cfg.ConfigOpts()
        conf.register_opts(options)
        glance_conf.register_opts(options)
        options([])
        options.set_override('auth_type', 'none', 'glance')
        options.set_override(
            'endpoint_override', self.lab.glance.url, 'glance'
        )
        return glance_image.GlanceImageService.from_conf(options)

    def volume_guest(
        self, volumes: int = 2, **options: Any
    ) -> tuple[guest_lib.Guest, tuple[volumes_lib.VolumeDisk, ...]]:
        """Return a running guest on volumes that the class shares."""
        key = f'{type(self).__name__} {volumes} {sorted(options)}'
        if key not in self._guests:
            instance = str(uuid.uuid4())
            root = self.lab.make_disk(
                'root', instance=instance, image_metadata=self.IMAGE_METADATA
            )
            others = [
                self.lab.make_disk(f'data-{number}', instance=instance)
                for number in range(1, volumes)
            ]
            self._guests[key] = instance, (root, *others)
        instance, disks = self._guests[key]
        guest = self.class_guest(
            disk=disks[0], extra_disks=disks[1:], uuid=instance, **options
        )
        return guest, disks

    def mapping(self, image: image_api.Image) -> list[dict[str, Any]]:
        """Return the block device mapping of an image."""
        found: list[dict[str, Any]] = json.loads(
            image.properties['block_device_mapping']
        )
        return found

    def assert_nothing_made(self, *disks: volumes_lib.VolumeDisk) -> None:
        """No snapshot, no record, no journal entry."""
        self.assertEqual([], self.lab.snapshots(*disks))
        unfinished = [i for i in self.glance.list() if i.status != 'active']
        self.assertEqual([], unfinished)
        self.assert_nothing_left()
