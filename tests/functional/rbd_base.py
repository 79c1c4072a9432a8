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


"""The base of the tests of images inside Ceph.

Ceph, with logins, and Glance with its rbd store are real; see
``tests/lab/rbd_images.py``.
"""

import atexit
import os
import pathlib
import subprocess
import time
from typing import Any
from typing import ClassVar

from nova_snap.image import api as image_api
from nova_snap.image import glance as glance_image
from tests.functional import base
from tests.functional.image import base as image_base
from tests.lab import domain
from tests.lab import guest as guest_lib
from tests.lab import rbd_images
from tests.lab import root_disk
from tests.lab import volumes

#: What the command says of what it does.
SAYS = {
    'rbd_direct': 'the image is made inside Ceph',
    'pull': 'its disk is read as it is now',
    'cold': 'The guest is suspended while its disk is read',
}

#: Seconds in which Ceph has to notice that something is gone.
SETTLE_TIMEOUT = 30

#: The guest of :meth:`RbdDirectTestCase.shared_guest`.
_shared: dict[str, guest_lib.Guest] = {}


def remove(guest: guest_lib.Guest, owner: int) -> None:
    """Remove a guest, if this is the process that has made it."""
    # A forked child that ends must not end its parent's guest.
    if os.getpid() == owner:
        guest.remove()


class RbdDirectTestCase(base.SnapshotTestCase):
    """A test of images inside Ceph; nothing is left but its active images.

    :ivar proxy: stands between nova-snap and Glance.
    """

    #: The user of Glance; see :data:`.rbd_images.LOGINS`.
    LOGIN: ClassVar[str] = 'service'

    def setUp(self) -> None:
        self.lab = rbd_images.shared_lab()
        self.proxy = self.lab.proxy(self.LOGIN)
        self.proxy.start()
        self.addCleanup(self.proxy.stop)
        self.OPTIONS = {
            **self.OPTIONS,
            'snapshot': {
                'image_service': 'glance',
                'rbd_pool': rbd_images.IMAGES,
                'scratch_min_mb': '0',
                **self.OPTIONS.get('snapshot', {}),
            },
            'glance': {
                'auth_type': 'none',
                'endpoint_override': self.proxy.url,
                'num_retries': '0',
            },
        }
        super().setUp()
        self.glance = self.image_service()
        self.addCleanup(self.remove_images)
        # What a test that failed has left is not this test's.
        self._before = set(self.lab.listed(rbd_images.IMAGES))

    def image_service(self) -> glance_image.GlanceImageService:
        """Return our own adapter for the lab's Glance."""
        proxy = self.lab.proxy(self.LOGIN)
        proxy.start()
        self.addCleanup(proxy.stop)
        text = f'[glance]\nauth_type = none\nendpoint_override = {proxy.url}\n'
        return glance_image.GlanceImageService.from_conf(
            image_base.make_conf(str(self.directory()), text)
        )

    def remove_images(self) -> None:
        """Delete all images of Glance, for the next test."""
        for image in list(self.glance.list()):
            self.glance.delete(image.id)

    def rbd_image(self, name: str = '', size: str = '64M') -> pathlib.Path:
        """Make an RBD image that guests boot from; return its path."""
        ceph = self.lab.ceph
        path = pathlib.Path(rbd_images.DISKS, name or os.urandom(4).hex())
        ceph.rbd('create', '--size', size, path)
        volumes.write_file_system(
            ceph, path, self.directory(), size=64 * root_disk.MIB
        )
        return path

    def rbd_guest(
        self,
        path: pathlib.Path | None = None,
        user: str = 'nova',
        **options: Any,
    ) -> guest_lib.Guest:
        """Make a guest with its root disk on RBD."""
        path = path or self.rbd_image()
        disk = self.lab.disk(self.libvirtd, path.name, user)
        return self.make_guest(disk=disk, **options)

    def shared_guest(self) -> guest_lib.Guest:
        """Return a running guest on RBD that all test classes share.

        Between the tests that use it, it is paused.
        """
        guest = _shared.get('guest')
        if guest is None:
            disk = self.lab.disk(self.libvirtd, self.rbd_image().name)
            spec = domain.Spec(
                disk=disk, agent=True, autostart=True, vnc_password='secret'
            )
            guest = _shared['guest'] = guest_lib.Guest(self.libvirtd, spec)
            # Before Ceph and libvirtd end, which began earlier.
            atexit.register(remove, guest, os.getpid())
            guest.start()
            guest.wait_until_up()
        if guest.state() == 'paused':
            guest.resume()
        self.addCleanup(guest.suspend)
        return guest

    def take(self, guest: guest_lib.Guest, *options: str) -> image_api.Image:
        """Take an image that is active at the end; the guest ticks on."""
        found = base.Found.of(guest)
        done = self.run_command(
            *('image-create', guest.uuid, 'image', '-f', 'value', '-c', 'id'),
            *options,
        )
        self.assertEqual(['rbd_direct'], self.methods(done))
        image = self.glance.get(done.stdout.strip())
        self.assertEqual('active', image.status)
        self.assert_as_found(guest, found)
        self.assert_nothing_left_in_ceph(guest, image.id)
        return image

    def export(
        self, path: pathlib.Path | str, name: str = 'exported'
    ) -> pathlib.Path:
        """Return a file with the data of an RBD image or snapshot."""
        target = self.directory() / name
        self.lab.ceph.rbd('export', '--no-progress', path, target)
        return target

    def let_glance_read_disks(self) -> None:
        """Let Glance read the pool of the root disks, in this test."""
        ceph = self.lab.ceph

        def give(*pools: str) -> None:
            osd = ', '.join(f'profile rbd pool={pool}' for pool in pools)
            ceph.ceph(
                *('auth', 'caps', 'client.glance'),
                *('mon', 'profile rbd', 'osd', osd),
            )

        self.addCleanup(give, rbd_images.IMAGES)
        self.addCleanup(self.remove_images)
        give(rbd_images.IMAGES, rbd_images.DISKS)

    def has_parent(self, image_id: str) -> bool:
        """Return True if the RBD image of an image depends on another."""
        path, _, _snapshot = self.image_path(image_id).partition('@')
        return 'parent: ' in self.lab.ceph.rbd('info', path)

    def image_path(self, image_id: str) -> str:
        """Return what Glance reads of an image, as rbd names it."""
        (location,) = self.glance._client.images.get(image_id)['locations']
        _fsid, pool, image, snapshot = location['url'][6:].split('/')
        return f'{pool}/{image}@{snapshot}'

    def methods(self, done: subprocess.CompletedProcess[str]) -> list[str]:
        """Return the methods that a command has tried, in their order."""
        return [
            method
            for line in done.stderr.splitlines()
            for method, words in SAYS.items()
            if words in line
        ]

    def assert_nothing_left_in_ceph(
        self, guest: guest_lib.Guest, *images: str
    ) -> None:
        """Check that Ceph and Glance have these images and nothing else."""
        self.assert_nothing_left()
        self.assertEqual(
            sorted(images), sorted(i.id for i in self.glance.list())
        )
        deadline = time.monotonic() + SETTLE_TIMEOUT
        while left := self.left_in_ceph(guest, *images):
            self.assertLess(time.monotonic(), deadline, left)
            time.sleep(0.2)

    def left_in_ceph(self, guest: guest_lib.Guest, *images: str) -> list[str]:
        """Return images in Glance's pool but these, and snapshots."""
        paths = {self.image_path(image) for image in images}
        found = {
            name
            for name in self.lab.listed(rbd_images.IMAGES)
            if name not in self._before
            and f'{rbd_images.IMAGES}/{name}@snap' not in paths
        }
        snapshots = self.lab.snapshots(guest.spec.disk.path)
        return sorted(found) + ([snapshots] if snapshots else [])
